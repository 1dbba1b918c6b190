//! What is said about a transfer, from what its meter shows: the text beside a bar, a line without one, and the last line.

use super::super::figures::{bytes, counted, duration};
use client::Reading;
use std::collections::VecDeque;
use std::time::Duration;
use types::BLOCK_BYTES;

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(10);

/// A server that gives no sign for so long is worth a word.
const SILENCE: Duration = Duration::from_secs(3);

/// How long a repeated request stays in view.
const REMEMBERED: Duration = Duration::from_secs(5);

/// What a command does, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wording {
    /// What is going on, such as `uploading`.
    pub doing: &'static str,
    /// What happened to the blocks that moved, such as `sent`.
    pub moved: &'static str,
}

impl Wording {
    /// A disk becomes a snapshot.
    pub const UPLOAD: Wording = Wording {
        doing: "uploading",
        moved: "sent",
    };
    /// A snapshot becomes a disk.
    pub const DOWNLOAD: Wording = Wording {
        doing: "downloading",
        moved: "received",
    };
    /// A disk and a snapshot are compared.
    pub const VERIFY: Wording = Wording {
        doing: "comparing",
        moved: "fetched",
    };
    /// A snapshot moves from one server to another.
    pub const COPY: Wording = Wording {
        doing: "copying",
        moved: "copied",
    };
    /// Two snapshots are compared.
    pub const DIFF: Wording = Wording {
        doing: "comparing",
        moved: "fetched",
    };
}

/// A reading, and when it was taken, since the transfer began.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Sample {
    at: Duration,
    reading: Reading,
}

/// The last seconds of a transfer.
#[derive(Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
    repeated_at: Option<Duration>,
    throttled_at: Option<Duration>,
    heard_at: Duration,
}

impl Pace {
    /// Notes a reading.
    pub fn note(&mut self, at: Duration, reading: Reading) {
        if let Some(last) = self.samples.back() {
            if reading.retries > last.reading.retries {
                self.repeated_at = Some(at);
            }
            if reading.throttled > last.reading.throttled {
                self.throttled_at = Some(at);
            }
            let signs = |reading: &Reading| (reading.bytes, reading.done, reading.in_flight);
            if signs(&reading) != signs(&last.reading) || reading.in_flight == 0 {
                self.heard_at = at;
            }
        }
        self.samples.push_back(Sample { at, reading });
        while self
            .samples
            .get(1)
            .is_some_and(|second| second.at + WINDOW < at)
        {
            self.samples.pop_front();
        }
    }

    /// What two counters did in the window, a second.
    fn rate(&self, of: impl Fn(&Reading) -> u64) -> f64 {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else {
            return 0.0;
        };
        let seconds = (last.at - first.at).as_secs_f64();
        if seconds <= 0.0 {
            return 0.0;
        }
        of(&last.reading).saturating_sub(of(&first.reading)) as f64 / seconds
    }

    /// How long what is left takes at the present pace, if that can be said.
    fn time_left(&self) -> Option<Duration> {
        let reading = self.samples.back()?.reading;
        let left = reading.total.checked_sub(reading.done)?;
        let rate = self.rate(|reading| reading.done);
        if rate <= 0.0 {
            return None;
        }
        Duration::try_from_secs_f64(left as f64 / rate).ok()
    }

    /// Bytes done of all, rate, and time left.
    pub fn headline(&self) -> String {
        let Some(Sample { reading, .. }) = self.samples.back() else {
            return String::new();
        };
        let done = bytes(reading.done * BLOCK_BYTES as u64);
        let mut text = match reading.total {
            0 => done,
            total => format!("{done} of {}", bytes(total * BLOCK_BYTES as u64)),
        };
        let rate = self.rate(|reading| reading.bytes);
        text.push_str(&format!(", {}/s", bytes(rate as u64)));
        if let Some(left) = self.time_left().filter(|_| reading.total > 0) {
            text.push_str(&format!(", {} left", duration(millis(left))));
        }
        text
    }

    /// What is skipped, what is on the way, and what goes wrong.
    pub fn details(&self) -> String {
        let Some(Sample { at, reading }) = self.samples.back() else {
            return String::new();
        };
        let mut parts = skipped(reading);
        if reading.in_flight > 0 {
            parts.push(format!("{} in flight", reading.in_flight));
        }
        let recent = |when: Option<Duration>| when.is_some_and(|when| when + REMEMBERED > *at);
        if recent(self.throttled_at) {
            parts.push(format!(
                "the server throttles, trying again ({})",
                counted(reading.throttled, "time")
            ));
        } else if recent(self.repeated_at) {
            parts.push(format!(
                "trying again ({})",
                counted(reading.retries, "time")
            ));
        }
        let silent = *at - self.heard_at;
        if silent >= SILENCE {
            parts.push(format!(
                "no sign of the server for {}",
                duration(millis(silent))
            ));
        }
        if reading.bad > 0 {
            parts.push(format!("{} lost", counted(reading.bad, "block")));
        }
        parts.join(", ")
    }

    /// One line for those who have no bar.
    pub fn line(&self, wording: Wording) -> String {
        let percent = self
            .samples
            .back()
            .and_then(|sample| (sample.reading.done * 100).checked_div(sample.reading.total))
            .map(|percent| format!(" {percent}%,"))
            .unwrap_or_default();
        let (headline, details) = (self.headline(), self.details());
        let comma = if details.is_empty() { "" } else { ", " };
        format!("{}:{percent} {headline}{comma}{details}", wording.doing)
    }
}

