//! A source that makes the calls which its configuration lists: README.md of the kit describes them. It imports `http`.

#![cfg(target_family = "wasm")]

conformance_calls::plugin!(
    conformance_calls::host,
    conformance_calls::timers,
    conformance_calls::producer,
    conformance_calls::http
);
