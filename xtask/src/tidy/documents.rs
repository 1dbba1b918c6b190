//! Rules about documents: the paths they name exist, the diagrams they show are the ones in the code.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Finding;

/// The map of the repository.
const MAP: &str = "ARCHITECTURE.md";
/// The page that repeats format diagrams from file headers.
const FORMATS: &str = "docs/formats.md";
/// In `FORMATS`, the line before a fenced block that must equal a part of the named file's header.
const DIAGRAM_MARK: &str = "<!-- diagram: ";

/// Checks the documents that exist; a repository without them has nothing to check.
pub fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if let Ok(text) = fs::read_to_string(root.join(MAP)) {
        for (line, path) in named_paths(&text) {
            if !exists(root, &path) {
                findings.push(Finding::new(
                    format!("{MAP}:{line}"),
                    format!("no file `{path}`"),
                ));
            }
        }
    }
    if let Ok(text) = fs::read_to_string(root.join(FORMATS)) {
        for diagram in diagrams(&text) {
            let source = fs::read_to_string(root.join(&diagram.source)).unwrap_or_default();
            if !header_text(&source).contains(&diagram.body) {
                let what = format!(
                    "the diagram differs from the header of `{}`",
                    diagram.source
                );
                findings.push(Finding::new(format!("{FORMATS}:{}", diagram.line), what));
            }
        }
    }
    Ok(findings)
}

/// A path may be given from the root or from `crates/`, as the crates are spoken of by name.
fn exists(root: &Path, path: &str) -> bool {
    root.join(path).exists() || root.join("crates").join(path).exists()
}

/// The paths among the words in backticks, with their 1-based line; `{a,b}` names both.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (i, code) in line.split('`').enumerate() {
            if i % 2 == 0 || !looks_like_path(code) {
                continue;
            }
            found.extend(
                alternatives(code)
                    .into_iter()
                    .map(|path| (number + 1, path)),
            );
        }
    }
    found
}

/// A relative path of plain words: in a folder of ours, or ending like a source file.
fn looks_like_path(code: &str) -> bool {
    let folders = [
        "crates/", "docs/", "xtask/", "tests/", "fuzz/", "benches/", ".config/", ".ci/", "sim/",
    ];
    let plain = code
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-/{,}".contains(c));
    let file = [".rs", ".md", ".toml"]
        .iter()
        .any(|end| code.ends_with(end));
    let ours = folders.iter().any(|folder| code.starts_with(folder));
    plain && !code.starts_with('/') && (ours || (file && code.contains('/')))
}

/// `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn alternatives(code: &str) -> Vec<String> {
    let parts = code
        .split_once('{')
        .and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    match parts {
        Some((head, (middle, tail))) => middle
            .split(',')
            .flat_map(|word| alternatives(&format!("{head}{word}{tail}")))
            .collect(),
        None => vec![code.to_owned()],
    }
}

struct Diagram {
    line: usize,
    source: String,
    body: String,
}

/// The marked fenced blocks of a document.
fn diagrams(text: &str) -> Vec<Diagram> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(source) = line.strip_prefix(DIAGRAM_MARK) else {
            continue;
        };
        let source = source.trim_end_matches("-->").trim().to_owned();
        let fenced = lines[i + 1..]
            .iter()
            .skip_while(|line| !line.starts_with("```"))
            .skip(1);
        let body: Vec<&str> = fenced
            .take_while(|line| !line.starts_with("```"))
            .copied()
            .collect();
        found.push(Diagram {
            line: i + 1,
            source,
            body: body.join("\n"),
        });
    }
    found
}

/// The text of a file's `//!` header.
fn header_text(source: &str) -> String {
    let lines = source.lines().filter_map(|line| line.strip_prefix("//!"));
    lines
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_other_code() {
        let text = "`crates/types` and `engine/src/put_block.rs`\n`application/json` `PUT /x` \
                    `README.md` `/healthz` `DIR/credentials` `docs/<page>.md`";
        let found = named_paths(text);
        assert_eq!(
            found,
            [
                (1, "crates/types".into()),
                (1, "engine/src/put_block.rs".into())
            ]
        );
        let braces = named_paths("`chunkstore/src/local/{segment,writer}.rs`");
        assert_eq!(braces[1].1, "chunkstore/src/local/writer.rs");
    }

    #[test]
    fn missing_paths_are_found() {
        let folder = std::env::temp_dir().join(format!("xtask-tidy-{}", std::process::id()));
        fs::create_dir_all(folder.join("crates/types/src")).unwrap();
        fs::write(
            folder.join(MAP),
            "`types/src` `crates/types`\n`crates/nothing/src/lib.rs`",
        )
        .unwrap();
        let findings = check(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let expected = Finding::new("ARCHITECTURE.md:2", "no file `crates/nothing/src/lib.rs`");
        assert_eq!(findings.unwrap(), [expected]);
    }

    #[test]
    fn diagrams_must_equal_the_header() {
        let text = "<!-- diagram: a.rs -->\n\n```text\n 0  magic\n 8  length\n```\n";
        let found = diagrams(text);
        assert_eq!((found[0].line, found[0].source.as_str()), (1, "a.rs"));
        let header =
            "//! A frame.\n//!\n//! ```text\n//!  0  magic\n//!  8  length\n//! ```\nfn f() {}";
        assert!(header_text(header).contains(&found[0].body));
        assert!(!header_text("//!  0  magic\n//!  9  length").contains(&found[0].body));
    }
}
