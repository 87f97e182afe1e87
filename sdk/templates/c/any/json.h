// Reads a configuration: an object of texts and numbers, in JSON.

#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  uint8_t *ptr;
  size_t len;
} bytes_t;

typedef struct {
  const char *at, *end;
} json_t;

static void *allocate(size_t size) {
  void *memory = malloc(size ? size : 1);
  if (!memory) abort();
  return memory;
}

// Whether that is what comes next, behind space; if so, it goes on behind it.
static bool json_take(json_t *json, char wanted) {
  while (json->at < json->end && strchr(" \t\r\n", *json->at)) json->at++;
  return json->at < json->end && *json->at == wanted ? json->at++, true : false;
}

// A text. Of its escapes those of a single character are known.
static bool json_text(json_t *json, bytes_t *text) {
  if (!json_take(json, '"')) return false;
  *text = (bytes_t){allocate((size_t)(json->end - json->at)), 0};
  for (; json->at < json->end && *json->at != '"'; json->at++) {
    char c = *json->at;
    if (c == '\\') {
      if (++json->at == json->end || !strchr("\"\\/nt", *json->at)) return false;
      c = *json->at == 'n' ? '\n' : *json->at == 't' ? '\t' : *json->at;
    }
    text->ptr[text->len++] = (uint8_t)c;
  }
  return json_take(json, '"');
}

// A number, whole and not negative.
static inline bool json_number(json_t *json, uint64_t *number) {
  while (json->at < json->end && strchr(" \t\r\n", *json->at)) json->at++;
  const char *start = json->at;
  for (*number = 0; json->at < json->end && *json->at >= '0' && *json->at <= '9'; json->at++) {
    if (*number > (UINT64_MAX - 9) / 10) return false;
    *number = *number * 10 + (uint64_t)(*json->at - '0');
  }
  return json->at > start && (json->at == json->end || !strchr(".eE", *json->at));
}

static bool json_is(bytes_t text, const char *wanted) {
  return text.len == strlen(wanted) && !memcmp(text.ptr, wanted, text.len);
}
