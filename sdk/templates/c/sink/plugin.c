// my-plugin: polls records, writes a summary of each poll, and commits.

#include <stdio.h>

#include "bindings/plugin.h"
#include "json.h"

#define POLL_MS 1000

typedef exports_millstream_plugin_run_run_error_t run_error_t;

static uint64_t at_most;

static bool read_config(json_t json) {
  bytes_t key;
  if (!json_take(&json, '{')) return false;
  do {
    if (!json_text(&json, &key) || !json_take(&json, ':')) return false;
    bool is_known = json_is(key, "at_most");
    free(key.ptr);
    if (!is_known || !json_number(&json, &at_most)) return false;
  } while (json_take(&json, ','));
  return json_take(&json, '}') && at_most > 0 && at_most <= UINT32_MAX;
}

// Gets the pipeline's `config:` as JSON. False refuses it; `err` is shown to whoever deploys the plugin.
bool exports_millstream_plugin_run_init(plugin_string_t *config, plugin_string_t *err) {
  const char *json = (const char *)config->ptr;
  bool fits = read_config((json_t){json, json + config->len});
  if (!fits) plugin_string_dup(err, "write `at_most`: a number, 1 or more");
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

static bool send(const char *summary, size_t length, millstream_plugin_producer_error_t *refused) {
  millstream_plugin_producer_message_t message = {
      .value = {.is_some = true, .val = {(uint8_t *)summary, length}},
  };
  millstream_plugin_producer_list_message_t messages = {&message, 1};
  return millstream_plugin_producer_send(&messages, refused);
}

// True means that the plugin was told to stop, and has stopped.
bool exports_millstream_plugin_run_run(run_error_t *err) {
  for (;;) {
    millstream_plugin_consumer_list_message_t messages;
    millstream_plugin_consumer_error_t failed;
    if (!millstream_plugin_consumer_poll((uint32_t)at_most, POLL_MS, &messages, &failed)) {
      if (failed.tag == MILLSTREAM_PLUGIN_CONSUMER_ERROR_STOPPING) return true;
      return retry_later(err, failed.val.unavailable);
    }
    size_t records = messages.len, bytes = 0, longest = 0;
    for (size_t i = 0; i < records; i++) {
      size_t length = messages.ptr[i].value.is_some ? messages.ptr[i].value.val.len : 0;
      bytes += length;
      if (length > longest) longest = length;
    }
    millstream_plugin_consumer_list_message_free(&messages);
    if (records == 0) continue;

    plugin_string_t name;
    plugin_string_set(&name, "records");
    millstream_plugin_metrics_error_t uncounted;
    if (!millstream_plugin_metrics_counter(&name, records, &uncounted)) return stop_for_good(err, uncounted.val.invalid);

    char summary[128];
    int length = snprintf(summary, sizeof summary, "{\"records\": %zu, \"bytes\": %zu, \"longest\": %zu}", records, bytes, longest);
    millstream_plugin_producer_error_t refused;
    if (!send(summary, (size_t)length, &refused)) {
      if (refused.tag == MILLSTREAM_PLUGIN_PRODUCER_ERROR_STOPPING) return true;
      if (refused.tag == MILLSTREAM_PLUGIN_PRODUCER_ERROR_UNAVAILABLE) return retry_later(err, refused.val.unavailable);
      return stop_for_good(err, refused.val.invalid);
    }
    // Writes the summary, and then the offsets of what was polled.
    if (!millstream_plugin_consumer_commit(&failed)) {
      if (failed.tag == MILLSTREAM_PLUGIN_CONSUMER_ERROR_STOPPING) return true;
      // The group has given the partitions to another member, which gets these records again.
      if (failed.tag != MILLSTREAM_PLUGIN_CONSUMER_ERROR_NOT_OWNED) return retry_later(err, failed.val.unavailable);
      millstream_plugin_consumer_error_free(&failed);
    }
  }
}
