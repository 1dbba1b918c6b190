//! Requests of every shape, signed by our signer: the verifier must agree with it.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::canonical_request(data));
