#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::v1_decode::run(input));
