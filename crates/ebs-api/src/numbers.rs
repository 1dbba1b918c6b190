//! Integers as clients write them in paths, queries, headers and JSON.
//!
//! R writes 100000 as `1e+05` wherever that is shorter (SPEC annex C), so E notation is read wherever it names an integer
//! exactly; `1.5`, `1e-1` and what exceeds 64 bits are no integers.

use serde_json::Number;

/// Characters of the longest number read: more than any exact 64-bit integer needs.
const LENGTH_MAX: usize = 64;

/// Integers up to here are exact in a double.
const DOUBLE_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The integer that `text` names exactly, or `None`.
pub(crate) fn integer(text: &str) -> Option<i64> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (decimal, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((decimal, exponent)) => (decimal, power(exponent)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match decimal.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (decimal, ""),
    };
    if whole.is_empty() {
        return None;
    }
    let mut magnitude = 0_i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        magnitude = magnitude.checked_mul(10)?.checked_add(digit)?;
    }
    let magnitude = scaled(magnitude, exponent - i32::try_from(fraction.len()).ok()?)?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// The integer that a JSON number names exactly, or `None`.
pub(crate) fn json_integer(number: &Number) -> Option<i64> {
    if let Some(integer) = number.as_i64() {
        return Some(integer);
    }
    let double = number.as_f64()?;
    let exact = double.fract() == 0.0 && double.abs() <= DOUBLE_EXACT_MAX;
    // Exact: a whole number that needs at most 53 bits.
    exact.then_some(double as i64)
}

fn power(exponent: &str) -> Option<i32> {
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let plain =
        !digits.is_empty() && digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
    let power: i32 = plain.then(|| digits.parse().ok())??;
    Some(if exponent.starts_with('-') {
        -power
    } else {
        power
    })
}

/// `magnitude` times a power of ten, where that is an integer that fits.
fn scaled(magnitude: i128, power: i32) -> Option<i128> {
    if magnitude == 0 {
        return Some(0);
    }
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 {
        magnitude.checked_mul(factor)
    } else {
        (magnitude % factor == 0).then_some(magnitude / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(integer(text), expected, "{text}");
    }

    #[test]
    fn reads_plain_integers() {
        check("0", Some(0));
        check("524288", Some(524_288));
        check("-1", Some(-1));
        check("+7", Some(7));
        check("007", Some(7));
        check("9223372036854775807", Some(i64::MAX));
        check("-9223372036854775808", Some(i64::MIN));
        check("9223372036854775808", None);
    }

    #[test]
    fn reads_exact_e_notation() {
        check("1e+05", Some(100_000));
        check("2e+05", Some(200_000));
        check("1e5", Some(100_000));
        check("1E+06", Some(1_000_000));
        check("1.5e1", Some(15));
        check("524288.0", Some(524_288));
        check("10e-1", Some(1));
        check("0e999", Some(0));
    }

    #[test]
    fn refuses_what_is_no_exact_integer() {
        for text in [
            "", "-", "+", "e5", "1e", "1e+", "1e5.0", "1.", ".5", "1.5", "1e-1", "1e99", "1e9999",
            "abc", "0x10", "1 ", " 1", "1_000", "--1", "1e--5", "१", "NaN", "inf", "1e+05e1",
            "1.2.3",
        ] {
            check(text, None);
        }
        check(&"0".repeat(65), None);
    }

    #[test]
    fn json_numbers_are_read_where_exact() {
        let read = |text: &str| json_integer(&serde_json::from_str(text).unwrap());
        assert_eq!(read("1e+05"), Some(100_000));
        assert_eq!(read("1.0"), Some(1));
        assert_eq!(read("-3"), Some(-3));
        assert_eq!(read("1.5"), None);
        assert_eq!(read("1e300"), None);
        assert_eq!(read("18446744073709551615"), None);
    }

    proptest! {
        #[test]
        fn every_integer_survives_its_text(value in any::<i64>()) {
            check(&value.to_string(), Some(value));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            integer(&text);
        }
    }
}
