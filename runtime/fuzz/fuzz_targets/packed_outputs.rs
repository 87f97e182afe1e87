//! What a plugin returns: see `outputs::fuzz`, which a property test runs too.
#![no_main]

use millstream_runtime::outputs::fuzz::check_packed;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [record_count, packed @ ..] = input {
        check_packed(packed, usize::from(*record_count));
    }
});
