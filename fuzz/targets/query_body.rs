//! The EC2 and STS edge behind a good signature: form bodies and queries.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::query_body(data));
