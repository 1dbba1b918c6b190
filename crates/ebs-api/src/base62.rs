//! Bytes as letters and digits, in groups of fixed size.
//!
//! Eight bytes, read as a big-endian number, become 11 digits of base 62, highest first: `0-9A-Za-z`. The length follows from
//! the number of groups alone. Every text has at most one reading and every reading one text: a group above 2^64 - 1 is
//! refused, so a token cannot be altered without altering its bytes.

/// Bytes of one group.
pub(crate) const GROUP_BYTES: usize = 8;

/// Characters of one group.
pub(crate) const GROUP_CHARS: usize = 11;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The value of each character; 255 where it is none of ours.
const VALUES: [u8; 256] = {
    let mut values = [255; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The two digits of each number below 62 * 62: half the divisions of one digit at a time.
const PAIRS: [[u8; 2]; 62 * 62] = {
    let mut pairs = [[0; 2]; 62 * 62];
    let mut number = 0;
    while number < pairs.len() {
        pairs[number] = [ALPHABET[number / 62], ALPHABET[number % 62]];
        number += 1;
    }
    pairs
};

/// Appends the text of `bytes`, whose length is a multiple of [`GROUP_BYTES`].
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let (groups, rest) = bytes.as_chunks::<GROUP_BYTES>();
    debug_assert!(rest.is_empty(), "only whole groups have a text");
    for group in groups {
        let mut number = u64::from_be_bytes(*group);
        // One digit more than a group has: the first is always 0 and left out.
        let mut digits = [[0; 2]; GROUP_CHARS.div_ceil(2)];
        for pair in digits.iter_mut().rev() {
            *pair = PAIRS[(number % (62 * 62)) as usize];
            number /= 62 * 62;
        }
        out.extend_from_slice(&digits.as_flattened()[1..]);
    }
}

/// Reads exactly the bytes that `N` asks for; `None` for any text that [`encode`] does not make.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    const {
        assert!(
            N.is_multiple_of(GROUP_BYTES),
            "only whole groups have a text"
        )
    };
    let (groups, rest) = text.as_bytes().as_chunks::<GROUP_CHARS>();
    if !rest.is_empty() || groups.len() != N / GROUP_BYTES {
        return None;
    }
    let mut bytes = [0; N];
    for (group, out) in groups.iter().zip(bytes.as_chunks_mut::<GROUP_BYTES>().0) {
        let mut number = 0_u64;
        for character in group {
            let value = VALUES[usize::from(*character)];
            if value == 255 {
                return None;
            }
            number = number.checked_mul(62)?.checked_add(value.into())?;
        }
        *out = number.to_be_bytes();
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn text(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn groups_have_known_texts() {
        assert_eq!(text(&[0; 8]), "00000000000");
        assert_eq!(text(&1_u64.to_be_bytes()), "00000000001");
        assert_eq!(text(&61_u64.to_be_bytes()), "0000000000z");
        assert_eq!(text(&62_u64.to_be_bytes()), "00000000010");
        assert_eq!(text(&[255; 8]), "LygHa16AHYF");
    }

    #[test]
    fn only_canonical_text_is_read() {
        assert_eq!(decode::<8>("LygHa16AHYF"), Some([255; 8]));
        assert_eq!(decode::<8>("LygHa16AHYG"), None, "one more than fits");
        assert_eq!(decode::<8>("zzzzzzzzzzz"), None);
        assert_eq!(decode::<8>("0000000000"), None);
        assert_eq!(decode::<8>("000000000000"), None);
        assert_eq!(decode::<8>("0000000000+"), None);
        assert_eq!(decode::<8>("000000000\u{e9}"), None);
        assert_eq!(decode::<16>("00000000000"), None);
    }

    proptest! {
        #[test]
        fn bytes_survive_their_text(bytes in any::<[u8; 24]>()) {
            let text = text(&bytes);
            prop_assert_eq!(text.len(), 33);
            prop_assert_eq!(decode::<24>(&text), Some(bytes));
        }

        #[test]
        fn what_is_read_has_this_one_text(read in "[0-9A-Za-z]{11}") {
            if let Some(bytes) = decode::<8>(&read) {
                prop_assert_eq!(text(&bytes), read);
            }
        }
    }
}
