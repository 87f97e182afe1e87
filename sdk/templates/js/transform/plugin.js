// my-plugin: keeps the records whose value contains a text, and masks another text in them.

import { log } from "millstream:plugin/log@0.2.0";
import { decode, encode } from "./utf8.js";

let config;

/** Gets the pipeline's `config:` as JSON. What it throws refuses it, and is shown to whoever deploys the plugin. */
function init(text) {
  const { contains, mask, ...others } = JSON.parse(text) ?? {};
  const unknown = Object.keys(others);
  if (unknown.length > 0) throw `unknown keys: ${unknown}: there are contains and mask`;
  if (typeof contains !== "string" || contains === "") throw "`contains` must be a text that is not empty";
  if (mask !== undefined && (typeof mask !== "string" || mask === "")) throw "`mask` must be a text that is not empty";
  config = { contains, mask };
  log("info", `keeps what contains ${contains}`);
}

/** Gets one batch. A record without an output is dropped. */
function transformBatch(batch, messages) {
  const outputs = [];
  const rejected = [];
  messages.forEach(({ key, value, headers }, index) => {
    if (value == null) {
      rejected.push({ index, reason: "the value is null" });
      return;
    }
    let text;
    try {
      text = decode(value);
    } catch {
      rejected.push({ index, reason: "the value is not UTF-8" });
      return;
    }
    if (!text.includes(config.contains)) return;
    if (config.mask !== undefined && text.includes(config.mask)) {
      const masked = text.replaceAll(config.mask, "***");
      outputs.push({ index, body: { key, value: encode(masked), headers } });
    } else {
      // Without a body the record goes on as it is.
      outputs.push({ index });
    }
  });
  return { outputs, rejected };
}

export const transform = { init, transform: transformBatch };
