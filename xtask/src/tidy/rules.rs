//! Rules about one file: its name, its header, its words.

use std::path::Path;

use super::Finding;
use super::rust_source::Source;

/// Names of drawers without a label.
const DRAWERS: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];

/// Words that the glossary has replaced, as they would appear in a snake-case name.
const REPLACED: [(&str, &str); 10] = [
    ("blob", "chunk"),
    ("lba", "block index"),
    ("tombstone", "condemned"),
    ("prune", "garbage collection"),
    ("vacuum", "garbage collection"),
    ("fsck", "audit"),
    ("tenant", "domain"),
    ("metastore", "catalog"),
    ("refcount", "epoch stamp"),
    ("ancestor", "parent or lineage"),
];

/// Last words of type names that say nothing.
const EMPTY_SUFFIXES: [&str; 5] = ["Manager", "Helper", "Util", "Info", "Impl"];

/// Folders of one machine.
const MACHINE_FOLDERS: [&str; 4] = ["/work/", "/root/", "/home/", "/Users/"];

/// Package registries: packages are asked for by name alone.
const REGISTRIES: [&str; 5] = [
    "registry.npmjs.org",
    "pypi.org",
    "pythonhosted.org",
    "static.crates.io",
    "index.crates.io",
];

/// This file must name what it forbids.
const EXEMPT: &str = "xtask/src/tidy/rules.rs";

/// No file is called `utils`.
pub fn file_name(path: &Path) -> Option<Finding> {
    let stem = path.file_stem()?.to_str()?;
    let code = ["rs", "py", "js", "mjs", "sh"];
    let is_code = path
        .extension()
        .is_some_and(|e| code.iter().any(|code| e == *code));
    (is_code && DRAWERS.contains(&stem)).then(|| {
        Finding::new(
            path.display().to_string(),
            "name the file after what it holds",
        )
    })
}

/// Every Rust file says what it is for before anything else.
pub fn header(path: &Path, text: &str) -> Option<Finding> {
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!"))?;
    let words = first
        .strip_prefix("//!")
        .map_or(0, |header| header.split_whitespace().count());
    (words < 3).then(|| {
        Finding::new(
            path.display().to_string(),
            "opens without a `//!` header that says its purpose",
        )
    })
}

/// Definitions use the words of the glossary.
pub fn vocabulary(path: &Path, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for definition in source.definitions() {
        let place = || format!("{}:{}", path.display(), definition.line);
        for word in words_of(&definition.name) {
            if let Some((wrong, right)) = REPLACED.iter().find(|(wrong, _)| *wrong == word) {
                let what = format!("`{}`: not {wrong} but {right}", definition.name);
                findings.push(Finding::new(place(), what));
            }
        }
        let is_type = definition.name.starts_with(|c: char| c.is_uppercase());
        let suffix = EMPTY_SUFFIXES
            .iter()
            .find(|suffix| definition.name.ends_with(*suffix));
        if let (true, Some(suffix)) = (is_type, suffix) {
            let what = format!("`{}`: {suffix} says nothing about a type", definition.name);
            findings.push(Finding::new(place(), what));
        }
    }
    findings
}

/// Nothing speaks of one machine, one registry or one issue.
pub fn foreign_words(path: &Path, text: &str) -> Vec<Finding> {
    if path == Path::new(EXEMPT) || path.file_name().is_some_and(|name| name == "Cargo.lock") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut wrong = |what: String| {
            findings.push(Finding::new(
                format!("{}:{}", path.display(), number + 1),
                what,
            ));
        };
        for folder in MACHINE_FOLDERS {
            if at_path_start(line, folder) {
                wrong(format!("{folder} is a folder of one machine"));
            }
        }
        for registry in REGISTRIES {
            if line.contains(registry) {
                wrong(format!("names the registry host {registry}"));
            }
        }
        if let Some(issue) = issue_number(line) {
            wrong(format!("names the issue {issue}; say the reason instead"));
        }
    }
    findings
}

/// The words of a snake-case or camel-case name, in lower case.
fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous_lower = false;
    for c in name.chars() {
        if c == '_' || (c.is_uppercase() && previous_lower) || words.is_empty() {
            words.push(String::new());
        }
        previous_lower = c.is_lowercase() || c.is_ascii_digit();
        if let (true, Some(word)) = (c != '_', words.last_mut()) {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// Whether an absolute path begins with `folder`: not in the middle of a longer path or address.
fn at_path_start(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-/$}~:".contains(c))
    })
}

/// `#12` or `issue 12` as a word of its own.
fn issue_number(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    for (i, word) in words.iter().enumerate() {
        let word = word.trim_matches(|c: char| "()[].,;:!?\"'".contains(c));
        let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        if word.strip_prefix('#').is_some_and(digits) {
            return Some(word.to_owned());
        }
        let next = words
            .get(i + 1)
            .map_or("", |next| next.trim_end_matches(['.', ',', ')']));
        if word.eq_ignore_ascii_case("issue") && digits(next.trim_start_matches('#')) {
            return Some(format!("{word} {next}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawers_are_refused() {
        assert!(file_name(Path::new("crates/engine/src/utils.rs")).is_some());
        assert!(file_name(Path::new("tests/clients/helpers.py")).is_some());
        assert!(file_name(Path::new("crates/engine/src/put_block.rs")).is_none());
        assert!(file_name(Path::new("docs/common.md")).is_none());
    }

    #[test]
    fn headers_are_demanded() {
        let check = |text| header(Path::new("a.rs"), text).is_none();
        assert!(check("//! Puts a block into a snapshot.\nfn f() {}"));
        assert!(!check("use std::fs;\n//! Puts a block.\n"));
        assert!(!check("//!\n//! Puts a block.\n"));
        assert!(!check("// Puts a block into a snapshot.\n"));
        assert!(check(""));
    }

    #[test]
    fn replaced_words_are_refused_in_definitions_only() {
        let check = |text: &str| vocabulary(Path::new("a.rs"), &Source::read(text)).len();
        assert_eq!(check("fn read_blob() {}"), 1);
        assert_eq!(check("struct BlobReader;"), 1);
        assert_eq!(check("struct ChunkManager;"), 1);
        assert_eq!(check("const PRUNE_AFTER: u8 = 1;"), 1);
        assert_eq!(check("fn f() { row.get_blob(\"blob\") } // blob"), 0);
        assert_eq!(check("fn improblob() {}"), 0);
        assert_eq!(check("fn information() {} struct Information;"), 0);
    }

    #[test]
    fn names_are_cut_into_words() {
        assert_eq!(words_of("putSnapshotBlock"), ["put", "snapshot", "block"]);
        assert_eq!(words_of("MAX_LBA"), ["max", "lba"]);
        assert_eq!(words_of("_x1y"), ["x1y"]);
    }

    #[test]
    fn machines_registries_and_issues_are_refused() {
        let check = |line: &str| foreign_words(Path::new("a.md"), line).len();
        assert_eq!(check("see /root/x and `/home/me`"), 2);
        assert_eq!(
            check("GET /snapshots/work/blocks, $DIR/root/key, tests/work/x"),
            0
        );
        assert_eq!(
            check("\"resolved\": \"https://registry.npmjs.org/tslib\""),
            1
        );
        assert_eq!(check("as told in #12, and in issue 7."), 1);
        assert_eq!(check("(#12)"), 1);
        assert_eq!(
            check("&#10; # 12 things, [x](#12-things), #[test], issue of 12"),
            0
        );
    }
}
