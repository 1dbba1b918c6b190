//! The EBS edge behind a good signature: paths, queries, headers and JSON.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::ebs_request(data));
