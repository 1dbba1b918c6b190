//! Which answers are worth another attempt, and when (SPEC 5.5).

use crate::transport::Lost;
use crate::{Counter, Error, Meter, Refusal};
use std::time::Duration;
use types::Random;

/// Longest pause that is chosen by chance.
const PAUSE_MAX: Duration = Duration::from_secs(20);

/// Longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The first pause after throttling is up to this long, and twice that each time after.
const PAUSE_THROTTLED: Duration = Duration::from_millis(500);

/// The same after anything else.
const PAUSE: Duration = Duration::from_millis(50);

/// Names under which services ask to come again later (SPEC 5.5).
const THROTTLING: [&str; 14] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottleException",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Names of faults that pass.
const TRANSIENT: [&str; 2] = ["RequestTimeout", "RequestTimeoutException"];

/// The one validation error that is worth another attempt (SPEC 2.2).
const UNREAD: &str = "Failed to read block data";

/// Why an attempt brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// There was no answer.
    Lost(Lost),
    /// The answer is an error.
    Refused(Box<Refusal>),
    /// The answer is an error because our clock is off, which has been allowed for by now.
    Skewed(Box<Refusal>),
    /// The answer is none of this API.
    NotTheApi(String),
    /// Block data was damaged on the way.
    Corrupt(String),
    /// Nothing was sent.
    Unsent(Error),
}

/// What another attempt waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// The server has too much to do.
    Throttled,
    /// The server failed, or the way to it did.
    Failed,
    /// Nothing.
    AtOnce,
}

/// Whether an attempt that failed so is worth another one.
pub(crate) fn judge(failure: &Failure) -> Option<Again> {
    match failure {
        Failure::Lost(Lost::TooLong | Lost::Untrusted(_) | Lost::Unsendable(_)) => None,
        Failure::Lost(_) | Failure::Corrupt(_) => Some(Again::Failed),
        Failure::Skewed(_) => Some(Again::AtOnce),
        Failure::Refused(refusal) => judge_refusal(refusal),
        Failure::NotTheApi(_) | Failure::Unsent(_) => None,
    }
}

fn judge_refusal(refusal: &Refusal) -> Option<Again> {
    let code = refusal.code.as_str();
    if THROTTLING.contains(&code) || refusal.status == 429 || refusal.status == 509 {
        return Some(Again::Throttled);
    }
    let is_unread = code == "ValidationException" && refusal.message.starts_with(UNREAD);
    let passes = refusal.status >= 500 || refusal.status == 408 || TRANSIENT.contains(&code);
    (passes || is_unread).then_some(Again::Failed)
}

/// How long to wait before the attempt after `failed` ones: at random, so that callers spread, from a range that doubles.
pub(crate) fn pause(
    again: Again,
    failed: u32,
    retry_after_ms: Option<u64>,
    random: &Random,
) -> Duration {
    let base = match again {
        Again::Throttled => PAUSE_THROTTLED,
        Again::Failed => PAUSE,
        Again::AtOnce => return Duration::ZERO,
    };
    let doublings = failed.saturating_sub(1).min(16);
    let range = PAUSE_MAX.min(base * (1 << doublings));
    let part = (random.bits() >> 11) as f64 / (1u64 << 53) as f64;
    let asked = Duration::from_millis(retry_after_ms.unwrap_or(0)).min(RETRY_AFTER_MAX);
    range.mul_f64(part).max(asked)
}

/// The attempts of one request.
pub(crate) struct Tries<'a> {
    operation: &'static str,
    endpoint: &'a str,
    attempts_max: u32,
    random: &'a Random,
    meter: &'a Meter,
    failed: u32,
}

impl<'a> Tries<'a> {
    /// None so far.
    pub(crate) fn new(
        operation: &'static str,
        endpoint: &'a str,
        attempts_max: u32,
        random: &'a Random,
        meter: &'a Meter,
    ) -> Tries<'a> {
        Tries {
            operation,
            endpoint,
            attempts_max,
            random,
            meter,
            failed: 0,
        }
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// Returns when it is time for another attempt.
    ///
    /// # Errors
    /// Another attempt is of no use, or one too many.
    pub(crate) async fn after(&mut self, failure: Failure) -> Result<(), Error> {
        match judge(&failure) {
            Some(again) => self.again(again, failure).await,
            None => Err(self.last(failure)),
        }
    }

    async fn again(&mut self, again: Again, failure: Failure) -> Result<(), Error> {
        if self.failed + 1 >= self.attempts_max {
            self.failed += 1;
            return Err(self.exhausted(failure));
        }
        self.wait(again, failure).await;
        Ok(())
    }

