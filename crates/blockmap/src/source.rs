//! Where pages come from: the caller's loader, behind checks and the cache.
//!
//! Invariants
//! - A page that leaves here has the digest that was asked for, is canonical, and is of the level of its place.
//! - The loader is asked for 1 to [`BATCH_MAX`] distinct pages at a time.
//! - The root of an empty map is never asked for, so nobody needs to store it.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::Poll;

use bytes::Bytes;
use types::Digest;

use crate::cache::PageCache;
use crate::page::{Page, PageError, empty_root};

/// Pages that one call of a loader is asked for at most: half a megabyte, and the children of one page.
pub(crate) const BATCH_MAX: usize = 128;

/// Who takes more pages than this lets other tasks run first: so many take 50 µs to verify, and as long to use.
const YIELD_ABOVE: usize = 16;

/// Gives the bytes of stored pages.
///
/// A trait, because the engine finds pages through catalog and chunk store, which this crate does not know, and
/// tests keep them in a map.
pub trait PageLoader: Send + Sync {
    /// Why pages could not be loaded; a page that is missing is such an error, too.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The bytes of these pages, one for each and in this order.
    ///
    /// `pages` holds 1 to 128 distinct digests, so that an implementation can batch its look-ups. Nothing needs to be
    /// verified here. Loading may be repeated, and be abandoned at any point.
    fn load(
        &self,
        pages: &[Digest],
    ) -> impl Future<Output = Result<Vec<Bytes>, Self::Error>> + Send;
}

/// Why a block map could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The loader failed.
    #[error("load pages of a block map")]
    Load(#[source] E),
    /// A page was loaded, but it is not what its name or place says.
    #[error("page {page} is damaged")]
    Damaged {
        /// The page that was asked for.
        page: Digest,
        /// What is wrong with the bytes.
        #[source]
        reason: PageError,
    },
}

/// Verified pages by digest: a loader with a cache before it.
#[derive(Clone, Debug)]
pub struct PageSource<L> {
    loader: L,
    cache: Arc<PageCache>,
}

impl<L: PageLoader> PageSource<L> {
    /// Pages of `loader`, kept in `cache`, which other sources may share.
    pub fn new(loader: L, cache: Arc<PageCache>) -> PageSource<L> {
        PageSource { loader, cache }
    }

    /// The loader that was given.
    pub fn loader(&self) -> &L {
        &self.loader
    }

    /// The page named `digest`, which its place in the tree says is of `level`.
    pub async fn page(&self, digest: Digest, level: u8) -> Result<Arc<Page>, Error<L::Error>> {
        let mut pages = self.pages(&[digest], level).await?;
        Ok(pages.pop().expect("as many pages as digests"))
    }

    /// The pages named by `digests`, in that order, each loaded at most once; all are of `level`.
    pub async fn pages(
        &self,
        digests: &[Digest],
        level: u8,
    ) -> Result<Vec<Arc<Page>>, Error<L::Error>> {
        let found: Vec<_> = digests.iter().map(|digest| self.known(*digest)).collect();
        let mut missing = HashMap::new();
        let mut wanted = Vec::new();
        for (digest, _) in digests
            .iter()
            .zip(&found)
            .filter(|(_, page)| page.is_none())
        {
            missing.entry(*digest).or_insert_with(|| {
                wanted.push(*digest);
                None
            });
        }
        for batch in wanted.chunks(BATCH_MAX) {
            let loaded = self.loader.load(batch).await.map_err(Error::Load)?;
            assert_eq!(loaded.len(), batch.len(), "a loader answers for each page");
            for (digest, bytes) in batch.iter().zip(loaded) {
                let page = verify(*digest, &bytes)?;
                self.cache.insert(*digest, Arc::clone(&page));
                missing.insert(*digest, Some(page));
            }
        }
        let mut pages = Vec::with_capacity(digests.len());
        for (digest, known) in digests.iter().zip(found) {
            let page = known
                .or_else(|| missing.get(digest).cloned().flatten())
                .expect("every page was found or loaded");
            if page.level() != level {
                let reason = PageError::Misplaced {
                    expected: level,
                    found: page.level(),
                };
                return Err(Error::Damaged {
                    page: *digest,
                    reason,
                });
            }
            pages.push(page);
        }
        if digests.len() > YIELD_ABOVE {
            let_others_run().await;
        }
        Ok(pages)
    }

    fn known(&self, digest: Digest) -> Option<Arc<Page>> {
        static EMPTY: LazyLock<(Digest, Arc<Page>)> = LazyLock::new(|| {
            let empty = empty_root();
            let page = Page::decode(&empty.bytes).expect("the empty root is canonical");
            (empty.digest, Arc::new(page))
        });
        if digest == EMPTY.0 {
            Some(Arc::clone(&EMPTY.1))
        } else {
            self.cache.get(digest)
        }
    }
}

