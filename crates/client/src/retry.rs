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
        Failure::Lost(Lost::TooLong | Lost::Unsendable(_)) => None,
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
