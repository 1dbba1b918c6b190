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
        let named = pairs.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.last().map(|(_, value)| value)
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