    /// Returns when it is time for another attempt, however many there were.
    pub(crate) async fn wait(&mut self, again: Again, failure: Failure) {
        self.failed += 1;
        let retry_after_ms = match &failure {
            Failure::Refused(refusal) => refusal.retry_after_ms,
            _ => None,
        };
        let pause = pause(again, self.failed, retry_after_ms, self.random);
        tracing::debug!(
            operation = self.operation,
            failed = self.failed,
            pause_ms = pause.as_millis() as u64,
            "an attempt failed: {}",
            told(&failure)
        );
        self.meter.add(Counter::Retries, 1);
        if again == Again::Throttled {
            self.meter.add(Counter::Throttled, 1);
        }
        tokio::time::sleep(pause).await;
    }

    /// The error of a failure that is final.
    pub(crate) fn last(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(refusal) | Failure::Skewed(refusal) => Error::Refused(refusal),
            Failure::Lost(lost @ Lost::TooLong) => self.not_the_api(lost.to_string()),
            Failure::NotTheApi(reason) => self.not_the_api(reason),
            Failure::Unsent(error) => error,
            failure @ (Failure::Lost(_) | Failure::Corrupt(_)) => self.exhausted(failure),
        }
    }

    fn exhausted(&self, failure: Failure) -> Error {
        Error::Unreachable {
            operation: self.operation,
            endpoint: self.endpoint.to_owned(),
            attempts: self.failed.max(1),
            reason: told(&failure),
            refusal: match failure {
                Failure::Refused(refusal) | Failure::Skewed(refusal) => Some(refusal),
                _ => None,
            },
        }
    }

    fn not_the_api(&self, reason: String) -> Error {
        Error::NotTheApi {
            operation: self.operation,
            endpoint: self.endpoint.to_owned(),
            reason,
        }
    }
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Lost(lost) => lost.to_string(),
        Failure::Refused(refusal) | Failure::Skewed(refusal) => refusal.to_string(),
        Failure::NotTheApi(reason) | Failure::Corrupt(reason) => reason.clone(),
        Failure::Unsent(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str, message: &str) -> Failure {
        Failure::Refused(Box::new(Refusal {
            operation: "PutSnapshotBlock",
            status,
            code: code.to_owned(),
            reason: None,
            message: message.to_owned(),
            request_id: None,
            retry_after_ms: None,
        }))
    }

    #[test]
    fn the_table_of_the_guide_is_followed() {
        let check = |status, code, message, expected| {
            let found = judge(&refusal(status, code, message));
            assert_eq!(found, expected, "{status} {code} {message}");
        };
        let (failed, throttled) = (Some(Again::Failed), Some(Again::Throttled));
        check(500, "InternalServerException", "", failed);
        check(400, "ThrottlingException", "Rate exceeded", throttled);
        check(400, "RequestThrottledException", "", throttled);
        check(503, "RequestLimitExceeded", "", throttled);
        check(503, "SlowDown", "", throttled);
        check(429, "429", "", throttled);
        check(
            400,
            "ValidationException",
            "Failed to read block data",
            failed,
        );
        check(400, "ValidationException", "Block index 9 is beyond", None);
        check(408, "RequestTimeoutException", "", failed);
        check(400, "ConcurrentLimitExceededException", "", None);
        check(402, "ServiceQuotaExceededException", "", None);
        check(403, "AccessDeniedException", "", None);
        check(403, "InvalidSignatureException", "", None);
        check(404, "ResourceNotFoundException", "", None);
        check(409, "ConflictException", "", None);
    }

    #[test]
    fn pauses_are_spread_over_ranges_that_double() {
        let random = Random::seeded(3);
        let check = |again, failed, range_ms: f64| {
            let pauses =
                (0..1_000).map(|_| pause(again, failed, None, &random).as_secs_f64() * 1e3);
            let pauses: Vec<f64> = pauses.collect();
            let mean = pauses.iter().sum::<f64>() / 1e3;
            assert!((mean / range_ms - 0.5).abs() < 0.05, "{mean} of {range_ms}");
            assert!(pauses.iter().all(|pause| *pause <= range_ms));
        };
        check(Again::Failed, 1, 50.0);
        check(Again::Failed, 2, 100.0);
        check(Again::Failed, 9, 12_800.0);
        check(Again::Failed, 10, 20_000.0);
        check(Again::Failed, u32::MAX, 20_000.0);
        check(Again::Throttled, 1, 500.0);
        check(Again::Throttled, 6, 16_000.0);
        check(Again::Throttled, 7, 20_000.0);
        let asked = |millis| pause(Again::Throttled, 1, Some(millis), &random);
        assert_eq!(asked(3_000).as_millis(), 3_000);
        assert_eq!(asked(u64::MAX), RETRY_AFTER_MAX);
        assert!(asked(1) <= PAUSE_THROTTLED);
        assert_eq!(pause(Again::AtOnce, 1, Some(9), &random), Duration::ZERO);
    }
}
