//! Sizes and durations as people write them: `64 MiB`, `5 m`.

use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, written with or without a binary unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(u64);

impl ByteSize {
    /// `count` MiB.
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count << 20)
    }

    /// `count` GiB.
    pub const fn gib(count: u64) -> ByteSize {
        ByteSize(count << 30)
    }

    /// The number of bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<ByteSize, String> {
        let refused = || format!("`{text}` is no size; write for example `64 MiB` or `1 GiB`");
        let (number, unit) = number_and_unit(text).ok_or_else(refused)?;
        let shift = match unit {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(refused()),
        };
        number
            .checked_mul(1 << shift)
            .map(ByteSize)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        deserializer.deserialize_any(Written::expecting("a size such as \"64 MiB\""))
    }
}

/// A span of time, written with its unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Span(Duration);

impl Span {
    /// `count` seconds.
    pub const fn seconds(count: u64) -> Span {
        Span(Duration::from_secs(count))
    }

    /// The duration.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let refused =
            || format!("`{text}` is no span of time; write for example `30 s` `5 m` or `30 d`");
        let (number, unit) = number_and_unit(text).ok_or_else(refused)?;
        let seconds = match unit {
            "ms" => return Ok(Span(Duration::from_millis(number))),
            "s" => Some(number),
            "m" => number.checked_mul(60),
            "h" => number.checked_mul(3600),
            "d" => number.checked_mul(86_400),
            _ => return Err(refused()),
        };
        seconds
            .map(Span::seconds)
            .ok_or_else(|| format!("`{text}` is too long"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        deserializer.deserialize_any(Written::expecting("a span of time such as \"5 m\""))
    }
}

/// How often something is done by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Every {
    /// Never.
    Off,
    /// Once in each span.
    Each(Span),
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Every, String> {
        match text {
            "off" => Ok(Every::Off),
            span => span
                .parse()
                .map(Every::Each)
                .map_err(|refusal| format!("{refusal}, or `off`")),
        }
    }
}

impl<'de> Deserialize<'de> for Every {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Every, D::Error> {
        deserializer.deserialize_any(Written::expecting(
            "a span of time such as \"1 h\", or \"off\"",
        ))
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

/// Reads a value from its text; a bare integer is read like its digits, so that the refusal can name a unit.
struct Written<T> {
    expected: &'static str,
    value: std::marker::PhantomData<T>,
}

impl<T> Written<T> {
    fn expecting(expected: &'static str) -> Written<T> {
        Written {
            expected,
            value: std::marker::PhantomData,
        }
    }
}

impl<T: FromStr<Err = String>> de::Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let check =
            |text: &str, bytes: u64| assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        check("0", 0);
        check("17 B", 17);
        check("4KiB", 4096);
        check("64 MiB", 64 << 20);
        check("1 GiB", 1 << 30);
        check("2 TiB", 2 << 40);
    }

    #[test]
    fn sizes_refuse_what_is_ambiguous_or_too_large() {
        for text in [
            "",
            "MiB",
            "64 MB",
            "64 mib",
            "-1",
            "1.5 GiB",
            "64 MiB ",
            "99999999999 TiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_need_a_unit() {
        let check = |text: &str, ms: u64| {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        };
        check("250 ms", 250);
        check("30s", 30_000);
        check("5 m", 300_000);
        check("1 h", 3_600_000);
        check("30 d", 2_592_000_000);
        for text in ["", "5", "5 min", "s", "-5 s", "18446744073709551615 h"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_done_by_itself_can_be_turned_off() {
        assert_eq!("off".parse(), Ok(Every::Off));
        assert_eq!("1 h".parse(), Ok(Every::Each(Span::seconds(3600))));
        let refusal = "never".parse::<Every>().expect_err("no span");
        assert!(refusal.contains("or `off`"), "{refusal}");
    }
}
