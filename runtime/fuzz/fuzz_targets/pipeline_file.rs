//! A pipeline file: any text is a pipeline or a list of problems.
#![no_main]

use millstream_runtime::pipeline::parse;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Err(problems) = parse("fuzz.yaml", text) {
        assert!(!problems.is_empty());
    }
});
