// my-filter: keeps the records whose value contains a text, and masks another text in them.

#include <stdlib.h>
#include <string.h>

#include "bindings/transformer.h"

typedef exports_millstream_plugin_transform_message_t message_t;
typedef exports_millstream_plugin_transform_output_t output_t;
typedef exports_millstream_plugin_transform_rejected_record_t rejected_t;
typedef transformer_list_u8_t bytes_t;

static const char STARS[] = "***";

static bytes_t contains, mask;

static void *allocate(size_t size) {
  void *memory = malloc(size ? size : 1);
  if (!memory) abort();
  return memory;
}

// Where `wanted` begins in `bytes` at or behind `start`; the length of `bytes` if nowhere.
static size_t find(bytes_t bytes, size_t start, bytes_t wanted) {
  for (; wanted.len <= bytes.len && start <= bytes.len - wanted.len; start++)
    if (bytes.ptr[start] == wanted.ptr[0] && !memcmp(bytes.ptr + start, wanted.ptr, wanted.len)) return start;
  return bytes.len;
}

static void skip_space(const char **at, const char *end) {
  while (*at < end && strchr(" \t\r\n", **at)) ++*at;
}

static bool take(const char **at, const char *end, char wanted) {
  skip_space(at, end);
  return *at < end && **at == wanted ? ++*at, true : false;
}

// A JSON text. Of its escapes those of a single character are known.
static bool take_text(const char **at, const char *end, bytes_t *text) {
  if (!take(at, end, '"')) return false;
  *text = (bytes_t){allocate((size_t)(end - *at)), 0};
  for (; *at < end && **at != '"'; ++*at) {
    char c = **at;
    if (c == '\\') {
      if (++*at == end || !strchr("\"\\/nt", **at)) return false;
      c = **at == 'n' ? '\n' : **at == 't' ? '\t' : **at;
    }
    text->ptr[text->len++] = (uint8_t)c;
  }
  return take(at, end, '"');
}

static bool is(bytes_t text, const char *wanted) {
  return text.len == strlen(wanted) && !memcmp(text.ptr, wanted, text.len);
}

static bool read_config(const char *at, const char *end) {
  bytes_t key;
  if (!take(&at, end, '{')) return false;
  do {
    if (!take_text(&at, end, &key) || !take(&at, end, ':')) return false;
    bytes_t *value = is(key, "contains") ? &contains : is(key, "mask") ? &mask : NULL;
    if (!value || !take_text(&at, end, value) || value->len == 0) return false;
    free(key.ptr);
  } while (take(&at, end, ','));
  return take(&at, end, '}') && contains.len > 0;
}

// Gets the pipeline's `config:` as JSON. False refuses it; `err` is shown to whoever deploys the plugin.
bool exports_millstream_plugin_transform_init(transformer_string_t *config, transformer_string_t *err) {
  const char *text = (const char *)config->ptr;
  bool fits = read_config(text, text + config->len);
  if (!fits) transformer_string_dup(err, "write `contains` and, if you like, `mask`: texts that are not empty");
  transformer_string_free(config);
  return fits;
}

static bytes_t masked(bytes_t value) {
  bytes_t text = {allocate(value.len * sizeof STARS), 0};
  for (size_t start = 0; start < value.len;) {
    size_t at = mask.len ? find(value, start, mask) : value.len;
    memcpy(text.ptr + text.len, value.ptr + start, at - start);
    text.len += at - start;
    if (at == value.len) break;
    memcpy(text.ptr + text.len, STARS, strlen(STARS));
    text.len += strlen(STARS);
    start = at + mask.len;
  }
  return text;
}

// Gets one batch. A record without an output is dropped. What is returned is freed by the bindings.
bool exports_millstream_plugin_transform_transform(exports_millstream_plugin_transform_batch_info_t *batch,
                                                   exports_millstream_plugin_transform_list_message_t *messages,
                                                   exports_millstream_plugin_transform_batch_output_t *ret,
                                                   exports_millstream_plugin_transform_batch_error_t *err) {
  (void)err;
  ret->outputs.ptr = allocate(messages->len * sizeof(output_t));
  ret->outputs.len = 0;
  ret->rejected.ptr = allocate(messages->len * sizeof(rejected_t));
  ret->rejected.len = 0;
  for (uint32_t index = 0; index < messages->len; index++) {
    message_t *message = &messages->ptr[index];
    if (!message->value.is_some) {
      rejected_t *rejected = &ret->rejected.ptr[ret->rejected.len++];
      rejected->index = index;
      transformer_string_dup(&rejected->reason, "the value is null");
      continue;
    }
    bytes_t value = message->value.val;
    if (find(value, 0, contains) == value.len) continue;
    // Without a body the record goes on as it is.
    output_t *output = &ret->outputs.ptr[ret->outputs.len++];
    *output = (output_t){.index = index};
    if (mask.len && find(value, 0, mask) < value.len) {
      output->body.is_some = true;
      output->body.val.value.is_some = true;
      output->body.val.value.val = masked(value);
      // Key and headers are the output's now.
      output->body.val.key = message->key;
      output->body.val.headers = message->headers;
      message->key.is_some = false;
      message->headers.len = 0;
    }
  }
  // The bindings free no empty list.
  if (ret->outputs.len == 0) free(ret->outputs.ptr);
  if (ret->rejected.len == 0) free(ret->rejected.ptr);
  exports_millstream_plugin_transform_list_message_free(messages);
  exports_millstream_plugin_transform_batch_info_free(batch);
  return true;
}
