//! Block maps: which digest each block index of a completed snapshot has.
//!
//! A block map is a tree of immutable pages with a fixed depth of four levels and 128 slots a page
//! (DESIGN 2.1). It is named by its root page's digest: two maps are equal exactly when their roots are.
//! This crade is pure logic: pages come in through [`PageLoader`], and new pages go out as values.

mod diff;
mod page;
mod source;
mod update;
mod walk;

pub use diff::{Change, Diff, DiffLimit, diff};
pub use page::{EncodedPage, LEVELS, PAGE_BYTES_MAX, Page, PageError, SLOTS, empty_root};
pub use source::{Error, PageCache, PageLoader, PageSource};
pub use update::{Update, Updated};
pub use walk::{Walk, get, walk};
