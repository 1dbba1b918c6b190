//! `cargo xtask tidy`: the house rules that no compiler knows (STYLE 15).
//!
//! Rules that fail the build
//! - every Rust file opens with a `//!` header;
//! - no file is a drawer without a label (`utils`, `common`, `helpers`, …);
//! - no definition uses a word that the glossary has replaced;
//! - every path named in ARCHITECTURE.md exists;
//! - a format diagram in `docs/formats.md` is the one in the header that it names;
//! - nothing in the repository speaks of one machine, one registry or one issue.
//!
//! Long files and long functions are reported, never refused.

mod documents;
mod rules;
mod rust_source;

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::workspace;

/// A file longer than this is worth a second look.
const LONG_FILE_LINES: usize = 500;
/// A function longer than this does not fit on a screen.
const LONG_FUNCTION_LINES: usize = 90;

/// A broken rule, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    place: String,
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Finding {
            place: place.into(),
            what: what.into(),
        }
    }
}

/// Checks every file of the repository; prints what is long; fails on what is wrong.
pub fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`tidy` takes no arguments");
    }
    let root = workspace::root()?;
    let mut findings = Vec::new();
    let mut long = Vec::new();
    let mut count = 0;
    for path in workspace::files_below(&root, "")? {
        // Files that are not text have no words to check.
        let Ok(text) = fs::read_to_string(root.join(&path)) else {
            continue;
        };
        count += 1;
        check_file(&path, &text, &mut findings, &mut long);
    }
    findings.extend(documents::check(&root)?);

    println!("\ntidy: {count} files");
    for finding in &long {
        println!("  long: {}: {}", finding.place, finding.what);
    }
    for finding in &findings {
        println!("  wrong: {}: {}", finding.place, finding.what);
    }
    if !findings.is_empty() {
        bail!("tidy found {} broken rules", findings.len());
    }
    Ok(())
}

fn check_file(path: &Path, text: &str, findings: &mut Vec<Finding>, long: &mut Vec<Finding>) {
    findings.extend(rules::file_name(path));
    findings.extend(rules::foreign_words(path, text));
    if path.extension().is_some_and(|extension| extension == "rs") {
        let source = rust_source::Source::read(text);
        findings.extend(rules::header(path, text));
        findings.extend(rules::vocabulary(path, &source));
        long.extend(long_parts(path, text, &source));
    }
}

fn long_parts(path: &Path, text: &str, source: &rust_source::Source) -> Vec<Finding> {
    let mut long = Vec::new();
    let lines = text.lines().count();
    if lines > LONG_FILE_LINES {
        long.push(Finding::new(
            path.display().to_string(),
            format!("{lines} lines"),
        ));
    }
    for function in source.functions() {
        if function.lines > LONG_FUNCTION_LINES {
            let place = format!("{}:{}", path.display(), function.line);
            long.push(Finding::new(
                place,
                format!("fn {}: {} lines", function.name, function.lines),
            ));
        }
    }
    long
}
