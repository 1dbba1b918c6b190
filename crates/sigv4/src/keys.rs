//! Access key ids and secret keys: the two halves of an access key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use types::Random;
use zeroize::Zeroizing;

/// The public half of an access key: 1 to 128 ASCII letters, digits and underscores.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId(Box<str>);

impl AccessKeyId {
    /// Characters of the longest id accepted.
    pub const LENGTH_MAX: usize = 128;

    const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

    /// A new id: `AKIA` and 16 characters of base 32 (80 random bits).
    pub fn generate(random: &Random) -> AccessKeyId {
        let mut id = String::from("AKIA");
        id.extend(
            random
                .bytes::<16>()
                .iter()
                .map(|byte| char::from(Self::BASE32[usize::from(byte % 32)])),
        );
        AccessKeyId(id.into_boxed_str())
    }

    /// The id in this text, or `None` when it can be no id.
    pub fn parse(text: &str) -> Option<AccessKeyId> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = !text.is_empty() && text.len() <= Self::LENGTH_MAX && text.bytes().all(word);
        valid.then(|| AccessKeyId(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKeyId({})", self.0)
    }
}

/// The secret half of an access key. Wiped when dropped; neither `Debug` nor any message shows it, and there is no
/// `Display`: [`SecretKey::expose`] is the one way to its text.
#[derive(Clone)]
pub struct SecretKey(Zeroizing<String>);

impl SecretKey {
    /// A new secret: 40 characters of the base 64 alphabet (240 random bits).
    pub fn generate(random: &Random) -> SecretKey {
        let bytes = Zeroizing::new(random.bytes::<30>());
        SecretKey(Zeroizing::new(STANDARD.encode(bytes.as_slice())))
    }

    /// A secret that was made elsewhere.
    pub fn new(secret: String) -> SecretKey {
        SecretKey(Zeroizing::new(secret))
    }

    /// The secret's text: for sealing, and for showing it once to the one who asked for the key.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_have_the_form_of_aws_keys() {
        let random = Random::seeded(1);
        let (id, other) = (
            AccessKeyId::generate(&random),
            AccessKeyId::generate(&random),
        );
        assert_ne!(id, other);
        assert_eq!(id.as_str().len(), 20);
        let rest = id
            .as_str()
            .strip_prefix("AKIA")
            .expect("the prefix of a long-term key");
        assert!(
            rest.bytes()
                .all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte))
        );
        assert_eq!(AccessKeyId::parse(id.as_str()), Some(id));
        let secret = SecretKey::generate(&random);
        assert_eq!(secret.expose().len(), 40);
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        assert!(secret.expose().bytes().all(base64));
        assert_ne!(secret.expose(), SecretKey::generate(&random).expose());
    }

    #[test]
    fn ids_are_words() {
        for text in ["", "a b", "a/b", "AKIA\u{e9}", "-", &"A".repeat(129)] {
            assert_eq!(AccessKeyId::parse(text), None, "{text}");
        }
        assert!(AccessKeyId::parse(&"A".repeat(128)).is_some());
    }

    #[test]
    fn debug_hides_the_secret() {
        let secret = SecretKey::new("wJalrXUtnFEMI".to_owned());
        assert_eq!(format!("{secret:?}"), "SecretKey(hidden)");
    }
}
