// my-plugin: polls records, writes a summary of each poll, and commits.

import { commit, poll } from "millstream:plugin/consumer@0.2.0";
import { counter } from "millstream:plugin/metrics@0.2.0";
import { send } from "millstream:plugin/producer@0.2.0";
import { encode } from "./utf8.js";

const POLL_MS = 1000;

let atMost;

/** Gets the pipeline's `config:` as JSON. What it throws refuses it, and is shown to whoever deploys the plugin. */
function init(json) {
  const { at_most, ...others } = JSON.parse(json) ?? {};
  const unknown = Object.keys(others);
  if (unknown.length > 0) throw `unknown keys: ${unknown}: there is at_most`;
  if (!Number.isSafeInteger(at_most) || at_most < 1) throw "`at_most` must be a number, 1 or more";
  atMost = at_most;
}

/** Goes on until the plugin is told to stop. */
function runUntilStopped() {
  for (;;) {
    try {
      sumUp();
    } catch (error) {
      // What a call of the host has answered.
      const { tag, val } = error.payload ?? error;
      if (tag === "stopping") return;
      // The group has given the partitions to another member, which gets these records again.
      if (tag === "not-owned") continue;
      throw tag === "unavailable" ? { tag: "retry", val } : { tag: "stop", val: val ?? String(error) };
    }
  }
}

function sumUp() {
  const messages = poll(atMost, POLL_MS);
  if (messages.length === 0) return;
  const lengths = messages.map(({ value }) => value?.length ?? 0);
  counter("records", messages.length);
  const bytes = lengths.reduce((sum, length) => sum + length, 0);
  const summary = { records: messages.length, bytes, longest: Math.max(...lengths) };
  send([{ value: encode(JSON.stringify(summary)), headers: [] }]);
  // Writes the summary, and then the offsets of what was polled.
  commit();
}

export const run = { init, run: runUntilStopped };
