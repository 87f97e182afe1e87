// my-plugin: sends numbered records, one every so often, and goes on where it was.

import { load, save } from "millstream:plugin/positions@0.2.0";
import { send } from "millstream:plugin/producer@0.2.0";
import { sleep } from "millstream:plugin/timers@0.2.0";
import { decode, encode } from "./utf8.js";

let config;

/** Gets the pipeline's `config:` as JSON. What it throws refuses it, and is shown to whoever deploys the plugin. */
function init(json) {
  const { text, every_ms, last, ...others } = JSON.parse(json) ?? {};
  const unknown = Object.keys(others);
  if (unknown.length > 0) throw `unknown keys: ${unknown}: there are text, every_ms and last`;
  if (typeof text !== "string") throw "`text` must be a text";
  if (!Number.isSafeInteger(every_ms) || every_ms < 0) throw "`every_ms` must be a number, 0 or more";
  if (last !== undefined && (!Number.isSafeInteger(last) || last < 0)) throw "`last` must be a number, 0 or more";
  config = { text, every_ms, last };
}

/** To return means that the work is done; when the plugin is told to stop, that it has stopped. */
function runUntilDone() {
  try {
    tick();
  } catch (error) {
    // What a call of the host has answered.
    const { tag, val } = error.payload ?? error;
    if (tag === "stopping") return;
    throw tag === "unavailable" ? { tag: "retry", val } : { tag: "stop", val: val ?? String(error) };
  }
}

function tick() {
  const position = load();
  let number = position == null ? 0 : Number(decode(position));
  while (config.last === undefined || number < config.last) {
    number += 1;
    send([{ value: encode(`${config.text} ${number}`), headers: [] }]);
    // In one commit with the record.
    save(encode(String(number)));
    sleep(config.every_ms);
  }
}

export const run = { init, run: runUntilDone };
