//! Appending: a batch becomes parts that each fit into one write, and is stored when all of them are.

use super::writer::BATCH_FRAMES_MAX;
use super::{Hands, LocalStore};
use crate::encode::Encoded;
use crate::frame::{self, Packing};
use crate::{ContainerKind, Error, NewChunk, Stored};
use std::sync::PoisonError;

impl LocalStore {
    pub(super) async fn append_batch(&self, batch: Vec<NewChunk>) -> Result<Vec<Stored>, Error> {
        let count = batch.len();
        let encoded = match &self.hands {
            Hands::Threads(_) => self.encoding.encode(batch).await?,
            Hands::Caller(_) => self.encoding.encode_here(&batch),
        };
        let mut waiting = Vec::new();
        for part in self.split(encoded) {
            let Part {
                kind,
                numbers,
                frames,
                bytes,
            } = part;
            waiting.push((numbers, self.queue.push(kind, frames, bytes).await?));
            self.lend_a_hand().await;
        }
        let mut stored: Vec<Option<Stored>> = vec![None; count];
        for (numbers, receiver) in waiting {
            let ended = |_| Error::Closed {
                reason: "its writer has ended".to_owned(),
            };
            for (number, one) in numbers.into_iter().zip(receiver.await.map_err(ended)??) {
                stored[number] = Some(one);
            }
        }
        Ok(stored
            .into_iter()
            .map(|one| one.expect("each chunk is in one part"))
            .collect())
    }

    /// Without threads of its own, the store writes on those of its callers. Others may join the batch before.
    async fn lend_a_hand(&self) {
        if let Hands::Caller(writer) = &self.hands {
            tokio::task::yield_now().await;
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.run_waiting();
        }
    }

    /// Parts that each fit into one write: of one kind, of bounded size, in order.
    fn split(&self, encoded: Vec<Encoded>) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        for (number, frame) in encoded.into_iter().enumerate() {
            let kind = frame::container_kind(frame.chunk.kind);
            let bytes = frame.frame_bytes(Packing::of(kind));
            let fits = |part: &&mut Part| {
                part.kind == kind
                    && part.bytes + bytes <= self.batch_bytes_max
                    && part.frames.len() < BATCH_FRAMES_MAX
            };
            match parts
                .iter_mut()
                .rev()
                .find(|part| part.kind == kind)
                .filter(fits)
            {
                Some(part) => {
                    part.numbers.push(number);
                    part.frames.push(frame);
                    part.bytes += bytes;
                }
                None => {
                    let (numbers, frames) = (vec![number], vec![frame]);
                    parts.push(Part {
                        kind,
                        numbers,
                        frames,
                        bytes,
                    });
                }
            }
        }
        parts
    }
}

/// Chunks of one batch that are written together.
struct Part {
    kind: ContainerKind,
    /// Their places in the caller's batch.
    numbers: Vec<usize>,
    frames: Vec<Encoded>,
    bytes: u64,
}
