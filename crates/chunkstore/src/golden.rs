//! Reads golden files: bytes as annotated hex.

/// The bytes of a golden file: on each line hex digits, then `#` and what they are.
pub(crate) fn parse(text: &str) -> Vec<u8> {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.as_bytes().chunks(2).map(byte).collect()
}
