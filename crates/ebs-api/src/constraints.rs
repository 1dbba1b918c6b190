//! Modelled constraints, and the framework's words for what breaks them (SPEC 5.2).
//!
//! Every member of a request is checked before the first answer, so that one message names all that is wrong:
//! `2 validation errors detected: Value …; Value …`.

use crate::error::ApiError;

/// Characters of a client's value that a message repeats.
const ECHO_MAX: usize = 1_024;

/// A pattern of the model, with the text that messages show.
#[derive(Clone, Copy)]
pub(crate) struct Pattern {
    shown: &'static str,
    matches: fn(&str) -> bool,
}

/// Snapshot ids (SPEC 2.0).
pub(crate) const SNAPSHOT_ID: Pattern = Pattern {
    shown: "^snap-[0-9a-f]+$",
    matches: |text| {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.strip_prefix("snap-")
            .is_some_and(|id| !id.is_empty() && id.bytes().all(hex))
    },
};

/// Block and page tokens, in the wider form that AWS itself checks (SPEC 2.0).
pub(crate) const TOKEN: Pattern = Pattern {
    shown: "^[A-Za-z0-9+/=_-]+$",
    matches: |text| is_made_of(text, |byte| is_base64(byte) || byte == b'_' || byte == b'-'),
};

/// Checksums.
pub(crate) const CHECKSUM: Pattern = Pattern {
    shown: "^[A-Za-z0-9+/=]+$",
    matches: |text| is_made_of(text, is_base64),
};

/// Names of algorithms.
pub(crate) const ALGORITHM: Pattern = Pattern {
    shown: "^[A-Za-z0-9]+$",
    matches: |text| is_made_of(text, |byte| byte.is_ascii_alphanumeric()),
};

/// Client tokens: no white space, not empty. White space is the six ASCII characters that `\s` means.
pub(crate) const CLIENT_TOKEN: Pattern = Pattern {
    shown: r"^[\S]+$",
    matches: |text| {
        is_made_of(text, |byte| {
            !matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
        })
    },
};

/// Any text but the empty one.
pub(crate) const NOT_EMPTY: Pattern = Pattern {
    shown: r"^[\S\s]+$",
    matches: |text| !text.is_empty(),
};

/// ARNs of KMS keys.
pub(crate) const KMS_KEY_ARN: Pattern = Pattern {
    shown: r"arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*",
    matches: is_kms_key_arn,
};

/// Collects every broken constraint of one request.
#[derive(Default)]
pub(crate) struct Constraints {
    faults: Vec<String>,
}

impl Constraints {
    /// Begins with nothing wrong.
    pub(crate) fn new() -> Constraints {
        Constraints::default()
    }

