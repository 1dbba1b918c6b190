//! Reads one map: its entries from a position on, or a single one.
//!
//! A walk is the difference between nothing and the map, so it shares the traversal of [`crate::diff`], with its
//! read-ahead and its bounds: every page that it visits leads to an entry.

use types::{BlockIndex, Digest};

use crate::diff::{DiffLimit, compare};
use crate::page::{ROOT_LEVEL, slot_at};
use crate::source::{Error, PageLoader, PageSource};

/// A part of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Entries in ascending order.
    pub entries: Vec<(BlockIndex, Digest)>,
    /// The first entry of the map after `entries`, or the first block index of a page that cannot be loaded; `None` at the end.
    pub next: Option<BlockIndex>,
}

/// The first `limit` entries at or after `from` of the map named `root`.
///
/// Visits at most 3 pages for each entry and 10 more, however sparse the map and wherever `from` is. Ends early, behind at least one
/// entry, before a page that cannot be loaded: who resumes there meets the error.
pub async fn walk<L: PageLoader>(
    pages: &PageSource<L>,
    root: Digest,
    from: BlockIndex,
    limit: usize,
) -> Result<Walk, Error<L::Error>> {
    // One entry more than asked for tells whether, and where, the map goes on.
    let bounds = DiffLimit {
        changes: limit.saturating_add(1),
        pages: usize::MAX,
    };
    let found = compare(pages, None, Some(root), from, bounds).await?;
    let mut entries: Vec<_> = found
        .changes
        .into_iter()
        .filter_map(|change| Some((change.index, change.second?)))
        .collect();
    let next = entries.get(limit).map(|(index, _)| *index);
    let next = next.or(found.next);
    entries.truncate(limit);
    Ok(Walk { entries, next })
}

/// The digest of one block, or `None` when the map named `root` has no such entry.
///
/// Visits 4 pages, or fewer when the entry is absent.
pub async fn get<L: PageLoader>(
    pages: &PageSource<L>,
    root: Digest,
    index: BlockIndex,
) -> Result<Option<Digest>, Error<L::Error>> {
    let mut digest = root;
    for level in (0..=ROOT_LEVEL).rev() {
        let page = pages.page(digest, level).await?;
        match page.get(slot_at(level, index.get())) {
            Some(found) => digest = found,
            None => return Ok(None),
        }
    }
    Ok(Some(digest))
}

#[cfg(test)]
mod tests;
