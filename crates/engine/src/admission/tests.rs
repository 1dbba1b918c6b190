//! Shares, lines and cuts, under a paused clock.

use super::*;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::advance;
use types::TestClock;

const LIMITS: AdmissionLimits = AdmissionLimits {
    units: 4,
    share: 3,
    waiting: 3,
    waiting_share: 2,
    wait: Duration::from_secs(10),
    pressure: Duration::from_secs(1),
    judgements: 3,
};

/// An admission whose clock the test moves.
fn admission() -> (Admission, Arc<TestClock>) {
    let clock = Arc::new(TestClock::at(0));
    let admission = Admission::new(LIMITS, Arc::clone(&clock) as Arc<dyn Clock>);
    (admission, clock)
}

async fn admitted(admission: &Admission, key: &str, units: u32) -> Admitted {
    let turn = admission.admit(key, units).now_or_never();
    turn.expect("there is room")
        .expect("and nobody is refused who need not wait")
}

fn is_cut(admitted: &Admitted) -> bool {
    admitted.transfer().cut().now_or_never().is_some()
}

/// Lets time pass on both clocks, a second at a time.
async fn pass(clock: &TestClock, seconds: u32) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        advance(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn units_are_bounded_for_all_and_for_each_key() {
    let (admission, _) = admission();
    let held = admitted(&admission, "greedy", 3).await;
    let mut more = pin!(admission.admit("greedy", 1));
    assert!(more.as_mut().now_or_never().is_none(), "its share is out");
    let other = admitted(&admission, "other", 1).await;
    let mut another = pin!(admission.admit("another", 1));
    assert!(another.as_mut().now_or_never().is_none(), "all are out");
    assert_eq!(admission.counts().in_use, 4);
    assert_eq!(admission.counts().waiting, 2);
    drop(other);
    assert!(another.now_or_never().is_some(), "what came free is taken");
    drop(held);
    assert!(more.now_or_never().is_some());
    let counts = admission.counts();
    assert_eq!((counts.admitted, counts.waited), (4, 2));
    assert_eq!((counts.in_use, counts.waiting), (0, 0));
    assert!(lock(&admission.shared.state).lanes.is_empty());
    assert!(lock(&admission.shared.state).transfers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_large_wish_is_cut_to_the_share_and_shrinks() {
    let (admission, _) = admission();
    let mut large = admitted(&admission, "a", 1_000).await;
    assert_eq!(admission.counts().in_use, 3);
    large.shrink(2);
    assert_eq!(admission.counts().in_use, 2);
    large.shrink(1_000);
    assert_eq!(admission.counts().in_use, 2);
    large.shrink(0);
    assert_eq!(admission.counts().in_use, 1);
    drop(large);
    assert_eq!(admission.counts().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn the_line_is_bounded_for_all_and_for_each_key() {
    let (admission, _) = admission();
    let _held = (
        admitted(&admission, "a", 3).await,
        admitted(&admission, "b", 1).await,
    );
    let mut line: Vec<_> = ["a", "a", "b"]
        .map(|key| Box::pin(admission.admit(key, 1)))
        .into();
    for (number, waiting) in line.iter_mut().enumerate() {
        assert!(waiting.as_mut().now_or_never().is_none());
        let refused = admission.admit("a", 1).now_or_never();
        let is_full = matches!(refused, Some(Err(Refused::LineFull)));
        assert_eq!(is_full, number > 0, "after {number}");
    }
    let refused = admission.admit("c", 1).now_or_never();
    assert!(matches!(refused, Some(Err(Refused::LineFull))));
    line.pop();
    let mut last = pin!(admission.admit("c", 1));
    assert!(last.as_mut().now_or_never().is_none(), "a place came free");
    assert_eq!(admission.counts().refused_line_full, 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (admission, _) = admission();
    let _held = admitted(&admission, "a", 3).await;
    let line = ["a", "a"].map(|key| admission.admit(key, 1));
    for refused in join_all(line).await {
        assert_eq!(refused.err(), Some(Refused::TooLate));
    }
    assert_eq!(admission.counts().refused_too_late, 2);
    assert_eq!(admission.counts().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn what_stands_still_is_cut_for_one_that_waits() {
    let (admission, clock) = admission();
    let silent = [
        admitted(&admission, "a", 1).await,
        admitted(&admission, "a", 1).await,
    ];
    let lively = admitted(&admission, "a", 1).await;
    let working = admitted(&admission, "b", 1).await;
    for started in silent.iter().chain([&lively]) {
        started.transfer().start();
    }
    pass(&clock, 60).await;
    assert!(!silent.iter().any(is_cut), "nobody waits");

    let mut waiting = pin!(admission.admit("c", 1));
    for _ in 0..LIMITS.judgements {
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(!silent.iter().any(is_cut), "not yet");
        lively.transfer().moved(1 << 20);
        pass(&clock, 1).await;
    }
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(silent.iter().all(is_cut), "all of them at once");
    assert!(!is_cut(&lively) && !is_cut(&working));
    assert_eq!(admission.counts().cut_silent, 2);
    drop(silent);
    assert!(waiting.now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_slowest_is_cut_alone_and_only_while_it_moves() {
    let (admission, clock) = admission();
    let slow = [
        admitted(&admission, "a", 1).await,
        admitted(&admission, "a", 1).await,
    ];
    let done = admitted(&admission, "a", 1).await;
    let _rest = admitted(&admission, "b", 1).await;
    for started in slow.iter().chain([&done]) {
        started.transfer().start();
    }
    done.transfer().moved(1);
    done.transfer().stop();
    let mut waiting = pin!(admission.admit("c", 1));
    for _ in 0..LIMITS.judgements {
        assert!(waiting.as_mut().now_or_never().is_none());
        slow[0].transfer().moved(2_000);
        slow[1].transfer().moved(1_000);
        pass(&clock, 1).await;
    }
    assert!(waiting.as_mut().now_or_never().is_none());
    assert!(!is_cut(&slow[0]) && is_cut(&slow[1]) && !is_cut(&done));
    assert_eq!(admission.counts().cut_slowest, 1);
}

/// A machine that was suspended wakes up with every transfer late.
#[tokio::test(start_paused = true)]
async fn what_moves_again_after_a_standstill_is_spared() {
    let (admission, clock) = admission();
    let held = admitted(&admission, "a", 3).await;
    held.transfer().start();
    let _rest = admitted(&admission, "b", 1).await;
    let mut waiting = pin!(admission.admit("c", 1));
    assert!(waiting.as_mut().now_or_never().is_none());
    clock.advance(Duration::from_secs(60));
    for _ in 0..5 {
        pass(&clock, 1).await;
        assert!(waiting.as_mut().now_or_never().is_none());
        held.transfer().moved(1 << 20);
    }
    assert!(!is_cut(&held));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_used_up_its_share_costs_no_other() {
    let (admission, clock) = admission();
    let own = admitted(&admission, "a", 3).await;
    let other = admitted(&admission, "b", 1).await;
    own.transfer().start();
    other.transfer().start();
    let mut waiting = pin!(admission.admit("a", 1));
    for _ in 0..=LIMITS.judgements {
        assert!(waiting.as_mut().now_or_never().is_none());
        pass(&clock, 1).await;
    }
    assert!(is_cut(&own) && !is_cut(&other));
}

/// Starts slow transfers and callers in line a quarter of a second apart, the slowest transfer first.
async fn check_one_is_cut_at_a_time(slow: &[&str], line: &[&str]) {
    let (admission, clock) = admission();
    let _rest = admitted(&admission, "rest", 1).await;
    let mut held = Vec::new();
    for key in slow {
        held.push(admitted(&admission, key, 1).await);
    }
    let mut waiting = Vec::new();
    let mut cuts = Vec::new();
    for quarter in 0..20 {
        if let Some(begins) = held.get(quarter) {
            begins.transfer().start();
        }
        if let Some(key) = line.get(quarter) {
            waiting.push(Box::pin(admission.admit(key, 1)));
        }
        for caller in &mut waiting {
            assert!(caller.as_mut().now_or_never().is_none());
        }
        cuts.push(admission.counts().cut_slowest);
        for (number, moving) in held.iter().enumerate() {
            moving.transfer().moved(1_000 * (number + 1));
        }
        clock.advance(LIMITS.pressure / 4);
        advance(LIMITS.pressure / 4).await;
    }
    let one_by_one = [vec![0; 12], vec![1; 4], vec![2; 4]].concat();
    assert_eq!(cuts, one_by_one, "one in a second, after three");
    let cut: Vec<bool> = held.iter().map(is_cut).collect();
    assert_eq!(cut, [true, false, false], "the slowest");
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_one_slow_transfer_is_cut_at_a_time() {
    check_one_is_cut_at_a_time(&["a", "a", "b"], &["c", "d", "e"]).await;
}

#[tokio::test(start_paused = true)]
async fn however_many_of_a_key_wait_one_slow_transfer_is_cut_at_a_time() {
    check_one_is_cut_at_a_time(&["a", "a", "a"], &["a", "a"]).await;
}
