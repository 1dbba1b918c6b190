//! The catalog: every durable fact but the chunks themselves, in one transactional database.
//!
//! [`Db`] is the seam; what stands above it (records and their statements) is written once, in the
//! shared dialect of DESIGN 2.2. One file holds the schema; statements live beside the record they serve.

pub mod accounts;
pub mod audit;
pub mod chunks;
pub mod client_tokens;
pub mod containers;
pub mod db;
mod error;
pub mod meta;
pub mod put_entries;
pub mod schema;
pub mod snapshots;
pub mod tags;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod token_keys;
pub mod usage;

pub use chunks::Location;
pub use db::{Batch, Db, DbExt, Row, Txn, Value};
pub use error::Error;
