//! Differences against two `BTreeMap`s, resumption, and the pages that they visit.

use proptest::collection::btree_map;
use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};
use types::{BlockIndex, Digest};

use crate::testing::{
    Maps, Model, UNLIMITED, any_index, any_model, changes, digest, index, scattered,
};
use crate::{Change, Diff, DiffLimit, empty_root};

/// Two maps of which the second came from the first, or has nothing to do with it.
fn two_models() -> impl Strategy<Value = (Model, Model)> {
    let derived =
        (any_model(), btree_map(any_index(), 0_u64..4, 0..30)).prop_map(|(first, put)| {
            let mut second = first.clone();
            second.extend(put);
            (first, second)
        });
    prop_oneof![derived, (any_model(), any_model())]
}

fn any_limit() -> impl Strategy<Value = DiffLimit> {
    let bound = || prop_oneof![0_usize..12, 0_usize..300, Just(usize::MAX)];
    (bound(), bound()).prop_map(|(changes, pages)| DiffLimit { changes, pages })
}

/// All changes from `from` on, in parts; checks that each part keeps its promises.
fn in_parts(
    maps: &Maps,
    first: Digest,
    second: Digest,
    from: u32,
    limit: DiffLimit,
) -> Vec<Change> {
    let mut found = Vec::new();
    let mut position = Some(index(from));
    while let Some(from) = position {
        let (part, loaded, _) = maps.counting(|| maps.diff(first, second, from.get(), limit));
        assert!(part.changes.len() <= limit.changes.max(1), "{part:?}");
        assert!(
            loaded <= limit.pages.max(8),
            "{loaded} pages with {limit:?}"
        );
        assert!(loaded <= 6 * part.changes.len().max(1) + 20 || limit.pages < usize::MAX);
        if let Some(next) = part.next {
            assert!(next > from, "no progress at {from}");
            assert!(part.changes.iter().all(|change| change.index < next));
        }
        found.extend(part.changes);
        position = part.next;
    }
    found
}

proptest! {
    #[test]
    fn finds_the_difference_of_any_two_maps((first, second) in two_models()) {
        let maps = Maps::uncached();
        let (a, b) = (maps.build(&first), maps.build(&second));
        let expected = changes(&first, &second);
        let (found, loaded, _) = maps.counting(|| maps.diff(a, b, 0, UNLIMITED));
        prop_assert_eq!(&found.changes, &expected);
        prop_assert_eq!(found.next, None);
        prop_assert!(loaded <= 6 * expected.len() + 2, "{} pages", loaded);
    }

    #[test]
    fn goes_on_where_it_stopped(
        (first, second) in two_models(),
        from in any_index(),
        limit in any_limit(),
    ) {
        let maps = Maps::uncached();
        let (a, b) = (maps.build(&first), maps.build(&second));
        let mut expected = changes(&first, &second);
        expected.retain(|change| change.index.get() >= from);
        prop_assert_eq!(in_parts(&maps, a, b, from, limit), expected);
    }
}

#[test]
fn starts_at_every_position_around_a_change() {
    let maps = Maps::uncached();
    let base: Model = (0..1000).map(|at| (at, 0)).collect();
    let mut second = base.clone();
    second.extend([(0, 1), (127, 1), (128, 1), (300, 1), (999, 1), (2000, 1)]);
    let (a, b) = (maps.build(&base), maps.build(&second));
    for from in 0..2100 {
        let mut expected = changes(&base, &second);
        expected.retain(|change| change.index.get() >= from);
        assert_eq!(
            maps.diff(a, b, from, UNLIMITED).changes,
            expected,
            "from {from}"
        );
    }
}

#[test]
fn equal_maps_are_never_opened() {
    let maps = Maps::uncached();
    let root = maps.full(1);
    let (found, loaded, _) = maps.counting(|| maps.diff(root, root, 0, UNLIMITED));
    assert_eq!(
        (found, loaded),
        (
            Diff {
                changes: Vec::new(),
                next: None
            },
            0
        )
    );
}

