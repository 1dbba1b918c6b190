//! Files of block digests: what an interrupted transfer has moved, and what a whole disk holds.
//!
//! One format for state files of uploads and downloads and for digest files. It is only ever appended to, so that a kill at any
//! moment costs the last record at most.
//!
//! ```text
//! offset    size  field
//!      0       n  header: "drystone-blocks 1 ", a JSON object of whoever writes the file, a line feed; at most 64 KiB
//!      n  40 * r  records
//!
//! record:
//!      0       4  bits 0 to 26: block index
//!                 bits 27 to 31: 0 the block holds this content
//!                                1 the block is about to change: what it holds is not known
//!                                2 a mark: here a new run begins; block index and digest are zero
//!      4      32  SHA-256 of the content, zeros where it is not known
//!     36       4  checksum: low 32 bits of XXH3-128 of bytes 0 to 35, seeded with s + the record's number in the file,
//!                 where s is the low 64 bits of XXH3-128 of the header
//! ```
//!
//! Integers are little-endian. Golden file: `testdata/blocks_v1.hex`. Version 1 is the only one.
//!
//! Records are appended in the order in which blocks are done with, which is nearly that of their indexes: within a **run** no
//! record stands more than [`WINDOW`] records later than sorting would place it. Whoever goes on with a file begins a new run, and
//! so does the writer itself when a block was overtaken by too many. Thus a file of any length is read in index order by a merge of
//! its runs, each through a heap of [`WINDOW`] records; where runs disagree on a block the later one is right.
//!
//! Invariants
//! - A file has at most [`RUNS_MAX`] runs: before it gets another, it is written anew as a single one, under another name first.
//! - A record is believed only when its checksum fits its place in this very file. Reading ends before the first that does not, and
//!   going on cuts off what follows: a lost record costs moving a block again.
//! - A file that is none of ours is never replaced, and none that is not ours any more is removed.
//! - Nothing is written to a file that another user made, nor through a link.
//! - Files can be read and written by their owner alone: digests tell what a disk holds.

#[cfg(any(test, feature = "test-support"))]
mod any_bytes;
mod append;
mod header;
mod merge;
mod record;

#[cfg(feature = "test-support")]
pub use any_bytes::any_journal_bytes;
pub(crate) use append::{DigestFile, Journal, check_distinct, check_replaceable, remove};
pub(crate) use header::DigestHeader;
pub(crate) use merge::{Entry, Records};

/// How far out of order the records of a run may stand.
pub(crate) const WINDOW: usize = 4_096;

/// Most runs of a file. What a merge holds in memory is [`WINDOW`] records for each: 12 MiB.
const RUNS_MAX: usize = 64;

#[cfg(test)]
mod tests;
