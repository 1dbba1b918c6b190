//! Block tokens and page tokens, forged and changed.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::tokens(data));
