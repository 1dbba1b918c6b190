//! Cuts the power under the server's disk.
fn main() {}
