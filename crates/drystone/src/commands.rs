//! The commands of the program, one file each; `serve` alone is the composition root and lives in `serve.rs`.

pub mod advice;
mod answers;
pub mod audit;
pub mod bench;
pub mod copy;
pub mod copy_catalog;
pub mod demo;
pub mod diff;
pub mod download;
mod figures;
pub mod gc;
mod interrupt;
pub mod key;
pub mod ls;
pub mod progress;
mod remote;
pub mod rescue;
pub mod rm;
pub mod scrub;
pub mod show;
mod state;
pub mod tag;
pub mod upload;
pub mod usage;
pub mod verify;
pub mod wait;

use anyhow::Context;
use serde::Serialize;
use std::fmt;
use std::io::{Write, stdout};

/// The command did what it was asked, and found that data is lost or in danger.
#[derive(Debug)]
pub struct DataInDanger(String);

impl fmt::Display for DataInDanger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for DataInDanger {}

/// The command did what it was asked, and found that two things differ.
#[derive(Debug)]
pub struct Differences(String);

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Differences {}

/// The arguments do not fit together, in a way that the parser of the command line does not see.
#[derive(Debug)]
pub struct WrongArguments(String);

impl fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for WrongArguments {}

/// Someone ended the command.
#[derive(Debug)]
pub struct Interrupted;

impl Interrupted {
    /// What shells expect of a process that SIGINT ended.
    pub const CODE: u8 = 130;
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Prints what a command answers.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("the answer cannot be printed")
}

/// Prints what a command answers to programs.
fn print_json(answer: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(answer)? + "\n"))
}

/// A server that answers with something else is not this version's.
fn not_an_answer() -> anyhow::Error {
    anyhow::anyhow!("the server answered another question; is it another version?")
}
