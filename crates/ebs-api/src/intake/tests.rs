//! Buffers shared among keys, and bodies cut under pressure, under a paused clock. Shares and lines are tested where they
//! are kept, in the engine.

use super::*;
use crate::admission::admission;
use futures_util::{FutureExt, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;
use types::{Clock, TestClock};

struct Fixture {
    intake: Intake,
    pool: BufferPool,
    clock: Arc<TestClock>,
}

fn fixture(buffers: usize) -> Fixture {
    let clock = Arc::new(TestClock::at(0));
    let pool = BufferPool::new(buffers, BLOCK_BYTES);
    let for_admission = Arc::clone(&clock) as Arc<dyn Clock>;
    let admission = admission(buffers, 8, &for_admission);
    let intake = Intake::new(pool.clone(), admission, BodyLimits::STANDARD);
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
async fn a_silent_body_is_cut_for_one_that_waits() {
    let Fixture { intake, clock, .. } = fixture(1);
    let (slow_key, other) = (key("SLOW"), key("OTHER"));
    let (mut slow_body, mut body) = (silent(), whole(BLOCK_BYTES));
    let ticking = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            clock.advance(Duration::from_millis(100));
        }
    };
    let waiting = async {
        sleep(Duration::from_millis(1)).await;
        intake.block(&other, &mut body).await
    };
    let both = futures_util::future::join(intake.block(&slow_key, &mut slow_body), waiting);
    let (slow, waiting) = tokio::select! {
        both = both => both,
        () = ticking => unreachable!("it ticks for ever"),
    };
    assert_eq!(slow.err().unwrap().code(), "ThrottlingException");
    assert!(waiting.is_ok());
    assert!(clock.monotonic() < BodyLimits::STANDARD.stall);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_throttled() {
    let Fixture { intake, pool, .. } = fixture(1);
    let received = intake.block(&key("A"), &mut whole(BLOCK_BYTES)).await;
    let throttled = intake.block(&key("B"), &mut whole(BLOCK_BYTES)).await;
    let error = throttled.err().unwrap();
    assert_eq!(error.code(), "ThrottlingException");
    assert!(error.retry_after_ms().is_some());
    drop(received);
    // A put that outlives its client keeps the buffer without the place.
    let _outliving = pool.take().await;
    let throttled = intake.block(&key("B"), &mut whole(BLOCK_BYTES)).await;
    assert_eq!(throttled.err().unwrap().code(), "ThrottlingException");
}

#[tokio::test(start_paused = true)]
async fn a_silent_body_gives_its_buffer_back() {
    let Fixture { intake, pool, .. } = fixture(1);
    let error = intake.block(&key("A"), &mut silent()).await.err().unwrap();
    assert_eq!(error.message(), "Failed to read block data");
    assert_eq!(pool.in_use(), 0);
}
