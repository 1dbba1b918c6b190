//! The start of a store on segment files that hold anything.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drystone_fuzz::segment_headers(data));
