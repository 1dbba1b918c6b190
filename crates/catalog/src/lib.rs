//! The catalog: every durable fact but the chunks themselves, in one transactional database.
//!
//! [`Db`] is the seam; what stands above it (records and their statements) is written once, in the
//! shared dialect of DESIGN 2.2. One file holds the schema; statements live beside the record they serve.

pub mod db;
mod error;

pub use db::{Db, DbExt, Row, Txn, Value};
pub use error::Error;
