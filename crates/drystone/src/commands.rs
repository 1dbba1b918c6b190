//! The commands of the program, one file each; `serve` alone is the composition root and lives in `serve.rs`.

pub mod bench;
pub mod key;
