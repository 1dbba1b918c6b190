//! Just enough of Rust's syntax to tell code from comments and strings, and to find definitions.
//!
//! The result has the same lines and columns as the source, with the inside of comments, strings and
//! character literals blanked, so that a word in a message is never taken for a name.

/// Keywords after which a name of our own choosing stands.
const DEFINING: [&str; 9] = [
    "fn", "struct", "enum", "trait", "mod", "const", "static", "type", "let",
];

/// A source file with comments and literals blanked.
pub struct Source {
    code: String,
}

/// A name that a file defines.
#[derive(Debug, PartialEq, Eq)]
pub struct Definition {
    /// 1-based line.
    pub line: usize,
    /// The identifier.
    pub name: String,
}

/// A function with its length.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// 1-based line of the signature.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Lines from the signature to the closing brace.
    pub lines: usize,
}

impl Source {
    /// Blanks comments and literals. Malformed input gives a useless answer, never a panic.
    pub fn read(text: &str) -> Source {
        let chars: Vec<char> = text.chars().collect();
        let mut code = String::with_capacity(text.len());
        let mut at = 0;
        while at < chars.len() {
            let end = literal_end(&chars, at);
            if end == at {
                code.push(chars[at]);
                at += 1;
            } else {
                for &c in &chars[at..end.min(chars.len())] {
                    code.push(if c == '\n' { '\n' } else { ' ' });
                }
                at = end;
            }
        }
        Source { code }
    }

    /// Every name that follows a defining keyword (`fn`, `struct`, `let`, …).
    pub fn definitions(&self) -> Vec<Definition> {
        let mut found = Vec::new();
        for (number, line) in self.code.lines().enumerate() {
            let mut defining = false;
            for word in line.split(|c: char| !c.is_alphanumeric() && c != '_') {
                if word.is_empty() || word == "mut" {
                    continue;
                }
                if defining && !DEFINING.contains(&word) {
                    found.push(Definition {
                        line: number + 1,
                        name: word.to_owned(),
                    });
                }
                defining = DEFINING.contains(&word);
            }
        }
        found
    }

    /// Functions with bodies. Relies on rustfmt: the closing brace stands under the signature.
    pub fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.code.lines().collect();
        let mut found = Vec::new();
        for (start, line) in lines.iter().enumerate() {
            let body = line.trim_start();
            let Some(name) = function_name(body) else {
                continue;
            };
            let closing = format!("{}}}", &line[..line.len() - body.len()]);
            let end = lines[start..]
                .iter()
                .position(|line| line.trim_end() == closing);
            if let Some(end) = end {
                found.push(Function {
                    line: start + 1,
                    name,
                    lines: end + 1,
                });
            }
        }
        found
    }
}

fn function_name(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let modifier = |word: &str| {
        word.starts_with("pub") || ["const", "async", "unsafe", "extern"].contains(&word)
    };
    let keyword = words.find(|word| !modifier(word))?;
    if keyword != "fn" {
        return None;
    }
    let name = words.next()?.split(['(', '<']).next()?;
    Some(name.to_owned())
}

/// Where the comment or literal that starts at `at` ends; `at` itself when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied().unwrap_or('\0');
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next == '/' => skip_to(chars, at, |c| c == '\n'),
        '/' if next == '*' => block_comment_end(chars, at),
        '"' => string_end(chars, at),
        'r' if !in_word && (next == '"' || next == '#') => raw_string_end(chars, at + 1, at),
        'b' if !in_word && next == 'r' => raw_string_end(chars, at + 2, at),
        '\'' => char_end(chars, at),
        _ => at,
    }
}

fn skip_to(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
    (from..chars.len())
        .find(|&i| stop(chars[i]))
        .unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// `from` stands on the first `#` or the quote; a raw identifier (`r#type`) is no string.
fn raw_string_end(chars: &[char], from: usize, at: usize) -> usize {
    let quote = skip_to(chars, from, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return at;
    }
    let hashes = quote - from;
    let mut i = quote + 1;
    while i < chars.len() {
        let closed =
            chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        i += 1;
        if closed {
            return i + hashes;
        }
    }
    chars.len()
}

/// A character literal; a lifetime (`'a`) is none.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => skip_to(chars, at + 3, |c| c == '\'') + 1,
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, code: &str) {
        let blanked = Source::read(text).code;
        let squeezed = blanked.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeezed, code, "{text}");
        assert_eq!(blanked.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check("x(\"a \\\" b\", 'c', b\"d\")", "x( , , b )");
        check("r#\"a \" b\"# + br\"c\"", "+");
        check(
            "fn f<'a>(x: &'a str) -> char { '\\'' }",
            "fn f<'a>(x: &'a str) -> char { }",
        );
        check("let r#type = 1;", "let r#type = 1;");
        check("\"never closed", "");
        check("/* never closed", "");
    }

    #[test]
    fn definitions_are_found() {
        let source =
            Source::read("pub const fn f(a: u8) {\n    let mut b = \"let c\";\n}\nstruct D;");
        let names: Vec<String> = source.definitions().into_iter().map(|d| d.name).collect();
        assert_eq!(names, ["f", "b", "D"]);
    }

    #[test]
    fn functions_are_measured() {
        let source =
            Source::read("impl A {\n    pub(crate) async fn f<T>(\n    ) {\n        x\n    }\n}\n");
        assert_eq!(
            source.functions(),
            [Function {
                line: 2,
                name: "f".into(),
                lines: 4
            }]
        );
    }
}
