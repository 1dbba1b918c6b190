//! What the conformance tests stand on: a server of their own, and known block contents.

mod content;
mod server;

pub use content::{BLOCK_BYTES, aggregate, checksum, letter, unique};
pub use server::Server;
