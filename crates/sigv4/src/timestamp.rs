//! The date of a request: ISO 8601 basic format in `X-Amz-Date`, or an HTTP date in `Date` (SPEC 4.1).

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use types::UnixMillis;

/// A point in time with a resolution of one second, and its text as the string to sign has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    seconds: i64,
    /// `yyyymmddThhmmssZ`.
    text: String,
}

impl Timestamp {
    /// Reads exactly `yyyymmddThhmmssZ`.
    pub(crate) fn parse_basic(text: &str) -> Option<Timestamp> {
        let bytes = text.as_bytes();
        if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0i16, |sum, byte| {
                byte.is_ascii_digit()
                    .then(|| sum * 10 + i16::from(byte - b'0'))
            })
        };
        let small =
            |from: usize| number(from, from + 2).and_then(|number| i8::try_from(number).ok());
        let date_time = DateTime::new(
            number(0, 4)?,
            small(4)?,
            small(6)?,
            small(9)?,
            small(11)?,
            small(13)?,
            0,
        )
        .ok()?;
        let seconds = TimeZone::UTC.to_timestamp(date_time).ok()?.as_second();
        Some(Timestamp {
            seconds,
            text: text.to_owned(),
        })
    }

    /// Reads an HTTP date, such as `Sun, 30 Aug 2015 12:36:00 GMT`.
    pub(crate) fn parse_http(text: &str) -> Option<Timestamp> {
        let timestamp = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()?;
        Self::from_seconds(timestamp.as_second())
    }

    /// The second in which this time lies.
    pub(crate) fn from_millis(millis: UnixMillis) -> Option<Timestamp> {
        Self::from_seconds(millis.div_euclid(1000))
    }

    /// `None` outside the years 0 to 9999.
    pub(crate) fn from_seconds(seconds: i64) -> Option<Timestamp> {
        let timestamp = jiff::Timestamp::from_second(seconds).ok()?;
        let at = TimeZone::UTC.to_datetime(timestamp);
        let year = u16::try_from(at.year()).ok()?;
        let text = format!(
            "{year:04}{:02}{:02}T{:02}{:02}{:02}Z",
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        );
        Some(Timestamp { seconds, text })
    }

    /// Seconds since 1970-01-01 00:00 UTC.
    pub(crate) fn seconds(&self) -> i64 {
        self.seconds
    }

    /// `yyyymmddThhmmssZ`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// `yyyymmdd`.
    pub(crate) fn day(&self) -> &str {
        &self.text[..8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn both_forms_name_the_same_second() {
        let basic = Timestamp::parse_basic("20150830T123600Z").expect("a valid date");
        assert_eq!(basic.seconds(), 1_440_938_160);
        assert_eq!(basic.day(), "20150830");
        assert_eq!(
            Timestamp::parse_http("Sun, 30 Aug 2015 12:36:00 GMT"),
            Some(basic.clone())
        );
        assert_eq!(Timestamp::from_millis(1_440_938_160_999), Some(basic));
    }

    #[test]
    fn other_texts_are_refused() {
        let refused = [
            "",
            "20150830",
            "20150830T123600",
            "2015-08-30T12:36:00Z",
            "20151330T123600Z",
            "20150230T123600Z",
            "20150830T243600Z",
            "20150830T126000Z",
            "20150830t123600z",
            "+0150830T123600Z",
            "2015083\u{e9}T12360Z",
        ];
        for text in refused {
            assert_eq!(Timestamp::parse_basic(text), None, "{text}");
        }
        assert_eq!(Timestamp::parse_http("yesterday"), None);
        assert_eq!(Timestamp::from_seconds(i64::MAX), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>()) {
            Timestamp::parse_basic(&text);
            Timestamp::parse_http(&text);
        }

        #[test]
        fn seconds_survive_their_text(seconds in 0i64..253_402_207_200) {
            let timestamp = Timestamp::from_seconds(seconds).expect("a year of four digits");
            assert_eq!(Timestamp::parse_basic(timestamp.text()), Some(timestamp));
        }
    }
}