fn verify<E>(digest: Digest, bytes: &[u8]) -> Result<Arc<Page>, Error<E>> {
    let damaged = |reason| Error::Damaged {
        page: digest,
        reason,
    };
    let found = Digest::of(bytes);
    if found != digest {
        return Err(damaged(PageError::Digest { found }));
    }
    Page::decode(bytes).map(Arc::new).map_err(damaged)
}

/// Gives the executor a turn, whichever it is.
pub(crate) async fn let_others_run() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use types::BlockIndex;

    use super::*;
    use crate::page::SLOTS;
    use crate::testing::{Maps, NoPage, digest, run};
    use crate::{DiffLimit, Update, diff, get, walk};

    fn leaf(number: u64) -> Page {
        Page::of_slots(0, &[Some(digest(number)); SLOTS])
    }

    #[track_caller]
    fn check_damaged(stored: &[u8], reason: &PageError) {
        let maps = Maps::cached(1 << 20);
        let name = Digest::of(stored);
        maps.pages.loader().put(name, stored.to_vec().into());
        for _ in 0..2 {
            match run(maps.pages.page(name, 1)) {
                Err(Error::Damaged {
                    page,
                    reason: found,
                }) => {
                    assert_eq!((page, &found), (name, reason));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn bytes_of_the_right_digest_must_also_be_a_page_of_the_right_level() {
        check_damaged(
            b"",
            &PageError::Length {
                expected: 32,
                found: 0,
            },
        );
        check_damaged(&[7; 200], &PageError::Magic);
        check_damaged(
            &leaf(1).encode(),
            &PageError::Misplaced {
                expected: 1,
                found: 0,
            },
        );
        check_damaged(
            &empty_root().bytes,
            &PageError::Misplaced {
                expected: 1,
                found: 3,
            },
        );
    }

    #[test]
    fn other_bytes_than_asked_for_are_damage_and_are_not_cached() {
        let maps = Maps::cached(1 << 20);
        let asked = leaf(1).encode_named();
        let other = leaf(2).encode_named();
        maps.pages.loader().put(asked.digest, other.bytes);
        let found = run(maps.pages.page(asked.digest, 0));
        let reason = PageError::Digest {
            found: other.digest,
        };
        assert!(matches!(found, Err(Error::Damaged { page, reason: r })
            if page == asked.digest && r == reason));

        maps.put(asked.clone());
        assert_eq!(*run(maps.pages.page(asked.digest, 0)).unwrap(), leaf(1));
    }

    #[test]
    fn a_failure_of_the_loader_is_passed_on() {
        let maps = Maps::cached(1 << 20);
        let name = digest(1);
        assert!(matches!(run(maps.pages.page(name, 0)), Err(Error::Load(NoPage(n))) if n == name));
    }

    #[test]
    fn gives_pages_in_the_order_asked_and_loads_each_once() {
        let maps = Maps::cached(16 << 20);
        let names: Vec<_> = (0..300).map(|n| maps.put(leaf(n).encode_named())).collect();
        let asked: Vec<_> = names.iter().chain(names.iter().rev()).copied().collect();
        let (pages, loaded, calls) = maps.counting(|| run(maps.pages.pages(&asked, 0)).unwrap());
        let given: Vec<_> = pages
            .iter()
            .map(|page| page.encode_named().digest)
            .collect();
        assert_eq!((given, loaded, calls), (asked, 300, 3));

        let (_, loaded, calls) = maps.counting(|| run(maps.pages.pages(&names, 0)).unwrap());
        assert_eq!((loaded, calls), (0, 0));
    }

    #[test]
    fn knows_the_empty_root_without_loading() {
        let maps = Maps::uncached();
        let page = run(maps.pages.page(empty_root().digest, 3)).unwrap();
        assert_eq!(page.encode(), empty_root().bytes);
    }

    /// The futures go to a multi-threaded executor; this compiles only if they may.
    #[test]
    fn futures_can_move_between_threads() {
        fn movable<T: Send>(_: &T) {}
        let maps = Maps::uncached();
        let (pages, root, from) = (&maps.pages, empty_root().digest, BlockIndex::ZERO);
        movable(&walk(pages, root, from, 1));
        movable(&get(pages, root, from));
        movable(&diff(
            pages,
            root,
            root,
            from,
            DiffLimit {
                changes: 1,
                pages: 1,
            },
        ));
        movable(&Update::new(pages, root).apply(&[]));
        movable(&Update::new(pages, root).finish());
    }
}
