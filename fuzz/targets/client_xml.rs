//! XML that a server answers.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::client_xml(data));
