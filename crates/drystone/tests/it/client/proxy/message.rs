//! Requests and answers of HTTP/1.1 as bytes: head and body, and nothing of what they mean.

use std::io;
use std::io::{BufRead, Read};

/// Most bytes of a head; nobody here sends more.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A head with its empty line, and a body as it came, framing included.
pub(super) struct Message {
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// The next request; nothing when the peer has closed between two.
    pub(super) fn request(from: &mut impl BufRead) -> io::Result<Option<Message>> {
        let Some(head) = read_head(from)? else {
            return Ok(None);
        };
        let mut message = Message {
            head,
            body: Vec::new(),
        };
        message.read_body(from, false)?;
        Ok(Some(message))
    }

    /// The answer to a request, without those of status 1xx that come before it.
    pub(super) fn answer(from: &mut impl BufRead, method: &str) -> io::Result<Message> {
        loop {
            let head = read_head(from)?.ok_or_else(|| broken("no answer"))?;
            let mut message = Message {
                head,
                body: Vec::new(),
            };
            let status = message.word(1);
            if status.starts_with('1') {
                continue;
            }
            if method != "HEAD" && status != "204" && status != "304" {
                message.read_body(from, true)?;
            }
            return Ok(message);
        }
    }

    /// A word of the first line.
    pub(super) fn word(&self, number: usize) -> String {
        let line = self.lines().next().unwrap_or_default();
        line.split(' ').nth(number).unwrap_or_default().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let named = |line: &str| {
            let (found, value) = line.split_once(':')?;
            found
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_ascii_lowercase())
        };
        self.lines().skip(1).find_map(|line| named(&line))
    }

    /// Whether nothing follows on this connection.
    pub(super) fn closes(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.contains("close"))
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body].concat()
    }

    /// Makes one bit in the middle of the body another.
    pub(super) fn corrupt(&mut self) -> bool {
        let middle = self.body.len() / 2;
        match self.body.get_mut(middle) {
            Some(byte) => *byte ^= 1,
            None => return false,
        }
        true
    }

    /// Gives a header a name of the same length that means nothing.
    pub(super) fn hide_header(&mut self, name: &str) {
        let position = self
            .head
            .windows(name.len())
            .position(|found| found.eq_ignore_ascii_case(name.as_bytes()));
        if let Some(at) = position {
            self.head[at..at + name.len()].fill(b'x');
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        let lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        lines.into_iter()
    }

    fn read_body(&mut self, from: &mut impl BufRead, until_the_end: bool) -> io::Result<()> {
        if let Some(bytes) = self.header("content-length") {
            let bytes: usize = bytes.parse().map_err(|_| broken("a strange length"))?;
            self.body.resize(bytes, 0);
            return from.read_exact(&mut self.body);
        }
        if self.header("transfer-encoding").is_some() {
            return self.read_chunks(from);
        }
        if until_the_end {
            from.read_to_end(&mut self.body)?;
        }
        Ok(())
    }

    fn read_chunks(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        loop {
            let start = self.body.len();
            from.read_until(b'\n', &mut self.body)?;
            let line = String::from_utf8_lossy(&self.body[start..]).into_owned();
            let digits = line.split(';').next().unwrap_or_default().trim();
            let bytes = usize::from_str_radix(digits, 16).map_err(|_| broken("a strange chunk"))?;
            let data = self.body.len();
            if bytes == 0 {
                // Trailers, and the empty line.
                while from.read_until(b'\n', &mut self.body)? > 2 {}
                return Ok(());
            }
            self.body.resize(data + bytes + 2, 0);
            from.read_exact(&mut self.body[data..])?;
        }
    }
}

fn read_head(from: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        from.take(HEAD_BYTES_MAX as u64)
            .read_until(b'\n', &mut head)?;
        match &head[start..] {
            [] if start == 0 => return Ok(None),
            b"\r\n" => return Ok(Some(head)),
            line if !line.ends_with(b"\n") || head.len() > HEAD_BYTES_MAX => {
                return Err(broken("half a head"));
            }
            _ => {}
        }
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
