#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::template_reply::run(input));
