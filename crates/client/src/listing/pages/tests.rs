//! Pages that come as scripted: expired tokens, empty pages, listings that do not ascend or never end.

use super::*;
use crate::Refusal;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Pages as `fetch` gives them, and where each was asked to begin.
struct Script {
    pages: Mutex<VecDeque<Result<ListPage<BlockIndex>, Error>>>,
    asked: Mutex<Vec<PageStart>>,
}

fn page(indexes: &[u32], next: Option<&str>) -> Result<ListPage<BlockIndex>, Error> {
    let index = |value: &u32| BlockIndex::new(*value).unwrap();
    Ok(ListPage {
        blocks: indexes.iter().map(index).collect(),
        next: next.map(str::to_owned),
        volume_size: VolumeSize::from_gib(1),
        extensions: Extensions::default(),
    })
}

fn expired() -> Result<ListPage<BlockIndex>, Error> {
    Err(Error::from(Refusal {
        operation: "ListSnapshotBlocks",
        status: 400,
        code: "ValidationException".to_owned(),
        reason: Some("INVALID_PAGE_TOKEN".to_owned()),
        message: String::new(),
        request_id: None,
        retry_after_ms: None,
    }))
}

/// The indexes listed, and the error at the end.
async fn listed(
    pages: impl IntoIterator<Item = Result<ListPage<BlockIndex>, Error>>,
) -> (Vec<u32>, Option<Error>, Vec<PageStart>) {
    let script = Arc::new(Script {
        pages: Mutex::new(pages.into_iter().collect()),
        asked: Mutex::default(),
    });
    let scripted = Arc::clone(&script);
    let fetch: Fetch<BlockIndex> = Arc::new(move |start| {
        scripted.asked.lock().unwrap().push(start);
        let page = scripted.pages.lock().unwrap().pop_front();
        Box::pin(async move { page.unwrap() })
    });
    let strange = |reason| Error::NotTheApi {
        operation: "ListSnapshotBlocks",
        endpoint: String::new(),
        reason,
    };
    let mut indexes = Vec::new();
    let error = match Pages::begin(fetch, |index| *index, strange, BlockIndex::ZERO).await {
        Err(error) => Some(error),
        Ok(mut pages) => loop {
            match pages.next().await {
                Ok(Some(index)) => indexes.push(index.get()),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        },
    };
    let asked = std::mem::take(&mut *script.asked.lock().unwrap());
    (indexes, error, asked)
}

fn index(value: u32) -> PageStart {
    PageStart::Index(BlockIndex::new(value).unwrap())
}

fn token(text: &str) -> PageStart {
    PageStart::Token(text.to_owned())
}

#[tokio::test]
async fn pages_are_joined_and_empty_ones_are_passed_over() {
    let pages = [
        page(&[], Some("a")),
        page(&[3, 5], Some("b")),
        page(&[], Some("c")),
        page(&[6], None),
    ];
    let (indexes, error, asked) = listed(pages).await;
    assert_eq!(indexes, [3, 5, 6]);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(asked, [index(0), token("a"), token("b"), token("c")]);
    assert_eq!(listed([page(&[], None)]).await.0, [0; 0]);
}

#[tokio::test]
async fn an_expired_page_token_is_made_good_by_listing_again() {
    let pages = [
        page(&[3, 5], Some("a")),
        expired(),
        page(&[6], Some("b")),
        expired(),
        page(&[], None),
    ];
    let (indexes, error, asked) = listed(pages).await;
    assert_eq!(indexes, [3, 5, 6]);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        asked,
        [index(0), token("a"), index(6), token("b"), index(7)]
    );
}

#[tokio::test]
async fn a_page_token_that_is_never_good_ends_the_listing() {
    let pages = [
        page(&[3], Some("a")),
        expired(),
        page(&[], Some("b")),
        expired(),
    ];
    let (_, error, _) = listed(pages).await;
    assert!(matches!(error, Some(Error::Refused(_))), "{error:?}");
}

#[tokio::test]
async fn listings_that_are_none_are_told() {
    async fn check(pages: Vec<Result<ListPage<BlockIndex>, Error>>) {
        let (_, error, _) = listed(pages).await;
        assert!(matches!(error, Some(Error::NotTheApi { .. })), "{error:?}");
    }
    check(vec![page(&[3, 3], None)]).await;
    check(vec![page(&[3], Some("a")), page(&[2], None)]).await;
    check(vec![page(&[3], Some("a")), page(&[4], Some("a"))]).await;
    let empty = (0..=EMPTY_PAGES_MAX).map(|number| page(&[], Some(&number.to_string())));
    check(empty.collect()).await;
}
