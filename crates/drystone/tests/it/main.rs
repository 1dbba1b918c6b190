//! The built binary, from the outside: starting, stopping, refusing, the admin socket and what is no HTTP, overload.
//!
//! What the operations of the API answer is tested beside them, in their crates; real AWS clients are in tests/clients.

mod admin;
mod client;
mod collection;
mod copy_catalog;
mod damage;
mod first_start;
mod http;
mod load;
mod refusals;
mod rescue;
mod server;
mod signed;
mod snapshots;
mod stop;
mod usage;
