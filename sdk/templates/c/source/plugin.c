// my-plugin: sends numbered records, one every so often, and goes on where it was.

#include <inttypes.h>
#include <stdio.h>

#include "bindings/plugin.h"
#include "json.h"

typedef exports_millstream_plugin_run_run_error_t run_error_t;

static bytes_t text;
static uint64_t every_ms, last = UINT64_MAX;

static bool read_config(json_t json) {
  bytes_t key;
  bool has_every = false;
  if (!json_take(&json, '{')) return false;
  do {
    if (!json_text(&json, &key) || !json_take(&json, ':')) return false;
    bool is_text = json_is(key, "text"), is_every = json_is(key, "every_ms"), is_last = json_is(key, "last");
    free(key.ptr);
    if (is_text && !json_text(&json, &text)) return false;
    if (is_every && !json_number(&json, &every_ms)) return false;
    if (is_last && !json_number(&json, &last)) return false;
    if (!is_text && !is_every && !is_last) return false;
    has_every = has_every || is_every;
  } while (json_take(&json, ','));
  return json_take(&json, '}') && text.ptr && has_every;
}

// Gets the pipeline's `config:` as JSON. False refuses it; `err` is shown to whoever deploys the plugin.
bool exports_millstream_plugin_run_init(plugin_string_t *config, plugin_string_t *err) {
  const char *json = (const char *)config->ptr;
  bool fits = read_config((json_t){json, json + config->len});
  if (!fits) plugin_string_dup(err, "write `text`, `every_ms` and, if you like, `last`: a text and two numbers");
  plugin_string_free(config);
  return fits;
}

// Each of these hands the error's text over to `err`, so it is not freed.

static bool retry_later(run_error_t *err, plugin_string_t reason) {
  err->tag = EXPORTS_MILLSTREAM_PLUGIN_RUN_RUN_ERROR_RETRY;
  err->val.retry = reason;
  return false;
}

static bool stop_for_good(run_error_t *err, plugin_string_t reason) {
  err->tag = EXPORTS_MILLSTREAM_PLUGIN_RUN_RUN_ERROR_STOP;
  err->val.stop = reason;
  return false;
}

// Sends one record, and says in the same commit that it is the last one. False, unless `run` goes on.
static bool tick(uint64_t number, bool *is_done, run_error_t *err) {
  char digits[24];
  int count = snprintf(digits, sizeof digits, "%" PRIu64, number);
  bytes_t value = {allocate(text.len + 1 + (size_t)count), 0};
  memcpy(value.ptr, text.ptr, text.len);
  value.ptr[text.len] = ' ';
  memcpy(value.ptr + text.len + 1, digits, (size_t)count);
  value.len = text.len + 1 + (size_t)count;
  millstream_plugin_producer_message_t message = {
      .value = {.is_some = true, .val = {value.ptr, value.len}},
  };
  millstream_plugin_producer_list_message_t messages = {&message, 1};
  millstream_plugin_producer_error_t refused;
  bool is_sent = millstream_plugin_producer_send(&messages, &refused);
  free(value.ptr);
  *is_done = !is_sent && refused.tag == MILLSTREAM_PLUGIN_PRODUCER_ERROR_STOPPING;
  if (*is_done) return false;
  if (!is_sent && refused.tag == MILLSTREAM_PLUGIN_PRODUCER_ERROR_UNAVAILABLE) return retry_later(err, refused.val.unavailable);
  if (!is_sent) return stop_for_good(err, refused.val.invalid);

  plugin_list_u8_t position = {(uint8_t *)digits, (size_t)count};
  millstream_plugin_positions_error_t unsaved;
  if (!millstream_plugin_positions_save(&position, &unsaved)) {
    *is_done = unsaved.tag == MILLSTREAM_PLUGIN_POSITIONS_ERROR_STOPPING;
    return *is_done ? false : retry_later(err, unsaved.val.unavailable);
  }
  millstream_plugin_timers_error_t woken;
  *is_done = !millstream_plugin_timers_sleep(every_ms, &woken);
  return !*is_done;
}

// True means that the work is done; when the plugin is told to stop, that it has stopped.
bool exports_millstream_plugin_run_run(run_error_t *err) {
  plugin_option_list_u8_t position;
  millstream_plugin_positions_error_t unknown;
  if (!millstream_plugin_positions_load(&position, &unknown)) {
    if (unknown.tag == MILLSTREAM_PLUGIN_POSITIONS_ERROR_STOPPING) return true;
    return retry_later(err, unknown.val.unavailable);
  }
  uint64_t number = 0;
  if (position.is_some) {
    const char *digits = (const char *)position.val.ptr;
    json_t json = {digits, digits + position.val.len};
    if (!json_number(&json, &number)) {
      plugin_string_t reason;
      plugin_string_dup(&reason, "the saved position is no number");
      return stop_for_good(err, reason);
    }
    plugin_option_list_u8_free(&position);
  }
  bool is_done = false;
  while (number < last)
    if (!tick(++number, &is_done, err)) return is_done;
  return true;
}