    /// The member must be there.
    pub(crate) fn required<T>(&mut self, member: &str, value: Option<&T>) {
        if value.is_none() {
            self.faults.push(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    /// The integer must be at least `min`.
    pub(crate) fn at_least(&mut self, member: &str, value: Option<i64>, min: i64) {
        if let Some(value) = value.filter(|value| *value < min) {
            let rule = format!("Member must have value greater than or equal to {min}");
            self.fault(member, &value.to_string(), &rule);
        }
    }

    /// The integer must lie between the two, both included.
    pub(crate) fn within(&mut self, member: &str, value: Option<i64>, min: i64, max: i64) {
        self.at_least(member, value, min);
        if let Some(value) = value.filter(|value| *value > max) {
            let rule = format!("Member must have value less than or equal to {max}");
            self.fault(member, &value.to_string(), &rule);
        }
    }

    /// The text must have at least `min` characters.
    pub(crate) fn length_at_least(&mut self, member: &str, value: Option<&str>, min: usize) {
        if let Some(value) = value.filter(|value| value.chars().count() < min) {
            let rule = format!("Member must have length greater than or equal to {min}");
            self.fault(member, value, &rule);
        }
    }

    /// The text must have at most `max` characters.
    pub(crate) fn length_at_most(&mut self, member: &str, value: Option<&str>, max: usize) {
        if let Some(value) = value.filter(|value| value.chars().count() > max) {
            let rule = format!("Member must have length less than or equal to {max}");
            self.fault(member, value, &rule);
        }
    }

    /// The text must match.
    pub(crate) fn pattern(&mut self, member: &str, value: Option<&str>, pattern: Pattern) {
        if let Some(value) = value.filter(|value| !(pattern.matches)(value)) {
            let rule = format!(
                "Member must satisfy regular expression pattern: {}",
                pattern.shown
            );
            self.fault(member, value, &rule);
        }
    }

    /// The text must be one of the values.
    pub(crate) fn one_of(&mut self, member: &str, value: Option<&str>, values: &[&str]) {
        if let Some(value) = value.filter(|value| !values.contains(value)) {
            let rule = format!(
                "Member must satisfy enum value set: [{}]",
                values.join(", ")
            );
            self.fault(member, value, &rule);
        }
    }

    /// A snapshot id: 1 to 64 characters of the pattern.
    pub(crate) fn snapshot_id(&mut self, member: &str, value: Option<&str>) {
        self.length_at_least(member, value, 1);
        self.length_at_most(member, value, 64);
        self.pattern(member, value, SNAPSHOT_ID);
    }

    /// A block or page token: at most 256 characters of the pattern.
    pub(crate) fn token(&mut self, member: &str, value: Option<&str>) {
        self.length_at_most(member, value, 256);
        self.pattern(member, value, TOKEN);
    }

    /// A checksum: at most 64 characters of the pattern.
    pub(crate) fn checksum(&mut self, member: &str, value: Option<&str>) {
        self.length_at_most(member, value, 64);
        self.pattern(member, value, CHECKSUM);
    }

    /// A key ARN: 1 to 2048 characters of the pattern. Its value is sensitive and not repeated.
    pub(crate) fn kms_key_arn(&mut self, member: &str, value: Option<&str>) {
        let mut faults = Constraints::new();
        faults.length_at_least(member, value, 1);
        faults.length_at_most(member, value, 2048);
        faults.pattern(member, value, KMS_KEY_ARN);
        let rules = faults
            .faults
            .iter()
            .filter_map(|fault| fault.rsplit_once(" failed to satisfy constraint: "));
        self.faults.extend(
            rules.map(|(_, rule)| {
                format!("Value at '{member}' failed to satisfy constraint: {rule}")
            }),
        );
    }

    /// Nothing is wrong, or one error that names everything.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let noun = match self.faults.len() {
            0 => return Ok(()),
            1 => "error",
            _ => "errors",
        };
        Err(ApiError::constraint(format!(
            "{} validation {noun} detected: {}",
            self.faults.len(),
            self.faults.join("; ")
        )))
    }

    fn fault(&mut self, member: &str, value: &str, rule: &str) {
        let value = echo(value);
        self.faults.push(format!(
            "Value '{value}' at '{member}' failed to satisfy constraint: {rule}"
        ));
    }
}

/// A client's value, cut to what a message may repeat.
pub(crate) fn echo(value: &str) -> String {
    value.chars().take(ECHO_MAX).collect()
}

fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=')
}

/// `arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*` from the start; `.` matches no line break.
fn is_kms_key_arn(text: &str) -> bool {
    let Some((partition, rest)) = text
        .strip_prefix("arn:aws")
        .and_then(|rest| rest.split_once(":kms:"))
    else {
        return false;
    };
    let partition_allowed = partition
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let account = |at: usize| {
        let account = at
            .checked_sub(13)
            .and_then(|start| rest.as_bytes().get(start..at));
        account.is_some_and(|account| {
            account[0] == b':' && account[1..].iter().all(u8::is_ascii_digit)
        })
    };
    partition_allowed
        && !text.contains(['\n', '\r'])
        && rest.match_indices(":key/").any(|(at, _)| account(at))
}

#[cfg(test)]
mod tests;
