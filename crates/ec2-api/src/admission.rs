//! What calls may hold of the server's memory: large bodies, and answers from before they are made until they are sent.
//!
//! Everything else that a call holds is a few KiB, and the number of connections bounds that. A call that finds no place in
//! time is refused in words that SDKs retry (SPEC 7.1).

use crate::error::{ApiError, Code};
use crate::ops::Action;
use crate::page::ANSWER_BYTES_MAX;
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{Admission, AdmissionLimits, Admitted, Refused};
use std::sync::Arc;
use types::Clock;

/// Bytes of an answer that are admitted together.
const ANSWER_UNIT: usize = 64 * 1024;

/// Answers of the largest kind that are made or sent at a time: 64 MiB of them. Most are far smaller, which is known once they
/// are made.
const LARGE_ANSWERS: usize = 4;

/// Large bodies being read at a time: 8 MiB of them.
const BODIES: usize = 8;

/// Callers in line for each of the two; a call takes milliseconds.
const LINE: usize = 512;

/// Seconds for which an answer's client may stand still while others wait. A client whose answer breaks off sees a connection
/// that failed, not words to come again.
const ANSWER_JUDGEMENTS: u32 = 5;

/// All that is admitted.
pub(crate) struct Admissions {
    pub(crate) bodies: Admission,
    answers: Admission,
}

impl Admissions {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Admissions {
        let bodies = AdmissionLimits::fair(BODIES, LINE);
        let units = LARGE_ANSWERS * ANSWER_BYTES_MAX / ANSWER_UNIT;
        let answers = AdmissionLimits {
            judgements: ANSWER_JUDGEMENTS,
            ..AdmissionLimits::fair(units, LINE)
        };
        Admissions {
            bodies: Admission::new(bodies, Arc::clone(clock)),
            answers: Admission::new(answers, Arc::clone(clock)),
        }
    }

    /// Memory for the answer to a call.
    ///
    /// # Errors
    /// Throttled, when none came free in time.
    pub(crate) async fn answer(
        &self,
        key: &AccessKeyId,
        action: Action,
    ) -> Result<Admitted, ApiError> {
        let units = answer_units(action.answer_bytes_max());
        Ok(self.answers.admit(key.as_str(), units).await?)
    }

    /// Each by its name.
    pub(crate) fn by_name(&self) -> [(&'static str, Admission); 2] {
        [
            ("ec2_bodies", self.bodies.clone()),
            ("ec2_answers", self.answers.clone()),
        ]
    }
}

/// An answer and the memory that was admitted for it, which is given back when the last byte has gone to the system.
pub(crate) fn held(data: Bytes, mut room: Admitted) -> Bytes {
    room.shrink(answer_units(data.len()));
    Bytes::from_owner(Held { data, _room: room })
}

fn answer_units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(ANSWER_UNIT)).unwrap_or(u32::MAX)
}

struct Held {
    data: Bytes,
    _room: Admitted,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> ApiError {
        match refused {
            Refused::LineFull | Refused::TooLate => {
                ApiError::new(Code::RequestLimitExceeded, "Request limit exceeded.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;
    use tokio::time::advance;
    use types::TestClock;

    /// Judgements after which a transfer that stands still is cut for a caller in line.
    async fn judgements(admission: &Admission, clock: &TestClock) -> u32 {
        let mut held = Vec::new();
        for key in ["a", "b"] {
            while let Some(admitted) = admission.admit(key, 1).now_or_never() {
                held.push(admitted.expect("nobody is refused who need not wait"));
            }
        }
        for admitted in &held {
            admitted.transfer().start();
        }
        let mut waiting = pin!(admission.admit("c", 1));
        for passed in 0..10 {
            assert!(waiting.as_mut().now_or_never().is_none());
            if admission.counts().cut_silent > 0 {
                return passed;
            }
            clock.advance(AdmissionLimits::PRESSURE);
            advance(AdmissionLimits::PRESSURE).await;
        }
        panic!("nothing was cut");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_have_longer_than_bodies_since_their_clients_are_told_nothing() {
        let test = Arc::new(TestClock::at(0));
        let admissions = Admissions::new(&(Arc::clone(&test) as Arc<dyn Clock>));
        assert_eq!(judgements(&admissions.bodies, &test).await, 2);
        assert_eq!(judgements(&admissions.answers, &test).await, 5);
    }
}
