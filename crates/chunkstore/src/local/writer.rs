//! A writer thread: takes what waits, writes it with one positioned write, syncs once, and answers.
//!
//! Two of these run per store, so that one batch is written while another is being synced.
//!
//! Invariants
//! - W1: a job is answered with success only after its bytes were written and a sync that began later went well, and
//!   no other batch on the segment had failed by then.
//! - W2: nothing that failed is tried again; its place is never given out again.
//!
//! Safety
//! - A failed write-back is reported once per open file description. Each thread opens segments for itself, so neither
//!   can be told "durable" because the other has taken the error.
//!
//! A block in aligned memory is written from where it lies, behind a header from a buffer of this thread; anything else
//! (compressed blocks, pages) is copied into an aligned buffer first.

use super::allocator::{Allocator, Placement};
use super::io::SegmentWriter;
use super::queue::{Job, Queue};
use super::shared::Shared;
use crate::encode::Encoded;
use crate::frame::{BLOCK_ALIGNMENT, HEADER_BYTES, Packing};
use crate::{ContainerId, ContainerKind, Error, Location, Stored};
use buffers::{Aligned, is_aligned};
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

/// Frames in one batch of blocks: a header and a payload each, and Linux writes 1,024 parts at a time.
pub(crate) const BATCH_FRAMES_MAX: usize = 512;

/// Bytes in one batch: enough that the sync is cheap beside the write, little enough that those who wait for the next
/// one do not wait long.
pub(crate) const BATCH_BYTES_MAX: u64 = 16 << 20;

const HEADER_BLOCK: usize = BLOCK_ALIGNMENT as usize;

pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    allocator: Arc<Allocator>,
    batch_bytes_max: u64,
    /// This thread's own handles, of the last segment of each kind.
    blocks_file: Option<(ContainerId, Arc<dyn SegmentWriter>)>,
    pages_file: Option<(ContainerId, Arc<dyn SegmentWriter>)>,
    /// Headers of block frames, 4 KiB each, zeros behind the header.
    headers: Aligned,
    /// What had to be copied.
    copies: Aligned,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        allocator: Arc<Allocator>,
        batch_bytes_max: u64,
    ) -> Writer {
        Writer {
            shared,
            queue,
            allocator,
            batch_bytes_max,
            blocks_file: None,
            pages_file: None,
            headers: Aligned::zeroed(BATCH_FRAMES_MAX * HEADER_BLOCK),
            copies: Aligned::zeroed(usize::try_from(batch_bytes_max).unwrap_or(usize::MAX)),
        }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(jobs) = self
            .queue
            .next_batch(self.batch_bytes_max, BATCH_FRAMES_MAX)
        {
            self.serve(jobs);
        }
    }

    /// Works off what waits now.
    pub(crate) fn run_waiting(&mut self) {
        while let Some(jobs) = self
            .queue
            .waiting_batch(self.batch_bytes_max, BATCH_FRAMES_MAX)
        {
            self.serve(jobs);
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let outcome = self.store(&jobs);
        if outcome.is_err() {
            self.shared.metrics.batches_failed.add(1);
        }
        answer(jobs, outcome);
    }

    /// Makes the jobs durable; answers where each frame is.
    fn store(&mut self, jobs: &[Job]) -> Result<Vec<Location>, Error> {
        let kind = jobs[0].kind;
        self.shared.check_space(kind)?;
        let frames: Vec<&Encoded> = jobs.iter().flat_map(|job| &job.frames).collect();
        let bytes = batch_bytes(kind, &frames);
        let placement = self.allocator.place(kind, bytes)?;
        let (locations, parts) = self.lay_out(kind, &frames, &placement);
        let written = self.write(kind, &frames, &parts, &placement);
        let (durable, next) = placement.segment.finish(written.is_ok());
        self.allocator.after(&placement.segment, next);
        if let Err(error) = written {
            self.shared.metrics.segments_failed.add(1);
            tracing::error!(
                segment = placement.segment.id.0,
                error = &error as &dyn std::error::Error,
                "a batch failed; its segment takes no more"
            );
            return Err(error);
        }
        if !durable {
            let source = std::io::Error::other("another batch on this segment failed");
            return Err(Error::Io {
                operation: "syncing a segment",
                source,
            });
        }
        let metrics = &self.shared.metrics;
        metrics.frames.add(frames.len() as u64);
        metrics.batch_frames.see(frames.len() as u64);
        metrics.written_bytes.add(bytes);
        Ok(locations)
    }

    /// Fills this thread's buffers; answers where each frame will be and which parts make up the write.
    fn lay_out(
        &mut self,
        kind: ContainerKind,
        frames: &[&Encoded],
        placement: &Placement,
    ) -> (Vec<Location>, Vec<Part>) {
        let packing = Packing::of(kind);
        let mut locations = Vec::with_capacity(frames.len());
        let mut parts = Vec::with_capacity(2 * frames.len());
        let mut offset = placement.offset;
        let mut copied = 0;
        for (number, frame) in frames.iter().enumerate() {
            let header = frame.header(placement.segment.id, offset, packing);
            let encoded = header.encode(&self.shared.key);
            match packing {
                Packing::Punchable => {
                    let at = number * HEADER_BLOCK;
                    self.headers.as_mut_slice()[at..at + HEADER_BYTES].copy_from_slice(&encoded);
                    parts.push(Part::Header(at..at + HEADER_BLOCK));
                    if is_aligned(&frame.stored) {
                        parts.push(Part::Payload(number));
                    } else {
                        parts.push(Part::Copy(self.copy(
                            &mut copied,
                            &frame.stored,
                            BLOCK_ALIGNMENT,
                        )));
                    }
                }
                Packing::Packed => {
                    let start = copied;
                    self.copy(&mut copied, &encoded, 1);
                    self.copy(&mut copied, &frame.stored, packing.alignment());
                    parts.push(Part::Copy(start..copied));
                }
            }
            locations.push(header.location());
            offset += u64::from(header.location().length);
        }
        if packing == Packing::Packed {
            // The pack is one part, since its frames follow each other in the buffer.
            self.copy(&mut copied, &[], BLOCK_ALIGNMENT);
            parts = vec![Part::Copy(0..copied)];
        }
        (locations, parts)
    }

    /// Appends bytes to the buffer of copies, and zeros up to the alignment; answers where they are.
    fn copy(&mut self, copied: &mut usize, bytes: &[u8], alignment: u32) -> Range<usize> {
        let start = *copied;
        let end = start + bytes.len();
        let aligned = end.next_multiple_of(alignment as usize);
        let memory = self.copies.as_mut_slice();
        memory[start..end].copy_from_slice(bytes);
        memory[end..aligned].fill(0);
        *copied = aligned;
        start..aligned
    }

    fn write(
        &mut self,
        kind: ContainerKind,
        frames: &[&Encoded],
        parts: &[Part],
        placement: &Placement,
    ) -> Result<(), Error> {
        let file = self.file(kind, placement)?;
        let mut slices: Vec<IoSlice<'_>> = parts
            .iter()
            .map(|part| match part {
                Part::Header(range) => &self.headers.as_slice()[range.clone()],
                Part::Copy(range) => &self.copies.as_slice()[range.clone()],
                Part::Payload(number) => &frames[*number].stored[..],
            })
            .filter(|part| !part.is_empty())
            .map(IoSlice::new)
            .collect();
        let shared = &self.shared;
        let written = file.write_at(&mut slices, placement.offset);
        written.map_err(|source| shared.io_error("writing frames", source))?;
        let began = shared.clock.monotonic();
        file.sync()
            .map_err(|source| shared.io_error("syncing a segment", source))?;
        shared
            .metrics
            .sync_micros
            .see_micros(shared.clock.monotonic().saturating_sub(began));
        Ok(())
    }

    fn file(
        &mut self,
        kind: ContainerKind,
        placement: &Placement,
    ) -> Result<Arc<dyn SegmentWriter>, Error> {
        let held = match kind {
            ContainerKind::Blocks => &mut self.blocks_file,
            ContainerKind::Pages => &mut self.pages_file,
        };
        if let Some((id, file)) = held
            && *id == placement.segment.id
        {
            return Ok(Arc::clone(file));
        }
        let opened = self.shared.io.open_writer(&placement.segment.name());
        let file = opened.map_err(|source| self.shared.io_error("opening a segment", source))?;
        *held = Some((placement.segment.id, Arc::clone(&file)));
        Ok(file)
    }
}

impl Drop for Writer {
    /// A writer that panicked leaves callers that nobody would answer.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.abort();
        }
    }
}

/// A piece of the write, in order.
enum Part {
    /// Of the header buffer.
    Header(Range<usize>),
    /// Of the buffer of copies.
    Copy(Range<usize>),
    /// The stored bytes of this frame, from where they lie.
    Payload(usize),
}

/// Bytes that these frames take together; a pack ends at a multiple of 4 KiB.
fn batch_bytes(kind: ContainerKind, frames: &[&Encoded]) -> u64 {
    let packing = Packing::of(kind);
    let bytes: u64 = frames.iter().map(|frame| frame.frame_bytes(packing)).sum();
    bytes.next_multiple_of(u64::from(BLOCK_ALIGNMENT))
}

/// Tells each job its part of the outcome. A caller that has gone away needs no answer.
fn answer(jobs: Vec<Job>, outcome: Result<Vec<Location>, Error>) {
    match outcome {
        Ok(locations) => {
            let mut locations = locations.into_iter();
            for job in jobs {
                let stored: Vec<Stored> = job
                    .frames
                    .iter()
                    .zip(&mut locations)
                    .map(|(frame, location)| frame.stored_at(location))
                    .collect();
                let _ = job.answer.send(Ok(stored));
            }
        }
        Err(error) => {
            for job in jobs {
                let _ = job.answer.send(Err(error.repeat()));
            }
        }
    }
}
