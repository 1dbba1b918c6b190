//! Bodies under a paused clock: tokio moves it whenever everyone waits.

use super::*;
use crate::admission::admission;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use std::convert::Infallible;
use std::sync::Arc;
use types::{Clock, TestClock};

fn headers(expect: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if expect {
        headers.insert(
            http::header::EXPECT,
            http::HeaderValue::from_static("100-continue"),
        );
    }
    headers
}

fn whole(bytes: usize) -> RequestBody<Full<Bytes>> {
    RequestBody::new(Full::new(vec![7; bytes].into()), &headers(false))
}

/// `parts` pieces of `bytes` bytes, each after a pause.
fn slow(
    parts: usize,
    bytes: usize,
    pause: Duration,
) -> RequestBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
    let parts = stream::unfold(0, move |part| async move {
        tokio::time::sleep(pause).await;
        (part < parts).then(|| (Ok(Frame::data(Bytes::from(vec![7; bytes]))), part + 1))
    });
    RequestBody::new(StreamBody::new(Box::pin(parts)), &headers(false))
}

/// Reads a document, of which `places` may be large at a time.
async fn document<B>(
    mut body: RequestBody<B>,
    limits: &BodyLimits,
    large: &Admission,
) -> Result<Document, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let key = AccessKeyId::parse("A").unwrap();
    body.document(limits, large, &key).await
}

/// Room for one large document, and a line of one.
fn one_large() -> Admission {
    let clock: Arc<dyn Clock> = Arc::new(TestClock::at(0));
    admission(1, 1, &clock)
}

#[tokio::test(start_paused = true)]
async fn documents_are_bounded() {
    let large = one_large();
    let limits = BodyLimits {
        document_bytes_max: 100,
        ..BodyLimits::STANDARD
    };
    for fits in [0, 100] {
        let document = document(whole(fits), &limits, &large).await;
        assert_eq!(document.unwrap().bytes.len(), fits);
    }
    let declared = document(whole(101), &limits, &large).await.err().unwrap();
    assert_eq!(declared.code(), "RequestEntityTooLargeException");
    let chunked = slow(11, 10, Duration::ZERO);
    let chunked = document(chunked, &limits, &large).await.err().unwrap();
    assert_eq!(chunked.code(), "RequestEntityTooLargeException");
}

#[tokio::test(start_paused = true)]
async fn large_documents_are_few_at_a_time_and_small_ones_do_not_wait() {
    let (limits, large) = (BodyLimits::STANDARD, one_large());
    let parts = || slow(2, SMALL_DOCUMENT, Duration::ZERO);
    let held = document(parts(), &limits, &large).await.unwrap();
    let throttled = document(parts(), &limits, &large).await;
    assert_eq!(throttled.err().unwrap().code(), "ThrottlingException");
    let throttled = document(whole(2 * SMALL_DOCUMENT), &limits, &large).await;
    assert_eq!(throttled.err().unwrap().code(), "ThrottlingException");
    assert!(
        document(whole(SMALL_DOCUMENT), &limits, &large)
            .await
            .is_ok()
    );
    drop(held);
    assert!(document(parts(), &limits, &large).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn silence_and_crawling_are_cut() {
    let limits = BodyLimits::STANDARD;
    let read = async |parts, bytes, pause| {
        let mut body = slow(parts, bytes, pause);
        let mut pace = Pace::new(&limits);
        while pace.next(&mut body).await?.is_some() {}
        Ok(())
    };
    assert_eq!(
        read(2, 1, limits.stall + Duration::from_secs(1)).await,
        Err(BodyFault::Slow)
    );
    // 16 KiB/s and a little more than that go on for ever, 8 KiB/s until the grace is used up.
    assert_eq!(read(100, 16_500, Duration::from_secs(1)).await, Ok(()));
    assert_eq!(
        read(100, 8_200, Duration::from_secs(1)).await,
        Err(BodyFault::Slow)
    );
    assert_eq!(read(8, 1, Duration::from_secs(1)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn draining_ends_by_size_and_by_time() {
    let limits = BodyLimits {
        drain_bytes_max: 1000,
        ..BodyLimits::STANDARD
    };
    assert!(whole(1000).drain(&limits).await);
    assert!(!whole(1001).drain(&limits).await);
    assert!(slow(10, 100, Duration::from_millis(1)).drain(&limits).await);
    assert!(!slow(11, 100, Duration::from_millis(1)).drain(&limits).await);
    let pause = limits.drain_quiet.mul_f64(0.9);
    assert!(slow(4, 1, pause).drain(&limits).await);
    assert!(
        !slow(20, 1, pause).drain(&limits).await,
        "it takes too long"
    );
    assert!(
        !slow(2, 1, limits.drain_quiet * 2).drain(&limits).await,
        "it waits"
    );
    assert!(whole(0).drain(&limits).await);
}

#[tokio::test]
async fn a_client_that_waits_for_leave_is_not_asked_for_a_body_that_is_refused() {
    let mut body = RequestBody::new(Full::new(Bytes::from(vec![7; 10])), &headers(true));
    assert!(!body.drain(&BodyLimits::STANDARD).await);
    assert_eq!(
        body.next().await.unwrap().unwrap().len(),
        10,
        "nothing was read"
    );
    assert!(body.drain(&BodyLimits::STANDARD).await);
}

#[tokio::test]
async fn a_broken_body_stays_ended() {
    let parts = stream::iter([Ok(Frame::data(Bytes::from_static(b"x"))), Err("reset")]);
    let mut body = RequestBody::new(StreamBody::new(parts), &headers(false));
    assert_eq!(body.next().await, Ok(Some(Bytes::from_static(b"x"))));
    assert_eq!(body.next().await, Err(BodyFault::Broken));
    assert_eq!(body.next().await, Ok(None));
    let parts = stream::iter([Err::<Frame<Bytes>, _>("reset")]);
    let body = RequestBody::new(StreamBody::new(parts), &headers(false));
    let read = document(body, &BodyLimits::STANDARD, &one_large()).await;
    let error = read.err().unwrap();
    assert_eq!(error.code(), "MalformedHttpRequestException");
}
