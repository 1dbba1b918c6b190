//! Walks and look-ups against a `BTreeMap`, and the pages that they visit.

use std::collections::BTreeMap;

use proptest::prelude::{prop_assert_eq, prop_oneof, proptest};
use types::BlockIndex;

use crate::testing::{Maps, Model, any_index, any_model, digest, entries, index, run, scattered};
use crate::{Error, PageError, Walk, empty_root};

fn expected(model: &Model, from: u32, limit: usize) -> Walk {
    let mut rest = entries(model);
    rest.retain(|(at, _)| at.get() >= from);
    let next = rest.get(limit).map(|(at, _)| *at);
    rest.truncate(limit);
    Walk {
        entries: rest,
        next,
    }
}

proptest! {
    #[test]
    fn walks_from_any_position_with_any_limit(
        model in any_model(),
        from in any_index(),
        limit in prop_oneof![0_usize..5, 0_usize..300],
    ) {
        let maps = Maps::uncached();
        let root = maps.build(&model);
        prop_assert_eq!(maps.walk(root, from, limit), expected(&model, from, limit));
    }

    #[test]
    fn gets_what_is_there_and_nothing_else(model in any_model(), others in any_model()) {
        let maps = Maps::cached(1 << 20);
        let root = maps.build(&model);
        for at in model.keys().chain(others.keys()) {
            let expected = model.get(at).copied().map(digest);
            prop_assert_eq!(maps.get(root, *at).unwrap(), expected);
        }
    }
}

#[test]
fn resumes_at_every_entry() {
    let maps = Maps::uncached();
    let model: Model = scattered()
        .take(60)
        .map(|n| ((n as u32 % 40_000), n))
        .collect();
    let root = maps.build(&model);
    for limit in 1..=model.len() {
        let mut found = Vec::new();
        let mut from = Some(BlockIndex::ZERO);
        while let Some(position) = from {
            let mut part = maps.walk(root, position.get(), limit);
            assert_eq!(part.entries.len(), limit.min(model.len() - found.len()));
            found.append(&mut part.entries);
            from = part.next;
        }
        assert_eq!(found, entries(&model), "in steps of {limit}");
    }
}

#[test]
fn an_empty_map_has_no_entries_and_needs_no_pages() {
    let maps = Maps::uncached();
    let nothing = Walk {
        entries: Vec::new(),
        next: None,
    };
    assert_eq!(maps.walk(empty_root().digest, 0, 10), nothing);
    assert_eq!(maps.get(empty_root().digest, 7).unwrap(), None);
}

#[test]
fn the_last_block_of_the_largest_volume_is_reached() {
    let maps = Maps::uncached();
    let last = BlockIndex::COUNT_MAX - 1;
    let model = BTreeMap::from([(last, 1)]);
    let root = maps.build(&model);
    assert_eq!(maps.walk(root, 0, 1), expected(&model, 0, 1));
    assert_eq!(maps.walk(root, last, 1), expected(&model, last, 1));
    assert_eq!(maps.get(root, last).unwrap(), Some(digest(1)));

    let full = maps.full(9);
    let end = maps.walk(full, last - 1, 5);
    assert_eq!((end.entries.len(), end.next), (2, None));
}

#[test]
fn visits_no_more_pages_than_entries_need() {
    let maps = Maps::uncached();
    let sparse: Model = scattered()
        .take(3000)
        .map(|n| (n as u32 % BlockIndex::COUNT_MAX, n))
        .collect();
    let dense: Model = (1000..100_000).map(|at| (at, at.into())).collect();
    for model in [&sparse, &dense] {
        let root = maps.build(model);
        for limit in [0, 1, 2, 10, 100, 1000, 10_000] {
            for from in [0, 1000, 5000, 60_000_000] {
                let (walk, loaded, _) = maps.counting(|| maps.walk(root, from, limit));
                let bound = 3 * walk.entries.len() + 10;
                assert!(loaded <= bound, "{loaded} pages for {limit} from {from}");
            }
        }
    }
    let root = maps.build(&dense);
    let (walk, loaded, calls) = maps.counting(|| maps.walk(root, 1000, 10_000));
    assert_eq!(walk.entries.len(), 10_000);
    assert!(
        (80..=200).contains(&loaded) && calls <= 14,
        "{loaded} pages in {calls} calls"
    );
}

#[test]
fn a_look_up_visits_one_page_on_each_level() {
    let maps = Maps::uncached();
    let root = maps.full(3);
    let (found, loaded, _) = maps.counting(|| maps.get(root, 77_777_777).unwrap());
    assert_eq!((found, loaded), (Some(digest(3)), 4));
}

#[test]
fn a_page_of_another_level_is_damage_wherever_it_is_met() {
    let maps = Maps::uncached();
    // A leaf where a root belongs.
    let leaf = crate::Page::of_slots(0, &[Some(digest(1)); 128]).encode_named();
    let name = maps.put(leaf);
    let reason = PageError::Misplaced {
        expected: 3,
        found: 0,
    };
    let is_damage = |page, found| page == name && found == reason;
    assert!(matches!(maps.get(name, 0),
        Err(Error::Damaged { page, reason }) if is_damage(page, reason.clone())));
    let walk = run(crate::walk(&maps.pages, name, index(0), 1));
    assert!(matches!(walk,
        Err(Error::Damaged { page, reason }) if is_damage(page, reason.clone())));
}

#[test]
fn a_missing_page_fails_only_who_needs_it() {
    let maps = Maps::uncached();
    // 200 leaves of 128 entries, one of them missing; a full read-ahead is 64.
    let model: Model = (0..200 * 128).map(|at| (at, at.into())).collect();
    let root = maps.build(&model);
    for missing in [0, 1, 2, 3, 7, 100, 199_u32] {
        let leaf: [_; 128] =
            std::array::from_fn(|slot| Some(digest(u64::from(missing * 128) + slot as u64)));
        let leaf = crate::Page::of_slots(0, &leaf).encode_named();
        maps.pages.loader().take(leaf.digest);
        let (mut from, mut read) = (0, 0);
        let error = loop {
            match run(crate::walk(&maps.pages, root, index(from), 1_000)) {
                Ok(part) => {
                    assert!(!part.entries.is_empty());
                    read += part.entries.len() as u32;
                    from = part.next.unwrap().get();
                }
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Load(crate::testing::NoPage(page)) if page == leaf.digest));
        assert_eq!((from, read), (missing * 128, missing * 128));
        let behind = (missing + 1) * 128;
        let rest = maps.walk(root, behind, usize::MAX);
        assert_eq!(rest, expected(&model, behind, usize::MAX));
        maps.put(leaf);
    }
}