fn skipped(reading: &Reading) -> Vec<String> {
    [
        (reading.zero, "zeros skipped"),
        (reading.same, "the same"),
        (reading.by_digest, "known by digest"),
        (reading.zeroed, "zeroed"),
    ]
    .into_iter()
    .filter(|(blocks, _)| *blocks > 0)
    .map(|(blocks, what)| format!("{} {what}", bytes(blocks * BLOCK_BYTES as u64)))
    .collect()
}

/// What a transfer did, in one line.
pub fn summary(wording: Wording, reading: &Reading, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(0.001);
    let mut parts = vec![format!(
        "{} ({}) {} at {}/s",
        counted(reading.moved, "block"),
        bytes(reading.moved * BLOCK_BYTES as u64),
        wording.moved,
        bytes((reading.bytes as f64 / seconds) as u64)
    )];
    parts.extend(skipped(reading));
    if reading.bad > 0 {
        parts.push(format!("{} lost", counted(reading.bad, "block")));
    }
    let retries = match reading.retries {
        1 => "1 retry".to_owned(),
        count => format!("{count} retries"),
    };
    parts.push(match reading.throttled {
        0 => retries,
        throttled => format!("{retries} ({throttled} throttled)"),
    });
    if let (Some(p50), Some(p99)) = (reading.p50, reading.p99) {
        parts.push(format!("p50 {}, p99 {}", brief(p50), brief(p99)));
    }
    format!(
        "{} of {}: {}",
        duration(millis(took)),
        wording.doing,
        parts.join(", ")
    )
}

fn brief(time: Duration) -> String {
    match time.as_millis() {
        0..10 => format!("{:.1} ms", time.as_secs_f64() * 1e3),
        _ => duration(millis(time)),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A transfer that moves 10 blocks a second, seen for as many seconds.
    fn steady(count: u64) -> Pace {
        let mut pace = Pace::default();
        for second in 0..=count {
            pace.note(
                seconds(second),
                Reading {
                    total: 2048,
                    done: 10 * second,
                    bytes: 10 * second * BLOCK_BYTES as u64,
                    in_flight: 4,
                    ..Reading::default()
                },
            );
        }
        pace
    }

    #[test]
    fn the_headline_has_bytes_rate_and_time_left() {
        assert_eq!(
            steady(8).headline(),
            "40.0 MiB of 1.0 GiB, 5.0 MiB/s, 3 m 16 s left"
        );
        assert_eq!(steady(0).headline(), "0 B of 1.0 GiB, 0 B/s");
        assert_eq!(Pace::default().headline(), "");
    }

    #[test]
    fn the_rate_forgets_what_is_long_past() {
        let mut pace = steady(30);
        let last = pace.samples.back().expect("samples").reading;
        for second in 31..=50 {
            pace.note(seconds(second), last);
        }
        assert_eq!(pace.rate(|reading| reading.bytes), 0.0);
        assert!(pace.samples.len() < 15, "{}", pace.samples.len());
        assert!(pace.details().contains("no sign of the server for 20.0 s"));
    }

    #[test]
    fn skipping_repeating_and_losing_are_seen() {
        let mut pace = steady(1);
        let reading = Reading {
            zero: 4,
            same: 2,
            retries: 3,
            bad: 1,
            ..pace.samples.back().expect("samples").reading
        };
        pace.note(seconds(2), reading);
        assert_eq!(
            pace.details(),
            "2.0 MiB zeros skipped, 1.0 MiB the same, 4 in flight, trying again (3 times), 1 block lost"
        );
        let throttled = Reading {
            retries: 4,
            throttled: 1,
            ..reading
        };
        pace.note(seconds(3), throttled);
        assert!(
            pace.details()
                .contains("the server throttles, trying again (1 time)")
        );
        for second in 4..=9 {
            let bytes = throttled.bytes + second;
            pace.note(seconds(second), Reading { bytes, ..throttled });
        }
        assert!(!pace.details().contains("again"), "{}", pace.details());
    }

    #[test]
    fn a_line_has_it_all() {
        assert_eq!(
            steady(8).line(Wording::UPLOAD),
            "uploading: 3%, 40.0 MiB of 1.0 GiB, 5.0 MiB/s, 3 m 16 s left, 4 in flight"
        );
    }

    #[test]
    fn nothing_is_said_of_a_total_that_is_not_known() {
        let mut pace = Pace::default();
        let reading = Reading {
            done: 2,
            ..Reading::default()
        };
        pace.note(seconds(1), reading);
        assert_eq!(pace.line(Wording::UPLOAD), "uploading: 1.0 MiB, 0 B/s");
    }

    #[test]
    fn the_last_line_sums_up() {
        let reading = Reading {
            total: 2048,
            done: 2048,
            zero: 848,
            same: 600,
            moved: 600,
            bytes: 600 * BLOCK_BYTES as u64,
            retries: 2,
            throttled: 1,
            p50: Some(Duration::from_micros(4_200)),
            p99: Some(Duration::from_millis(31)),
            ..Reading::default()
        };
        assert_eq!(
            summary(Wording::UPLOAD, &reading, seconds(3)),
            "3.0 s of uploading: 600 blocks (300.0 MiB) sent at 100.0 MiB/s, 424.0 MiB zeros skipped, 300.0 MiB the same, \
             2 retries (1 throttled), p50 4.2 ms, p99 31 ms"
        );
    }
}
