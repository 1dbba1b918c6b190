//! The client's commands, through the built binary against a real server: what stands on standard output, exit codes, signals,
//! memory.

pub mod answers;
mod errors;
mod memory;
mod session;
mod signals;
