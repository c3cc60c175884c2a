#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::v2_session::run(input));
