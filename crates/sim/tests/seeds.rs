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

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..4 {
        let first = run(seed, false).unwrap_or_else(|failure| panic!("\n{failure}"));
        let second = run(seed, false).unwrap_or_else(|failure| panic!("\n{failure}"));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn seeds_0_to_9() {
    check(0..10);
}
