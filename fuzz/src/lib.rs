//! The harnesses: each takes arbitrary bytes, makes the input of one parser of them, and asserts what must hold.
//!
//! The same functions run under libFuzzer (`targets/`, by cargo-fuzz) and under proptest (`tests/harnesses.rs`, on the
//! stable toolchain). Everything is behind the public interfaces of the crates: what a client or a disk can reach.

mod answers;
mod client;
mod edges;
mod input;
mod signatures;
mod stores;

pub use answers::{client_listings, client_xml};
pub use client::{client_config, client_journal};
pub use edges::{ebs_request, query_body, tokens};
pub use signatures::{authorization, canonical_request};
pub use stores::{frame, page, segment_headers};
