//! The engine's bounds, each with its reason.

use std::time::Duration;

/// Puts in one catalog transaction: two statements of each kind, some milliseconds of the one writer.
pub(crate) const PUT_BATCH: usize = 256;

/// Put transactions under way: the next is gathered while one commits. A second one would wait for the same writer, and leave
/// with fewer puts in it.
pub(crate) const PUT_BATCHES_IN_FLIGHT: usize = 1;

/// Chunk look-ups in one read transaction.
pub(crate) const LOOKUP_BATCH: usize = 128;

/// Items that may wait for a batch; far more than the requests that a server admits.
pub(crate) const QUEUE: usize = 4096;

/// Times that a put tries again when the chunk that it relied on has gone. Each time it brings its own bytes, so
/// the second succeeds unless the store is failing.
pub(crate) const PUT_ATTEMPTS: u32 = 4;

/// Put entries that the finisher reads at a time: 480 KB of them.
pub(crate) const FINISHER_ENTRIES: u32 = 10_000;

/// Entries applied to the tree before the pages that this has made are stored: at most 3 MiB of them.
pub(crate) const FINISHER_RUN: usize = 256;

/// Pages that the finisher stores as one unit of I/O: about 1 MiB.
pub(crate) const FINISHER_PAGES: usize = 256;

/// Snapshots that are finished at a time.
pub(crate) const FINISHERS: usize = 2;

/// Rows that one transaction deletes of a finished snapshot's entries; puts go in between.
pub(crate) const PURGE_ROWS: u32 = 10_000;

/// Frames of one container freed at a time.
pub(crate) const FREES: u32 = 256;

/// Pages that one call of ListChangedBlocks may load; a call that ends early answers a page token.
pub(crate) const DIFF_PAGES: usize = 8_192;

/// How often pending snapshots are looked at: they expire within three of these after their deadline (SPEC 8.29).
pub(crate) const EXPIRY_INTERVAL: Duration = Duration::from_secs(20);

/// Rounds of the expiry between two looks at the client tokens: an hour.
pub(crate) const CLIENT_TOKEN_ROUNDS: u64 = 180;

/// Client tokens looked at in one transaction.
pub(crate) const CLIENT_TOKEN_PAGE: u32 = 500;

/// Snapshots looked at in one transaction of the expiry.
pub(crate) const EXPIRY_PAGE: u32 = 500;

/// Chunk records remembered: about 60 MB at most.
pub(crate) const CHUNK_CACHE: usize = 262_144;

/// Snapshot records remembered: a few MB.
pub(crate) const SNAPSHOT_CACHE: usize = 16_384;

/// First pause of a worker after a failure; doubles up to [`RETRY_PAUSE_MAX`].
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause of a worker after repeated failures.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a collection rests after each step, as a multiple of the step, while no request waits: it takes two thirds of a core at most.
pub(crate) const REST_WHEN_IDLE: f64 = 0.5;

/// The same while requests wait: it takes a tenth.
pub(crate) const REST_WHEN_BUSY: f64 = 9.0;

/// Longest rest after one step, so that a slow disk does not stop a collection for good.
pub(crate) const REST_MAX: Duration = Duration::from_secs(2);

/// A container of pages is compacted when less than this part of it is in use: copying costs no more than it frees.
pub(crate) const COMPACT_BELOW_PERCENT: u64 = 50;
