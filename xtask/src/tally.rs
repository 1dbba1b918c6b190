//! How many tests passed, failed and were skipped, read from the summaries of four test runners.

use std::fmt;
use std::ops::AddAssign;

/// Counts of one suite, or of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed, ended by a signal or ran out of time.
    pub failed: u64,
    /// Tests that said they cannot run here.
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// The runners whose output is understood.
#[derive(Clone, Copy, Debug)]
pub enum Runner {
    /// `cargo nextest run`: one `Summary` line.
    Nextest,
    /// `cargo test`: a `test result:` line for each binary.
    CargoTest,
    /// pytest: counts on the last line.
    Pytest,
    /// `node --test`: one line for each count.
    Node,
}

impl Tally {
    /// Reads a runner's output. A run without any summary, or one that ended badly without naming a
    /// failed test, counts as one failure: silence is never success.
    pub fn read(runner: Runner, output: &str, success: bool) -> Tally {
        let mut tally = match runner {
            Runner::Nextest => last(output, nextest_line),
            Runner::CargoTest => sum(output, cargo_test_line),
            Runner::Pytest => last(output, pytest_line),
            Runner::Node => sum(output, node_line),
        };
        let empty = tally == Tally::default();
        if tally.failed == 0 && (!success || empty) {
            tally.failed = 1;
        }
        tally
    }
}

fn last(output: &str, line: fn(&str) -> Option<Tally>) -> Tally {
    output
        .lines()
        .filter_map(line)
        .next_back()
        .unwrap_or_default()
}

fn sum(output: &str, line: fn(&str) -> Option<Tally>) -> Tally {
    let mut total = Tally::default();
    for tally in output.lines().filter_map(line) {
        total += tally;
    }
    total
}

/// `Summary [   1.234s] 10 tests run: 8 passed (1 slow), 1 failed, 1 timed out, 2 skipped`
fn nextest_line(line: &str) -> Option<Tally> {
    let rest = line.trim_start().strip_prefix("Summary [")?;
    let (_, counts) = rest.split_once("run:")?;
    Some(counted(counts))
}

/// `test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
fn cargo_test_line(line: &str) -> Option<Tally> {
    let rest = line.trim_start().strip_prefix("test result: ")?;
    let (_, counts) = rest.split_once(". ")?;
    Some(counted(counts))
}

/// `=== 1 failed, 8 passed, 2 skipped, 1 error in 3.21s ===`, with or without the rulers
fn pytest_line(line: &str) -> Option<Tally> {
    let line = line.trim_matches(|c| c == '=' || c == ' ');
    let (counts, time) = line.rsplit_once(" in ")?;
    if !time.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let tally = counted(counts);
    (tally != Tally::default()).then_some(tally)
}

/// `# pass 8` or `ℹ pass 8`
fn node_line(line: &str) -> Option<Tally> {
    let rest = line
        .strip_prefix("# ")
        .or_else(|| line.strip_prefix("ℹ "))?;
    let (word, count) = rest.split_once(' ')?;
    let count = count.trim().parse().ok()?;
    let mut tally = Tally::default();
    match word {
        "pass" => tally.passed = count,
        "fail" | "cancelled" => tally.failed = count,
        "skipped" | "todo" => tally.skipped = count,
        _ => return None,
    }
    Some(tally)
}

/// Adds up the `<number> <word>` pairs of a summary.
fn counted(text: &str) -> Tally {
    let mut tally = Tally::default();
    let outside_brackets = text
        .split('(')
        .map(|part| part.split_once(')').map_or(part, |p| p.1));
    let text: String = outside_brackets.collect::<Vec<_>>().join(" ");
    for part in text.split([',', ';']) {
        let mut words = part.split_whitespace();
        let Some(Ok(count)) = words.next().map(str::parse::<u64>) else {
            continue;
        };
        match words.next() {
            Some("passed" | "xpassed") => tally.passed += count,
            Some("failed" | "error" | "errors" | "timed" | "exec") => tally.failed += count,
            Some("skipped" | "ignored" | "xfailed") => tally.skipped += count,
            _ => {}
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, output: &str, success: bool, counts: (u64, u64, u64)) {
        let (passed, failed, skipped) = counts;
        assert_eq!(
            Tally::read(runner, output, success),
            Tally {
                passed,
                failed,
                skipped
            }
        );
    }

    #[test]
    fn nextest_summaries() {
        let ok =
            "noise\n     Summary [   0.012s] 3 tests run: 3 passed (1 slow, 1 leaky), 0 skipped";
        check(Runner::Nextest, ok, true, (3, 0, 0));
        let bad = "Summary [ 1.2s] 9 tests run: 6 passed, 2 failed, 1 timed out, 4 skipped\n";
        check(Runner::Nextest, bad, false, (6, 3, 4));
        let cut = "Summary [ 1.2s] 5/9 tests run: 4 passed, 1 failed, 0 skipped\n";
        check(Runner::Nextest, cut, false, (4, 1, 0));
    }

    #[test]
    fn cargo_test_results_are_added_up() {
        let output = "\
test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        check(Runner::CargoTest, output, false, (9, 2, 1));
    }

    #[test]
    fn pytest_last_lines() {
        let ruled = "=========== 1 failed, 8 passed, 2 skipped, 1 error in 63.21s (0:01:03) ======";
        check(Runner::Pytest, ruled, false, (8, 2, 2));
        check(Runner::Pytest, "12 passed in 1.00s", true, (12, 0, 0));
    }

    #[test]
    fn node_counts() {
        let output =
            "# tests 4\n# suites 0\n# pass 2\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0";
        check(Runner::Node, output, false, (2, 1, 1));
        check(
            Runner::Node,
            "ℹ pass 5\nℹ fail 0\nℹ duration_ms 12.5",
            true,
            (5, 0, 0),
        );
    }

    #[test]
    fn silence_is_a_failure() {
        for runner in [
            Runner::Nextest,
            Runner::CargoTest,
            Runner::Pytest,
            Runner::Node,
        ] {
            check(runner, "", true, (0, 1, 0));
            check(runner, "error: could not compile", false, (0, 1, 0));
        }
        check(Runner::Pytest, "3 passed in 1.0s", false, (3, 1, 0));
    }
}
