//! Block maps: which digest each block index of a completed snapshot has.
//!
//! A block map is a tree of immutable pages with a fixed depth of four levels and 128 slots a page
//! (DESIGN 2.1). It is named by its root page's digest: two maps are equal exactly when their roots are.
//! This crate is pure logic: pages come in through [`PageLoader`], and new pages go out as values.
//!
//! Deliberately absent: removing an entry (a snapshot never loses a block index that its base has),
//! storing pages, and remembering which maps exist.

mod cache;
mod diff;
mod page;
mod source;
#[cfg(test)]
mod testing;
mod update;
mod walk;

pub use cache::PageCache;
pub use diff::{Change, Diff, DiffLimit, diff};
pub use page::{EncodedPage, LEVELS, PAGE_BYTES_MAX, Page, PageError, SLOTS, empty_root};
pub use source::{Error, PageLoader, PageSource};
pub use update::{Update, Updated};
pub use walk::{Walk, get, walk};