#[test]
fn a_rewrite_of_the_same_data_is_no_change() {
    let maps = Maps::uncached();
    let root = maps.full(1);
    let same = maps.update(
        root,
        &[(index(5), digest(1)), (index(70_000_000), digest(1))],
    );
    assert_eq!(same.root, root);
}

#[test]
fn every_index_of_one_map_alone_is_a_change() {
    let maps = Maps::uncached();
    let model: Model = (0..300).map(|at| (at * 1000, 1)).collect();
    let (none, some) = (empty_root().digest, maps.build(&model));
    assert_eq!(
        maps.diff(none, some, 0, UNLIMITED).changes,
        changes(&Model::new(), &model)
    );
    assert_eq!(
        maps.diff(some, none, 0, UNLIMITED).changes,
        changes(&model, &Model::new())
    );
}

/// k scattered changes of a full map of 64 TiB, at the end of a chain of snapshots.
#[test]
fn cost_follows_the_changes_and_not_the_volume_or_the_depth() {
    let maps = Maps::uncached();
    let mut contents = scattered();
    let mut base = maps.full(0);
    for depth in 0..20 {
        for k in [1, 2, 10, 100, 1000] {
            let mut put: Vec<_> = contents
                .by_ref()
                .take(k)
                .map(|n| (index(n as u32 % BlockIndex::COUNT_MAX), digest(n)))
                .collect();
            put.sort();
            put.dedup_by_key(|(at, _)| *at);
            let next = maps.update(base, &put).root;
            let (found, loaded, calls) = maps.counting(|| maps.diff(base, next, 0, UNLIMITED));
            assert_eq!(found.changes.len(), put.len());
            assert!(
                loaded <= 6 * put.len() + 2,
                "{loaded} pages for {k} at depth {depth}"
            );
            assert!(calls <= 12 + put.len() / 8, "{calls} calls for {k}");
            base = next;
        }
    }
}

#[test]
fn one_change_takes_one_pair_of_pages_on_each_level() {
    let maps = Maps::uncached();
    let base = maps.full(0);
    let changed = maps.update(base, &[(index(99_999_999), digest(1))]).root;
    let (found, loaded, calls) = maps.counting(|| maps.diff(base, changed, 0, UNLIMITED));
    assert_eq!((found.changes.len(), loaded, calls), (1, 8, 4));
}

#[test]
fn the_page_limit_ends_a_call_that_found_nothing_yet() {
    let maps = Maps::uncached();
    let base = maps.full(0);
    let changed = maps.update(
        base,
        &[(index(100), digest(1)), (index(9_000_000), digest(1))],
    );
    let limit = DiffLimit {
        changes: 10,
        pages: 0,
    };
    // The leaf of the first change is opened because it may hold changes from here on.
    let part = maps.diff(base, changed.root, 101, limit);
    assert_eq!(part.changes, []);
    let next = part.next.unwrap();
    assert!(next.get() > 127 && next.get() <= 9_000_000);
    let rest = maps.diff(base, changed.root, next.get(), limit);
    assert_eq!((rest.changes.len(), rest.next), (1, None));
}

#[test]
fn a_small_cache_changes_nothing_but_the_loads() {
    let maps = Maps::cached(40_000);
    let first: Model = scattered()
        .take(2000)
        .map(|n| (n as u32 % 1_000_000, n))
        .collect();
    let mut second = first.clone();
    second.extend(
        scattered()
            .skip(5000)
            .take(500)
            .map(|n| (n as u32 % 1_000_000, n)),
    );
    let (a, b) = (maps.build(&first), maps.build(&second));
    assert_eq!(
        maps.diff(a, b, 0, UNLIMITED).changes,
        changes(&first, &second)
    );
    let limit = DiffLimit {
        changes: 7,
        pages: usize::MAX,
    };
    let loaded = maps.counting(|| in_parts(&maps, a, b, 0, limit)).1;
    let uncached = maps.reopened();
    assert!(loaded < uncached.counting(|| in_parts(&uncached, a, b, 0, limit)).1);
}
