//! The Authorization header, and all that stands with it, as a stranger may send it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::authorization(data));
