// my-plugin: keeps the records whose value contains a text, and masks another text in them.

#include <stdlib.h>
#include <string.h>

#include "bindings/transformer.h"
#include "json.h"

typedef exports_millstream_plugin_transform_message_t message_t;
typedef exports_millstream_plugin_transform_output_t output_t;
typedef exports_millstream_plugin_transform_rejected_record_t rejected_t;

static const char STARS[] = "***";

static bytes_t contains, mask;

// Where `wanted` begins in `bytes` at or behind `start`; the length of `bytes` if nowhere.
static size_t find(bytes_t bytes, size_t start, bytes_t wanted) {
  for (; wanted.len <= bytes.len && start <= bytes.len - wanted.len; start++)
    if (bytes.ptr[start] == wanted.ptr[0] && !memcmp(bytes.ptr + start, wanted.ptr, wanted.len)) return start;
  return bytes.len;
}

static bool read_config(json_t json) {
  bytes_t key;
  if (!json_take(&json, '{')) return false;
  do {
    if (!json_text(&json, &key) || !json_take(&json, ':')) return false;
    bytes_t *value = json_is(key, "contains") ? &contains : json_is(key, "mask") ? &mask : NULL;
    if (!value || !json_text(&json, value) || value->len == 0) return false;
    free(key.ptr);
  } while (json_take(&json, ','));
  return json_take(&json, '}') && contains.len > 0;
}

// Gets the pipeline's `config:` as JSON. False refuses it; `err` is shown to whoever deploys the plugin.
bool exports_millstream_plugin_transform_init(transformer_string_t *config, transformer_string_t *err) {
  const char *text = (const char *)config->ptr;
  bool fits = read_config((json_t){text, text + config->len});
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
    bytes_t value = {message->value.val.ptr, message->value.val.len};
    if (find(value, 0, contains) == value.len) continue;
    // Without a body the record goes on as it is.
    output_t *output = &ret->outputs.ptr[ret->outputs.len++];
    *output = (output_t){.index = index};
    if (mask.len && find(value, 0, mask) < value.len) {
      output->body.is_some = true;
      output->body.val.value.is_some = true;
      bytes_t text = masked(value);
      output->body.val.value.val.ptr = text.ptr;
      output->body.val.value.val.len = text.len;
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
