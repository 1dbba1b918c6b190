//! Buffers shared among keys, and bodies cut under pressure, under a paused clock.

use super::*;
use futures_util::{FutureExt, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;
use std::pin::pin;
use tokio::time::sleep;
use types::TestClock;

struct Fixture {
    intake: Intake,
    pool: BufferPool,
    clock: Arc<TestClock>,
}

fn fixture(buffers: usize) -> Fixture {
    let clock = Arc::new(TestClock::at(0));
    let pool = BufferPool::new(buffers, BLOCK_BYTES);
    let intake = Intake::new(
        pool.clone(),
        BodyLimits::STANDARD,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    Fixture {
        intake,
        pool,
        clock,
    }
}

fn key(name: &str) -> AccessKeyId {
    AccessKeyId::parse(name).unwrap()
}

fn whole(bytes: usize) -> RequestBody<Full<Bytes>> {
    RequestBody::new(Full::new(vec![7; bytes].into()), &HeaderMap::new())
}

fn chunked(parts: Vec<usize>) -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    let frames = parts
        .into_iter()
        .map(|bytes| Ok(Frame::data(Bytes::from(vec![7; bytes]))));
    RequestBody::new(StreamBody::new(stream::iter(frames)), &HeaderMap::new())
}

/// A body that never ends and sends nothing.
fn silent() -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
    RequestBody::new(StreamBody::new(never), &HeaderMap::new())
}

#[tokio::test]
async fn exactly_a_block_is_received_however_it_is_framed() {
    let Fixture { intake, pool, .. } = fixture(2);
    let block = intake
        .block(&key("A"), &mut whole(BLOCK_BYTES))
        .await
        .unwrap();
    assert!(block.data.iter().all(|byte| *byte == 7) && block.data.len() == BLOCK_BYTES);
    drop(block);
    let parts = vec![1, 0, BLOCK_BYTES - 2, 1];
    assert!(intake.block(&key("A"), &mut chunked(parts)).await.is_ok());
    for wrong in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1, 10 * BLOCK_BYTES] {
        for error in [
            intake.block(&key("A"), &mut whole(wrong)).await.err(),
            intake
                .block(&key("A"), &mut chunked(vec![wrong]))
                .await
                .err(),
            intake
                .block(
                    &key("A"),
                    &mut chunked(vec![1; 2].into_iter().chain([wrong]).collect()),
                )
                .await
                .err(),
        ] {
            let message = error.map(|error| error.message().to_owned());
            let fits = wrong + 2 == BLOCK_BYTES;
            assert_eq!(
                message.as_deref(),
                (!fits).then_some("Failed to read block data"),
                "{wrong}"
            );
        }
    }
    assert_eq!(pool.in_use(), 0);
    assert!(
        lock(&intake.lanes).is_empty(),
        "a lane goes with its last request"
    );
}

#[tokio::test]
async fn unverified_bodies_are_hashed_whatever_their_length() {
    let Fixture { intake, .. } = fixture(1);
    for wrong in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES + 1, 2 * BLOCK_BYTES] {
        match intake
            .any(&key("A"), &mut chunked(vec![wrong]))
            .await
            .unwrap()
        {
            Received::WrongLength(digest) => assert_eq!(digest, Some(Digest::of(&vec![7; wrong]))),
            Received::Block(_) => panic!("{wrong} bytes are no block"),
        }
    }
    assert!(
        intake
            .any(&key("A"), &mut chunked(vec![2 * BLOCK_BYTES, 1]))
            .await
            .is_err()
    );
    assert!(
        intake
            .any(&key("A"), &mut whole(2 * BLOCK_BYTES + 1))
            .await
            .is_err()
    );
    let block = intake
        .any(&key("A"), &mut whole(BLOCK_BYTES))
        .await
        .unwrap();
    assert!(matches!(block, Received::Block(_)));
}

#[tokio::test(start_paused = true)]
async fn one_key_cannot_hold_every_buffer() {
    let Fixture { intake, pool, .. } = fixture(4);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(
            intake
                .block(&key("GREEDY"), &mut whole(BLOCK_BYTES))
                .await
                .unwrap(),
        );
    }
    let mut body = whole(BLOCK_BYTES);
    let greedy = key("GREEDY");
    let mut fourth = pin!(intake.block(&greedy, &mut body));
    assert!(
        fourth.as_mut().now_or_never().is_none(),
        "its share is used up"
    );
    assert_eq!(pool.in_use(), 3);
    assert!(
        intake
            .block(&key("OTHER"), &mut whole(BLOCK_BYTES))
            .await
            .is_ok()
    );
    held.pop();
    assert!(fourth.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_slowest_body_is_cut_for_one_that_waits() {
    let Fixture { intake, clock, .. } = fixture(1);
    let (slow_key, other) = (key("SLOW"), key("OTHER"));
    let (mut slow_body, mut body) = (silent(), whole(BLOCK_BYTES));
    let slow = intake.block(&slow_key, &mut slow_body);
    let waiting = async {
        sleep(Duration::from_millis(1)).await;
        clock.advance(Duration::from_secs(2));
        intake.block(&other, &mut body).await
    };
    let (slow, waiting) = futures_util::future::join(slow, waiting).await;
    assert_eq!(slow.err().unwrap().message(), "Failed to read block data");
    assert!(waiting.is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_young_is_cut_and_only_one_at_a_time() {
    let Fixture { intake, clock, .. } = fixture(2);
    let (_one, first) = intake.register();
    first.received.store(100, Ordering::Relaxed);
    let (_two, second) = intake.register();
    let is_cut = |reception: &Reception| reception.cut.notified().now_or_never().is_some();
    intake.cut_slowest();
    assert!(!is_cut(&first) && !is_cut(&second), "both are young");
    clock.advance(Duration::from_secs(2));
    intake.cut_slowest();
    intake.cut_slowest();
    assert!(
        !is_cut(&first) && is_cut(&second),
        "the slowest, and it alone"
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_so() {
    let Fixture { intake, pool, .. } = fixture(1);
    let _held = pool.take().await;
    let error = intake
        .block(&key("A"), &mut whole(BLOCK_BYTES))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "ServiceUnavailable");
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_gives_its_buffer_back() {
    let Fixture { intake, pool, .. } = fixture(1);
    let error = intake.block(&key("A"), &mut silent()).await.err().unwrap();
    assert_eq!(error.message(), "Failed to read block data");
    assert_eq!(pool.in_use(), 0);
}
