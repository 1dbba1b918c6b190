//! How appends are brought together, counted in writes and syncs.

use super::Bench;
use crate::ChunkKind;
use crate::ChunkStore;
use crate::contract::{append_one, check_read, chunk};
use crate::faulty::Call;
use futures_util::FutureExt;
use futures_util::future::join_all;

#[tokio::test]
async fn whatever_waits_becomes_one_batch() {
    let bench = Bench::new().await;
    let chunks: Vec<_> = (0..64)
        .map(|seed| chunk(ChunkKind::Block, seed, 5000))
        .collect();
    append_one(&bench.store, &chunks[0]).await;
    let before = (bench.io.count(Call::Write), bench.io.count(Call::Sync));
    bench.io.hold_syncs();
    let mut first = bench.store.append(vec![chunks[1].clone()]);
    assert!(first.as_mut().now_or_never().is_none());
    bench.io.wait_for_held_syncs(1);
    let mut second = bench.store.append(vec![chunks[2].clone()]);
    assert!(second.as_mut().now_or_never().is_none());
    bench.io.wait_for_held_syncs(2);
    let rest = chunks[3..]
        .iter()
        .map(|chunk| bench.store.append(vec![chunk.clone()]));
    let mut rest = Box::pin(join_all(rest));
    assert!(rest.as_mut().now_or_never().is_none());
    assert_eq!(bench.store.metrics().queued_frames_now.get(), 61);
    bench.io.release_syncs();
    first.await.unwrap();
    second.await.unwrap();
    for (stored, chunk) in rest.await.into_iter().zip(&chunks[3..]) {
        check_read(&bench.store, &stored.unwrap()[0], chunk).await;
    }
    assert_eq!(
        bench.io.count(Call::Write) - before.0,
        3,
        "61 appends shared one write"
    );
    assert_eq!(
        bench.io.count(Call::Sync) - before.1,
        3,
        "61 appends shared one sync"
    );
    let metrics = bench.store.metrics();
    assert_eq!(
        (metrics.frames.get(), metrics.queued_frames_now.get()),
        (64, 0)
    );
    assert_eq!(
        (metrics.batch_frames.count(), metrics.batch_frames.sum()),
        (4, 64)
    );
    assert_eq!(metrics.sync_micros.count(), 4);
}

#[tokio::test]
async fn a_batch_of_pages_is_one_pack() {
    let bench = Bench::new().await;
    let pages: Vec<_> = (0..50)
        .map(|seed| chunk(ChunkKind::Page, seed, 4100))
        .collect();
    append_one(&bench.store, &pages[0]).await;
    let before = (bench.io.count(Call::Write), bench.io.count(Call::Sync));
    let stored = bench.store.append(pages.clone()).await.unwrap();
    assert_eq!(bench.io.count(Call::Write) - before.0, 1);
    assert_eq!(bench.io.count(Call::Sync) - before.1, 1);
    assert!(stored[0].location.offset.is_multiple_of(4096));
    for (pair, page) in stored.windows(2).zip(&pages) {
        let end = pair[0].location.offset + u64::from(pair[0].location.length);
        assert_eq!(
            pair[1].location.offset, end,
            "frames of a pack follow each other"
        );
        check_read(&bench.store, &pair[0], page).await;
    }
}

#[tokio::test]
async fn blocks_and_pages_never_share_a_segment() {
    let bench = Bench::new().await;
    let kinds = [
        ChunkKind::Block,
        ChunkKind::Page,
        ChunkKind::Snapshot,
        ChunkKind::Block,
    ];
    let batch: Vec<_> = (0..4)
        .map(|seed| chunk(kinds[seed], seed as u64, 700))
        .collect();
    let stored = bench.store.append(batch).await.unwrap();
    let containers: Vec<_> = stored
        .iter()
        .map(|stored| stored.location.container)
        .collect();
    assert_eq!(containers[0], containers[3]);
    assert_eq!(containers[1], containers[2]);
    assert_ne!(containers[0], containers[1]);
}

#[tokio::test]
async fn what_was_queued_is_written_when_the_store_closes() {
    let bench = Bench::new().await;
    let chunks: Vec<_> = (0..8)
        .map(|seed| chunk(ChunkKind::Block, seed, 5000))
        .collect();
    bench.io.hold_syncs();
    let mut appends = Box::pin(join_all(
        chunks
            .iter()
            .map(|chunk| bench.store.append(vec![chunk.clone()])),
    ));
    assert!(appends.as_mut().now_or_never().is_none());
    bench.io.release_syncs();
    bench.store.close().await;
    for (stored, chunk) in appends.await.into_iter().zip(&chunks) {
        check_read(&bench.store, &stored.unwrap()[0], chunk).await;
    }
    let late = bench.store.append(vec![chunks[0].clone()]).await;
    assert!(matches!(late, Err(crate::Error::Closed { .. })), "{late:?}");
}
