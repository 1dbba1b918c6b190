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

/// All that is admitted.
pub(crate) struct Admissions {
    pub(crate) bodies: Admission,
    answers: Admission,
}

impl Admissions {
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Admissions {
        let admission =
            |units| Admission::new(AdmissionLimits::fair(units, LINE), Arc::clone(clock));
        Admissions {
            bodies: admission(BODIES),
            answers: admission(LARGE_ANSWERS * ANSWER_BYTES_MAX / ANSWER_UNIT),
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
