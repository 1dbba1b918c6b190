//! Medians and percentiles: what is left of many measurements.

use std::time::Duration;

/// The middle value, or the mean of the two in the middle; 0 for no values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest of the values, which are sorted, that at least `percent` of them do not exceed; zero for no values.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// The median of durations in any order.
pub fn median_duration(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    percentile(&durations, 50)
}

/// Megabytes (10^6 bytes) a second.
pub fn mb_per_second(bytes: u64, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds.max(1e-9)
}

/// Milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_of_any_order() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[4.0]), 4.0);
        assert_eq!(median(&[9.0, 1.0, 4.0]), 4.0);
        assert_eq!(median(&[9.0, 1.0, 4.0, 2.0]), 3.0);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Duration::from_millis(100));
        assert_eq!(percentile(&values, 99), Duration::from_millis(198));
        assert_eq!(percentile(&values, 100), Duration::from_millis(200));
        assert_eq!(percentile(&values[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&values[..3], 99), Duration::from_millis(3));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
        let unsorted = [7, 1, 3].map(Duration::from_millis).to_vec();
        assert_eq!(median_duration(unsorted), Duration::from_millis(3));
    }

    #[test]
    fn rates_are_decimal() {
        assert_eq!(mb_per_second(3_000_000, 2.0), 1.5);
        assert_eq!(millis(Duration::from_micros(1_500)), 1.5);
    }
}
