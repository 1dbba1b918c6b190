//! What requests may hold of the server's memory, and what a request says when it gets none.
//!
//! ```text
//! blocks        bodies of puts, of verified senders        a buffer each (intake.rs)
//! unverified    bodies of puts that must be hashed first   a buffer each, of a small pool
//! documents     JSON bodies beyond SMALL_DOCUMENT          DOCUMENT_UNIT each (body.rs)
//! answers       block data and pages of listings           in ANSWER_UNITs, from before they are read until they are sent
//! ```
//!
//! Everything else that a request holds is a few KiB, and the number of connections bounds that. A caller waits a moment for
//! its turn, since brief load is better waited out than told (SPEC C.6); beyond that it is told to come again, in words that
//! SDKs retry (SPEC 8.8).

use crate::error::ApiError;
use crate::response::Reply;
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{Admission, AdmissionLimits, Admitted};
use std::sync::Arc;
use types::{BLOCK_BYTES, Clock};

/// Callers in line for each place. A disk that takes 100 blocks a second serves the last in line of 8 × 112 within the wait.
const LINE: usize = 8;

/// Large documents being read at a time: 8 MiB of them.
const DOCUMENTS: usize = 32;

/// Bytes of a document that need no admission; those of SDKs are shorter, and 1,024 connections hold 16 MiB of them.
pub(crate) const SMALL_DOCUMENT: usize = 16 * 1024;

/// Seconds for which an answer's client may stand still while others wait. A client whose answer breaks off is told nothing, and
/// the SDKs leave it to their callers to read a block again.
const ANSWER_JUDGEMENTS: u32 = 5;

/// Bytes of an answer that are admitted together.
const ANSWER_UNIT: usize = 64 * 1024;

/// All that is admitted.
pub(crate) struct Admissions {
    pub(crate) blocks: Admission,
    pub(crate) unverified: Admission,
    pub(crate) documents: Admission,
    answers: Admission,
}

impl Admissions {
    /// Places for these many blocks of each kind on their way in, and as many on their way out.
    pub(crate) fn new(blocks: usize, unverified: usize, clock: &Arc<dyn Clock>) -> Admissions {
        let answers = (blocks + unverified) * BLOCK_BYTES / ANSWER_UNIT;
        let line = (blocks + unverified) * LINE;
        Admissions {
            blocks: admission(blocks, blocks * LINE, clock),
            unverified: admission(unverified, unverified * LINE, clock),
            documents: admission(DOCUMENTS, DOCUMENTS * LINE, clock),
            answers: Admission::new(
                AdmissionLimits {
                    judgements: ANSWER_JUDGEMENTS,
                    ..AdmissionLimits::fair(answers, line)
                },
                Arc::clone(clock),
            ),
        }
    }

    /// Memory for an answer of at most so many bytes.
    ///
    /// # Errors
    /// Throttled, when none came free in time.
    pub(crate) async fn answer(
        &self,
        key: &AccessKeyId,
        bytes: usize,
    ) -> Result<Admitted, ApiError> {
        self.answers
            .admit(key.as_str(), answer_units(bytes))
            .await
            .map_err(ApiError::from)
    }

    /// Each by its name.
    pub(crate) fn by_name(&self) -> [(&'static str, Admission); 4] {
        [
            ("blocks", self.blocks.clone()),
            ("unverified_blocks", self.unverified.clone()),
            ("documents", self.documents.clone()),
            ("answers", self.answers.clone()),
        ]
    }
}

/// A resource of so many units.
pub(crate) fn admission(units: usize, line: usize, clock: &Arc<dyn Clock>) -> Admission {
    Admission::new(AdmissionLimits::fair(units, line), Arc::clone(clock))
}

/// Ties memory that was admitted to the answer that fills it: it is given back when the answer's last byte has gone to the
/// system, or the connection has. The response carries the [`engine::Transfer`] as an extension.
pub(crate) fn held(reply: Reply, mut room: Admitted) -> Reply {
    let (mut head, data) = reply.into_parts();
    room.shrink(answer_units(data.len()));
    head.extensions.insert(Arc::clone(room.transfer()));
    Reply::from_parts(head, Bytes::from_owner(Held { data, _room: room }))
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
