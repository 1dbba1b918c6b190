//! Arbitrary bytes as the parts of a request: lines for target and headers, the rest for the body.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The lines up to the first empty one, and what follows it.
pub struct Input<'a> {
    lines: Vec<&'a [u8]>,
    body: &'a [u8],
}

impl<'a> Input<'a> {
    /// Never fails: any bytes have lines.
    pub fn read(data: &'a [u8]) -> Input<'a> {
        let end = data.windows(2).position(|two| two == b"\n\n");
        let (head, body) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 2..]));
        Input {
            lines: head.split(|&byte| byte == b'\n').collect(),
            body,
        }
    }

    /// A line as text; empty when there is none or it is no text.
    pub fn text(&self, line: usize) -> &'a str {
        let bytes = self.lines.get(line).copied().unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// What follows the first empty line.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The lines from `first` on as headers, as far as HTTP allows them.
    pub fn headers(&self, first: usize) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in self.lines.iter().skip(first) {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let value = line[colon + 1..].trim_ascii();
            let name = HeaderName::from_bytes(&line[..colon]);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                headers.append(name, value);
            }
        }
        headers
    }
}
