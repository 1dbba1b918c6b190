//! Where the number of requests settles on servers that are known, and what bandwidth lets through.

use super::*;
use futures_util::FutureExt;

fn flow(max: usize) -> Flow {
    Flow::new(max, None, Arc::new(Meter::new()))
}

#[tokio::test]
async fn places_are_bounded_and_come_back() {
    let flow = flow(3);
    let mut places = Vec::new();
    for _ in 0..3 {
        places.push(flow.admit().await);
    }
    assert!(flow.admit().now_or_never().is_none());
    assert_eq!(flow.meter.get(Counter::InFlight), 3);
    places.pop();
    assert!(flow.admit().now_or_never().is_some());
    drop(places);
    assert_eq!(flow.meter.get(Counter::InFlight), 0);
}

#[tokio::test]
async fn fewer_places_after_overload_and_never_none() {
    let flow = flow(64);
    for left in [4, 2, 1, 1, 1] {
        let mut places = Vec::new();
        while let Some(place) = flow.admit().now_or_never() {
            places.push(place);
        }
        let last = places.pop().expect("a place");
        last.end(Outcome::Overload);
        drop(places);
        assert_eq!(flow.meter.get(Counter::InFlightLimit), left);
        assert_eq!(flow.free.available_permits() as u64, left);
    }
}

#[tokio::test(start_paused = true)]
async fn more_places_while_that_moves_more() {
    let flow = Arc::new(flow(64));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let flow = Arc::clone(&flow);
        tasks.spawn(async move {
            for _ in 0..40 {
                let place = flow.admit().await;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                place.end(Outcome::Done);
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
    assert_eq!(flow.meter.get(Counter::InFlightLimit), 64);
    assert_eq!(flow.free.available_permits(), 64);
}
