//! The form of the AWS tools' files: sections, properties, values that go on in lines that are indented further.
//!
//! ```text
//! # a comment; so is a line that begins with ';'
//! [profile work]
//! region = eu-west-1
//! services = here
//!
//! [services here]
//! ebs =
//!   endpoint_url = http://127.0.0.1:8512
//! ```
//!
//! Read as the AWS CLI reads them: comments are whole lines, names of properties are of any case, a colon does for an equals
//! sign, a line that is indented further than its property continues the value. Where a section or a property comes twice, the
//! tools disagree; here sections are joined and the later property holds.
//!
//! Total: any text gives sections or the number of the line that does not fit. No message repeats a line, since it may hold a
//! secret; values are wiped when dropped.

use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The properties of a section by name, names in lower case.
pub(super) type Section = BTreeMap<String, Property>;

/// What stands after a property's name.
#[derive(Default)]
pub(super) struct Property {
    /// The value, its lines joined by line feeds.
    pub(super) value: Zeroizing<String>,
}

impl Property {
    /// The value of a property inside this one: a line of the form `name = value`, of which the last holds.
    pub(super) fn nested(&self, name: &str) -> Option<&str> {
        // What stands in the property's own line is its value, and no property.
        let (_, lines) = self.value.split_once('\n')?;
        let pairs = lines.lines().filter_map(pair);
        let mut named = pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.next_back().map(|(_, value)| value)
    }
}

/// Reads a file.
///
/// # Errors
/// The number of the line that does not fit, from 1, and why.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Section>, (usize, &'static str)> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    // The section that lines belong to, and the property that they may continue, with its indentation.
    let mut section: Option<&mut Section> = None;
    let mut open: Option<(String, usize)> = None;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (position, line) in text.lines().enumerate() {
        let number = position + 1;
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let indentation = line.len() - line.trim_start().len();
        if let (Some(section), Some((name, own))) = (&mut section, &open)
            && indentation > *own
        {
            if let Some(property) = section.get_mut(name) {
                append(&mut property.value, content);
            }
            continue;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let (name, rest) = rest
                .split_once(']')
                .ok_or((number, "a section's name without its end"))?;
            let rest = rest.trim_start();
            if !rest.is_empty() && !rest.starts_with(['#', ';']) {
                return Err((number, "something stands after a section's name"));
            }
            section = Some(sections.entry(section_name(name)).or_default());
            open = None;
            continue;
        }
        let section = section
            .as_mut()
            .ok_or((number, "a property before the first section"))?;
        let (name, value) = pair(content).ok_or((number, "neither a section nor a property"))?;
        let name = name.to_ascii_lowercase();
        let value = Zeroizing::new(value.to_owned());
        section.insert(name.clone(), Property { value });
        open = Some((name, indentation));
    }
    Ok(sections)
}

/// The name and the value in a line.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(['=', ':'])?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, value.trim()))
}

/// A section's name in one form: words separated by one blank, without the quotes that a name with blanks may have.
fn section_name(written: &str) -> String {
    let written = written.trim();
    let (kind, name) = written
        .split_once(char::is_whitespace)
        .unwrap_or(("", written));
    let name = name.trim();
    let unquoted = ['"', '\'']
        .iter()
        .find_map(|quote| name.strip_prefix(*quote)?.strip_suffix(*quote));
    let name = unquoted.unwrap_or(name);
    if kind.is_empty() {
        name.to_owned()
    } else {
        format!("{kind} {name}")
    }
}

/// Adds a line to a value. Where the value must move, the old place is wiped and the new one is twice as large, so that many
/// lines cost no more than their length.
fn append(value: &mut Zeroizing<String>, line: &str) {
    let length = value.len() + 1 + line.len();
    if length > value.capacity() {
        let mut larger = Zeroizing::new(String::with_capacity(2 * length));
        larger.push_str(value);
        *value = larger;
    }
    value.push('\n');
    value.push_str(line);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `name` in `section`.
    fn value(text: &str, section: &str, name: &str) -> Option<String> {
        let sections = parse(text).expect("a good text");
        let property = sections.get(section)?.get(name)?;
        Some(property.value.to_string())
    }

    #[test]
    fn values_are_what_stands_after_the_sign() {
        let check = |text: &str, expected: &str| {
            let text = format!("[s]\n{text}");
            assert_eq!(value(&text, "s", "a").as_deref(), Some(expected), "{text}");
        };
        check("a=1", "1");
        check("A = 1 ", "1");
        check("a : 1", "1");
        check("a = http://h:1/?b=c", "http://h:1/?b=c");
        check("a =", "");
        check("a = 1\na = 2", "2");
        // Comments are whole lines: a secret or a command may hold these characters.
        check("# a = 0\na = 1 # 2 ; 3\n; a = 4", "1 # 2 ; 3");
        check("a = 1\n\n# none\n\t2\n  3\nb = 4", "1\n2\n3");
        // All are indented alike, so none goes on with the one before.
        check("  b = 0\n  a = 1\n  c = 2", "1");
        check("  a = 1\n   2", "1\n2");
    }

    #[test]
    fn sections_have_one_name_however_written() {
        let check = |written: &str, name: &str| {
            let found = value(&format!("\u{feff}{written}\r\na = 1\r\n"), name, "a");
            assert_eq!(found.as_deref(), Some("1"), "{written}");
        };
        check("[default]", "default");
        check("[ default ] # here", "default");
        check("[profile x]", "profile x");
        check("[profile\t  x]", "profile x");
        check("[profile \"my own\"]", "profile my own");
        check("[profile 'x']", "profile x");
        check("[Profile x]", "Profile x");
        assert_eq!(
            value("[s]\na=1\n[t]\na=2\n[s]\nb=3", "s", "a").as_deref(),
            Some("1")
        );
        assert_eq!(
            value("[s]\na=1\n[t]\na=2\n[s]\nb=3", "s", "b").as_deref(),
            Some("3")
        );
    }

    #[test]
    fn properties_inside_properties_are_found() {
        let text = "[s]\nebs =\n  endpoint_url = http://a=b:1\n  Other=2\n  endpoint_url = last\nec2 = x = 1\n";
        let sections = parse(text).expect("a good text");
        let nested = |property: &str, name: &str| sections["s"][property].nested(name);
        assert_eq!(nested("ebs", "endpoint_url"), Some("last"));
        assert_eq!(nested("ebs", "other"), Some("2"));
        assert_eq!(nested("ebs", "nothing"), None);
        assert_eq!(nested("ec2", "x"), None);
    }

    #[test]
    fn lines_that_do_not_fit_are_numbered_and_not_repeated() {
        let check = |text: &str, line: usize| {
            let (found, what) = parse(text).map(|_| ()).expect_err("no good text");
            assert_eq!(found, line, "{text}");
            assert!(!what.contains("hush"), "{what}");
        };
        check("a = hush", 1);
        check("\n  [hush\n", 2);
        check("[s] hush", 1);
        check("[s]\nhush", 2);
        check("[s]\n= hush", 2);
    }

    #[test]
    fn many_lines_cost_no_more_than_their_length() {
        let mut text = "[s]\na =\n".to_owned();
        text.push_str(&" x\n".repeat(300_000));
        let found = value(&text, "s", "a").expect("a value");
        assert_eq!(found.len(), 600_000);
    }
}
