//! A stored frame whose bytes were changed behind the store's back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::frame(data));
