//! The id of a request: sent back to the client and written to the log, so that the two can be put together.

use http::HeaderValue;
use std::fmt;
use types::Random;

/// A random UUID (version 4), the same in the response's header, in XML and in the log (SPEC 8.38).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// The header that carries the id in every response, in lower case.
    pub const HEADER: &'static str = "x-amzn-requestid";

    /// A new id.
    pub fn generate(random: &Random) -> RequestId {
        let mut bytes = random.bytes::<16>();
        bytes[6] = 0x40 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        RequestId(bytes)
    }

    /// The id as the value of a header.
    pub fn header_value(self) -> HeaderValue {
        HeaderValue::try_from(self.to_string())
            .expect("hex digits and hyphens may stand in a header")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_uuids() {
        let random = Random::seeded(3);
        for _ in 0..100 {
            let text = RequestId::generate(&random).to_string();
            let groups: Vec<&str> = text.split('-').collect();
            assert_eq!(
                groups.iter().map(|group| group.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12]
            );
            assert!(
                text.bytes()
                    .all(|byte| byte == b'-' || byte.is_ascii_hexdigit()),
                "{text}"
            );
            assert!(groups[2].starts_with('4'), "{text}");
            assert!(groups[3].starts_with(['8', '9', 'a', 'b']), "{text}");
        }
        assert_ne!(RequestId::generate(&random), RequestId::generate(&random));
    }
}
