//! The limit against simulated servers: so many places at work, each request taking its time, perhaps with a rate above which requests are
//! turned away.

use super::*;
use crate::instant;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use types::Random;

struct Server {
    /// Requests that it works on at once; the rest wait.
    places: usize,
    /// How long it works on one.
    work: Duration,
    /// Time on the line, there and back.
    line: Duration,
    /// Requests that it takes a second.
    rate: Option<f64>,
}

struct Run {
    limits: Vec<usize>,
    done: usize,
    turned_away: usize,
    took: Duration,
}

impl Run {
    fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64()
    }

    /// The limits of the last third of the run, each as long as it held.
    fn late(&self) -> &[usize] {
        &self.limits[self.limits.len() * 2 / 3..]
    }

    fn mean(&self) -> f64 {
        self.late().iter().sum::<usize>() as f64 / self.late().len() as f64
    }
}

/// So many callers, each with a request after the other, until so many requests have ended. A caller that is turned away pauses.
fn run(server: &Server, max: usize, requests: usize) -> Run {
    let random = Random::seeded(1);
    let part = || (random.bits() % 1000) as f64 / 1000.0;
    let mut limit = Limit::new(max);
    let begun = instant::now();
    let mut now = begun;
    let mut callers = max;
    // When each place of the server is free again.
    let mut places = BinaryHeap::from(vec![Reverse(begun); server.places]);
    let mut on_the_way = BinaryHeap::new();
    let mut pausing = BinaryHeap::new();
    let mut tokens = 0.0;
    let mut run = Run {
        limits: Vec::new(),
        done: 0,
        turned_away: 0,
        took: Duration::ZERO,
    };
    while run.limits.len() < requests {
        while callers > 0 && on_the_way.len() < limit.get() {
            callers -= 1;
            let is_done = server.rate.is_none() || tokens >= 1.0;
            tokens -= f64::from(u8::from(is_done));
            let mut end = now + server.line / 2;
            if is_done {
                let Reverse(free) = places.pop().unwrap();
                end = free.max(end) + server.work.mul_f64(0.5 + part());
                places.push(Reverse(end));
            }
            on_the_way.push(Reverse((end + server.line / 2, limit.round(), is_done)));
        }
        let before = now;
        let ended = on_the_way.peek().map(|Reverse((end, _, _))| *end);
        let awake = pausing.peek().map(|Reverse(end)| *end);
        if awake.is_some_and(|awake| ended.is_none_or(|ended| awake <= ended)) {
            now = awake.unwrap();
            pausing.pop();
            callers += 1;
        } else {
            let Reverse((end, round, is_done)) = on_the_way.pop().unwrap();
            now = end;
            let was_full = on_the_way.len() + 1 >= limit.get();
            if is_done {
                callers += 1;
                run.done += 1;
                limit.ended(Outcome::Done, round, was_full, now);
            } else {
                pausing.push(Reverse(now + Duration::from_millis(500).mul_f64(part())));
                run.turned_away += 1;
                limit.ended(Outcome::Overload, round, was_full, now);
            }
            assert!((1..=max).contains(&limit.get()));
            run.limits.push(limit.get());
        }
        let rate = server.rate.unwrap_or(0.0);
        let gained = now.duration_since(before).as_secs_f64() * rate;
        tokens = f64::min(tokens + gained, rate / 10.0);
    }
    run.took = now.duration_since(begun);
    run
}

/// Settles between these, changes little there, and moves almost as much as can be moved.
fn check(server: &Server, max: usize, between: (f64, f64), best: f64) {
    let run = run(server, max, 60_000);
    let mean = run.mean();
    assert!(
        (between.0..=between.1).contains(&mean),
        "{mean} on average, of {} places",
        server.places
    );
    let late = run.late();
    let low = *late.iter().min().unwrap() as f64;
    let high = *late.iter().max().unwrap() as f64;
    assert!(
        low >= mean * 0.5 - 1.0 && high <= mean * 1.7 + 1.0,
        "{low} to {high} around {mean}"
    );
    let rate = run.rate();
    assert!(rate > best * 0.9, "{rate} of {best} a second");
}

#[test]
fn it_settles_near_the_knee() {
    let knee = |places, work_ms, line_ms| Server {
        places,
        work: Duration::from_millis(work_ms),
        line: Duration::from_millis(line_ms),
        rate: None,
    };
    check(&knee(2, 2, 0), 64, (2.0, 9.0), 1000.0);
    check(&knee(12, 10, 0), 64, (10.0, 18.0), 1200.0);
    check(&knee(16, 10, 40), 256, (70.0, 130.0), 1600.0);
    check(&knee(1_000, 100, 0), 64, (60.0, 64.0), 640.0);
    check(&knee(1_000, 100, 0), 3, (2.9, 3.0), 30.0);
}

#[test]
fn a_server_that_turns_requests_away_is_hardly_asked_in_vain() {
    let server = Server {
        places: 1_000,
        work: Duration::from_millis(50),
        line: Duration::from_millis(2),
        rate: Some(200.0),
    };
    let run = run(&server, 64, 20_000);
    let vain = run.turned_away as f64 / run.done as f64;
    assert!(vain < 0.05, "{vain} in vain");
    assert!(run.rate() > 130.0, "{} a second", run.rate());
    assert!((6.0..14.0).contains(&run.mean()), "{}", run.mean());
}

#[test]
fn the_limit_is_halved_once_for_what_was_on_the_way() {
    let mut limit = Limit::new(64);
    let now = instant::now();
    let round = limit.round();
    for _ in 0..8 {
        limit.ended(Outcome::Overload, round, true, now);
    }
    assert_eq!(limit.get(), 4);
    limit.ended(Outcome::Overload, limit.round(), true, now);
    assert_eq!(limit.get(), 2);
    for _ in 0..10 {
        limit.ended(Outcome::Overload, limit.round(), true, now);
    }
    assert_eq!(limit.get(), 1);
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut limit = Limit::new(64);
    let begun = instant::now();
    for number in 0..10_000 {
        let now = begun + Duration::from_millis(number);
        limit.ended(Outcome::Done, limit.round(), false, now);
    }
    assert_eq!(limit.get(), 8);
}
