//! Pages of a listing, one after the other, the next one on its way while one is read.

use super::EMPTY_PAGES_MAX;
use crate::Error;
use crate::api::{Extensions, ListPage, PageStart};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::vec;
use tokio::task::JoinSet;
use types::{BlockIndex, VolumeSize};

/// A page that is being fetched.
pub(super) type Fetched<T> = BoxFuture<'static, Result<ListPage<T>, Error>>;

/// Fetches the page that begins somewhere.
pub(super) type Fetch<T> = Arc<dyn Fn(PageStart) -> Fetched<T> + Send + Sync>;

/// Makes the error of a listing that cannot be one.
type Strange = Arc<dyn Fn(String) -> Error + Send + Sync>;

/// A listing that is being read.
pub(super) struct Pages<T> {
    volume_size: Option<VolumeSize>,
    extensions: Extensions,
    present: vec::IntoIter<T>,
    ahead: JoinSet<Result<Option<Page<T>>, Error>>,
}

/// A page with something on it, and where to go on behind it.
struct Page<T> {
    blocks: Vec<T>,
    volume_size: Option<VolumeSize>,
    extensions: Extensions,
    rest: Option<Rest<T>>,
}

/// What follows a page.
struct Rest<T> {
    fetch: Fetch<T>,
    index_of: fn(&T) -> BlockIndex,
    strange: Strange,
    start: PageStart,
    /// The first index that has not been told.
    from: BlockIndex,
    /// Where the listing was begun again last, after its token had expired.
    renewed_at: Option<BlockIndex>,
}

impl<T: Send + 'static> Pages<T> {
    /// Begins a listing, with its first page.
    pub(super) async fn begin(
        fetch: Fetch<T>,
        index_of: fn(&T) -> BlockIndex,
        strange: impl Fn(String) -> Error + Send + Sync + 'static,
        from: BlockIndex,
    ) -> Result<Pages<T>, Error> {
        let rest = Rest {
            fetch,
            index_of,
            strange: Arc::new(strange),
            start: PageStart::Index(from),
            from,
            renewed_at: None,
        };
        let page = (rest.fetch)(rest.start.clone()).await?;
        let page = rest.follow(page)?;
        let mut pages = Pages {
            volume_size: None,
            extensions: page.extensions,
            present: Vec::new().into_iter(),
            ahead: JoinSet::new(),
        };
        pages.turn(page);
        Ok(pages)
    }

    /// Size of the volume, once a page has said it.
    pub(super) fn volume_size(&self) -> Option<VolumeSize> {
        self.volume_size
    }

    /// What the answer to the first page said.
    pub(super) fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// The next block. May be dropped at any point, and called again.
    pub(super) async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            if let Some(block) = self.present.next() {
                return Ok(Some(block));
            }
            let Some(fetched) = self.ahead.join_next().await else {
                return Ok(None);
            };
            match fetched {
                Ok(Ok(Some(page))) => self.turn(page),
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => return Err(error),
                // Nobody aborts it but a runtime that ends.
                Err(_) => return Err(Error::Interrupted),
            }
        }
    }

    fn turn(&mut self, page: Page<T>) {
        self.volume_size = self.volume_size.or(page.volume_size);
        self.present = page.blocks.into_iter();
        if let Some(rest) = page.rest {
            self.ahead.spawn(rest.next_page());
        }
    }
}

impl<T: Send + 'static> Rest<T> {
    /// The next page that has blocks on it.
    async fn next_page(mut self) -> Result<Option<Page<T>>, Error> {
        let mut volume_size = None;
        for _ in 0..EMPTY_PAGES_MAX {
            let page = match (self.fetch)(self.start.clone()).await {
                Err(error) if self.renew(&error) => continue,
                fetched => fetched?,
            };
            let mut page = self.follow(page)?;
            page.volume_size = page.volume_size.or(volume_size);
            if !page.blocks.is_empty() {
                return Ok(Some(page));
            }
            volume_size = page.volume_size;
            match page.rest {
                Some(rest) => self = rest,
                None => return Ok(None),
            }
        }
        Err((self.strange)(format!(
            "{EMPTY_PAGES_MAX} pages without a block"
        )))
    }

    /// Begins again where the listing stands, if its page token was refused; that helps once at any place.
    fn renew(&mut self, error: &Error) -> bool {
        let is_refused = matches!(error, Error::Refused(refusal)
            if refusal.reason.as_deref() == Some("INVALID_PAGE_TOKEN"));
        if !is_refused
            || self.renewed_at == Some(self.from)
            || matches!(self.start, PageStart::Index(_))
        {
            return false;
        }
        self.renewed_at = Some(self.from);
        self.start = PageStart::Index(self.from);
        true
    }

    /// Checks a page against what was told before it.
    fn follow(&self, page: ListPage<T>) -> Result<Page<T>, Error> {
        let mut from = Some(self.from);
        for block in &page.blocks {
            let index = (self.index_of)(block);
            if from.is_none_or(|from| index < from) {
                return Err((self.strange)(format!("block index {index} out of order")));
            }
            from = index.next();
        }
        let start = page.next.map(PageStart::Token);
        if start.as_ref() == Some(&self.start) {
            return Err((self.strange)("a page that leads to itself".to_owned()));
        }
        // Behind the last block there can be nothing.
        let rest = start.zip(from).map(|(start, from)| Rest {
            fetch: Arc::clone(&self.fetch),
            index_of: self.index_of,
            strange: Arc::clone(&self.strange),
            start,
            from,
            renewed_at: self.renewed_at,
        });
        Ok(Page {
            blocks: page.blocks,
            volume_size: page.volume_size,
            extensions: page.extensions,
            rest,
        })
    }
}

#[cfg(test)]
mod tests;
