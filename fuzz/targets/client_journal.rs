//! State and digest files of the client.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::client_journal(data));
