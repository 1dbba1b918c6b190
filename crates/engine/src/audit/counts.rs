//! Counts the entries of block maps. A page that many maps share is counted once, as long as memory for it lasts.

use super::{Audit, Fault};
use crate::touched::load_pages;
use blockmap::{LEVELS, Page, empty_root};
use std::collections::{BTreeSet, HashMap};
use types::{Digest, Domain};

/// Counts remembered: about 40 MB. Leaves get half of it: one inner page that is remembered spares all of its leaves.
const COUNTS_MAX: usize = 500_000;
const LEAVES_MAX: usize = COUNTS_MAX / 2;

/// What has been counted.
#[derive(Default)]
pub(super) struct Counts {
    known: HashMap<(Domain, Digest), u32>,
    leaves: usize,
}

/// A page whose children are being counted.
struct Open {
    page: Digest,
    level: u8,
    children: std::vec::IntoIter<Digest>,
    loaded: HashMap<Digest, Result<Page, String>>,
    /// Nothing when a page below cannot be read.
    count: Option<u32>,
}

impl Counts {
    /// The entries of a map; nothing when one of its pages cannot be read.
    pub(super) async fn of_map(
        &mut self,
        audit: &Audit,
        domain: Domain,
        root: Digest,
    ) -> Result<Option<u32>, Fault> {
        let mut stack = vec![self.open(audit, domain, root, LEVELS, vec![root]).await?];
        while let Some(open) = stack.last_mut() {
            let Some(digest) = open.children.next() else {
                let done = stack.pop().expect("it is the last");
                let Some(parent) = stack.last_mut() else {
                    return Ok(done.count);
                };
                parent.add(done.count);
                if let Some(count) = done.count {
                    self.remember(domain, done.page, done.level, count);
                }
                continue;
            };
            let level = open.level - 1;
            if let Some(count) = self.known(domain, digest) {
                open.add(Some(count));
                continue;
            }
            let page = match open.loaded.get(&digest) {
                Some(Ok(page)) => page,
                Some(Err(_)) | None => {
                    open.add(None);
                    continue;
                }
            };
            if level == 0 {
                let count = page.slots().len() as u32;
                open.add(Some(count));
                self.remember(domain, digest, level, count);
                continue;
            }
            let children = page.slots().map(|(_, child)| child).collect();
            stack.push(self.open(audit, domain, digest, level, children).await?);
        }
        Ok(None)
    }

    async fn open(
        &self,
        audit: &Audit,
        domain: Domain,
        page: Digest,
        level: u8,
        children: Vec<Digest>,
    ) -> Result<Open, Fault> {
        let unknown: BTreeSet<Digest> = children
            .iter()
            .filter(|child| self.known(domain, **child).is_none())
            .copied()
            .collect();
        let (db, chunks) = (&*audit.db, &*audit.chunks);
        Ok(Open {
            page,
            level,
            children: children.into_iter(),
            loaded: load_pages(db, chunks, domain, level - 1, unknown).await?,
            count: Some(0),
        })
    }

    fn known(&self, domain: Domain, page: Digest) -> Option<u32> {
        if page == empty_root().digest {
            return Some(0);
        }
        self.known.get(&(domain, page)).copied()
    }

    fn remember(&mut self, domain: Domain, page: Digest, level: u8, count: u32) {
        let is_leaf = level == 0;
        let full = self.known.len() >= COUNTS_MAX || (is_leaf && self.leaves >= LEAVES_MAX);
        if !full && self.known.insert((domain, page), count).is_none() && is_leaf {
            self.leaves += 1;
        }
    }
}

impl Open {
    fn add(&mut self, count: Option<u32>) {
        self.count = self.count.zip(count).map(|(sum, count)| sum + count);
    }
}
