// Posts what it polls, a line for each record, and commits when it is taken.

import { commit, poll } from "millstream:plugin/consumer@0.2.0";
import { send } from "millstream:plugin/http@0.2.0";

const NEWLINE = 10;

let url;

function init(json) {
  ({ url } = JSON.parse(json) ?? {});
  if (typeof url !== "string") throw "`url` must be a text";
}

function runUntilStopped() {
  for (;;) {
    try {
      post();
    } catch (error) {
      const { tag, val } = error.payload ?? error;
      if (tag === "stopping") return;
      if (tag === "not-owned") continue;
      throw tag === "unavailable" ? { tag: "retry", val } : { tag: "stop", val: val ?? String(error) };
    }
  }
}

function post() {
  const messages = poll(500, 1000);
  if (messages.length === 0) return;
  const body = new Uint8Array(messages.reduce((sum, { value }) => sum + (value?.length ?? 0) + 1, 0));
  let at = 0;
  for (const { value } of messages) {
    if (value) body.set(value, at);
    at += (value?.length ?? 0) + 1;
    body[at - 1] = NEWLINE;
  }
  const headers = [{ name: "content-type", value: "text/plain" }];
  const { status } = send({ method: "POST", url, headers, body, timeoutMs: 10000 });
  if (status >= 300) throw { tag: "unavailable", val: `${url} answers ${status}` };
  commit();
}

export const run = { init, run: runUntilStopped };
