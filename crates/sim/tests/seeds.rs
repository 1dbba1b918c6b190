//! A bounded number of seeds: the same ones in every run. `cargo xtask sim --seeds N` runs others.

use sim::run;

#[track_caller]
fn check(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if let Err(failure) = run(seed, false) {
            panic!("\n{failure}");
        }
    }
}

/// Without this no failure could be replayed.
#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..8 {
        let first = run(seed, false).unwrap_or_else(|failure| panic!("\n{failure}"));
        let second = run(seed, false).unwrap_or_else(|failure| panic!("\n{failure}"));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn different_seeds_tell_different_stories() {
    let hashes = (0..4).map(|seed| run(seed, false).map(|told| told.hash));
    let mut hashes: Vec<u64> = hashes
        .collect::<Result<_, _>>()
        .unwrap_or_else(|failure| panic!("\n{failure}"));
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn seeds_0_to_24() {
    check(0..25);
}

#[test]
fn seeds_25_to_49() {
    check(25..50);
}

#[test]
fn seeds_50_to_74() {
    check(50..75);
}

#[test]
fn seeds_75_to_99() {
    check(75..100);
}
