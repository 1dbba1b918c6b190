//! The files of the AWS tools.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::client_config(data));
