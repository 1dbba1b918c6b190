//! Figures as people read them.

/// A number of bytes, with a binary unit and at most one digit behind the point.
pub fn bytes(count: u64) -> String {
    const UNITS: [(&str, u32); 6] = [
        ("EiB", 60),
        ("PiB", 50),
        ("TiB", 40),
        ("GiB", 30),
        ("MiB", 20),
        ("KiB", 10),
    ];
    for (unit, shift) in UNITS {
        if count >> shift > 0 {
            return format!("{:.1} {unit}", count as f64 / (1_u64 << shift) as f64);
        }
    }
    format!("{count} B")
}

/// A duration of `ms` milliseconds, to about two digits.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `count` things, in words.
pub fn counted(count: u64, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1_572_864, "1.5 MiB");
        check(64 << 40, "64.0 TiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let check = |ms, text: &str| assert_eq!(duration(ms), text);
        check(0, "0 ms");
        check(999, "999 ms");
        check(1_500, "1.5 s");
        check(61_000, "1 m 1 s");
        check(7_380_000, "2 h 3 m");
    }

    #[test]
    fn one_thing_is_not_several() {
        assert_eq!(counted(1, "extent"), "1 extent");
        assert_eq!(counted(0, "extent"), "0 extents");
    }
}
