//! Updates against a `BTreeMap`, and the pages that they load and make.

use std::collections::HashSet;

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};
use types::{BlockIndex, Digest};

use super::{RUN_LEAVES_MAX, Update};
use crate::testing::{
    Maps, Model, UNLIMITED, any_index, any_model, changes, digest, entries, index, run, scattered,
};
use crate::{Error, Page, PageError, SLOTS, Updated, empty_root};

/// Models of a chain of snapshots, each made from the one before.
fn any_chain() -> impl Strategy<Value = Vec<Model>> {
    vec(btree_map(any_index(), 0_u64..4, 0..60), 1..8)
}

/// Checks that `updated` brings exactly the pages that the new map has and no page of the base does.
fn check_pages(maps: &Maps, base: Digest, updated: &Updated) {
    let old = reachable(maps, base);
    let new = reachable(maps, updated.root);
    let mut seen = HashSet::new();
    for page in &updated.pages {
        assert_eq!(Digest::of(&page.bytes), page.digest);
        let decoded = Page::decode(&page.bytes).unwrap();
        if decoded.level() > 0 {
            let children = decoded.slots().map(|(_, child)| child);
            assert!(
                children
                    .into_iter()
                    .all(|child| seen.contains(&child) || old.contains(&child)),
                "a page came before its children"
            );
        }
        seen.insert(page.digest);
    }
    assert!(
        new.difference(&old).all(|page| seen.contains(page)),
        "a page is missing"
    );
    assert!(
        seen.iter().all(|page| new.contains(page)),
        "a page of no use"
    );
}

/// The digests of all pages of a map.
fn reachable(maps: &Maps, root: Digest) -> HashSet<Digest> {
    let mut found = HashSet::from([root]);
    let mut level = vec![root];
    for number in (1..4).rev() {
        let pages = run(maps.pages.pages(&level, number)).unwrap();
        let mut below: Vec<_> = pages
            .iter()
            .flat_map(|page| page.slots().map(|(_, digest)| digest))
            .collect();
        below.sort();
        below.dedup();
        found.extend(&below);
        level = below;
    }
    found
}

proptest! {
    #[test]
    fn a_chain_of_updates_gives_what_each_model_says(chain in any_chain(), step in 1_usize..70) {
        let maps = Maps::uncached();
        let mut root = empty_root().digest;
        let mut model = Model::new();
        let mut history = Vec::new();
        for put in chain {
            let updated = maps.update_by(step, root, &entries(&put));
            let added = put.keys().filter(|at| !model.contains_key(at)).count();
            prop_assert_eq!(updated.added, added as u64);
            check_pages(&maps, root, &updated);
            model.extend(put);
            root = updated.root;
            history.push((root, model.clone()));
        }
        for (root, model) in history {
            prop_assert_eq!(maps.walk(root, 0, usize::MAX).entries, entries(&model));
        }
    }

    #[test]
    fn the_root_depends_on_the_content_alone(first in any_model(), second in any_model()) {
        let maps = Maps::uncached();
        let mut both = first.clone();
        both.extend(&second);
        // What the second put overwrote must not show.
        let in_two = maps.update(maps.build(&first), &entries(&second)).root;
        prop_assert_eq!(in_two, maps.build(&both));
    }

    #[test]
    fn each_page_of_the_base_is_loaded_once_at_most(first in any_model(), put in any_model()) {
        let maps = Maps::uncached();
        let base = maps.build(&first);
        let pages = reachable(&maps, base).len();
        let (updated, loaded, _) = maps.counting(|| maps.update_by(3, base, &entries(&put)));
        prop_assert!(loaded <= pages, "{} of {} pages", loaded, pages);
        prop_assert!(loaded <= updated.pages.len() + 3 * put.len() + 1);
    }
}

#[test]
fn without_changes_the_base_stays_and_nothing_is_made() {
    let maps = Maps::uncached();
    let base = maps.full(1);
    let nothing = Updated {
        root: base,
        pages: Vec::new(),
        added: 0,
    };
    let (updated, loaded, _) = maps.counting(|| maps.update(base, &[]));
    assert_eq!((updated, loaded), (nothing.clone(), 1));
    let same: Vec<_> = (0..5000).map(|at| (index(at * 131), digest(1))).collect();
    assert_eq!(maps.update(base, &same), nothing);
}

#[test]
fn without_changes_an_unreadable_base_is_still_noticed() {
    let maps = Maps::uncached();
    let missing = digest(1);
    let finished = run(Update::new(&maps.pages, missing).finish());
    assert!(matches!(finished, Err(Error::Load(page)) if page.0 == missing));
}

#[test]
fn an_empty_map_is_the_same_with_or_without_an_update() {
    let maps = Maps::uncached();
    let updated = maps.update(empty_root().digest, &[]);
    assert_eq!(
        updated,
        Updated {
            root: empty_root().digest,
            pages: Vec::new(),
            added: 0
        }
    );
}

#[test]
fn one_change_makes_and_loads_one_page_on_each_level() {
    let maps = Maps::uncached();
    let base = maps.full(0);
    let (updated, loaded, _) =
        maps.counting(|| maps.update(base, &[(index(100_000_000), digest(1))]));
    assert_eq!((updated.pages.len(), loaded, updated.added), (4, 4, 0));
    assert_eq!(
        updated.pages.last().map(|page| page.digest),
        Some(updated.root)
    );
}

/// Pages that rewriting `indexes` in a full map of 64 TiB makes.
fn pages_made(indexes: impl IntoIterator<Item = u32>) -> usize {
    let maps = Maps::uncached();
    let mut put: Vec<_> = indexes
        .into_iter()
        .map(|at| (index(at), digest(u64::from(at) + 1)))
        .collect();
    put.sort();
    put.dedup();
    let base = maps.full(0);
    let updated = maps.update(base, &put);
    assert_eq!(updated.added, 0);
    assert_eq!(
        maps.diff(base, updated.root, 0, UNLIMITED).changes.len(),
        put.len()
    );
    updated.pages.len()
}

#[test]
fn scattered_changes_make_the_pages_above_them() {
    // As far apart as 2,048 changes can be: as many leaves, as many pages above, 64 above these, the root.
    assert_eq!(
        pages_made((0..2048).map(|n| n * 65_536)),
        2048 + 2048 + 64 + 1
    );
    // At random, some share pages of level 1: 8192 * (1 - exp(-2048 / 8192)) = 1812 are expected.
    let random: Vec<_> = scattered()
        .take(2048)
        .map(|n| n as u32 % BlockIndex::COUNT_MAX)
        .collect();
    let above = |level: u32| {
        random
            .iter()
            .map(|at| at >> (7 * level))
            .collect::<HashSet<_>>()
            .len()
    };
    let made = pages_made(random.iter().copied());
    assert_eq!(made, above(1) + above(2) + above(3) + 1);
    assert!((3880..3980).contains(&made), "{made} pages");
}

#[test]
fn sequential_changes_make_hardly_more_than_their_leaves() {
    assert_eq!(pages_made(0..100_000), 782 + 7 + 1 + 1);
}

#[test]
fn stretches_of_one_content_do_not_make_the_same_page_over_and_over() {
    let maps = Maps::uncached();
    let zeros: Vec<_> = (0..100_000)
        .map(|at| (index(at), Digest::ZERO_BLOCK))
        .collect();
    let updated = maps.update(empty_root().digest, &zeros);
    // Full pages of levels 0 and 1, the unfinished ones at the end, level 2, the root.
    assert_eq!(
        (updated.pages.len(), updated.added),
        (2 + 2 + 1 + 1, 100_000)
    );
    assert_eq!(maps.walk(updated.root, 0, usize::MAX).entries, zeros);
}

#[test]
fn base_pages_are_loaded_in_batches() {
    let maps = Maps::uncached();
    let all: Model = (0..300_000).map(|at| (at, at.into())).collect();
    let base = maps.build(&all);
    let put: Vec<_> = (0..1000).map(|n| (index(n * 300), digest(7))).collect();
    let (_, loaded, calls) = maps.counting(|| maps.update(base, &put));
    assert_eq!(loaded, 1000 + 300_000 / 16_384 + 1 + 1 + 1);
    assert!(
        calls <= 2 * (1000 / RUN_LEAVES_MAX + 1) + 2,
        "{calls} calls"
    );
}

#[test]
fn held_pages_stay_few_however_many_changes_there_are() {
    let maps = Maps::uncached();
    let base = maps.full(0);
    let mut update = Update::new(&maps.pages, base);
    let put: Vec<_> = (0..8192)
        .map(|n| (index(n * 16_384), digest(u64::from(n) + 1)))
        .collect();
    let mut made = 0;
    for put in put.chunks(100) {
        run(update.apply(put)).unwrap();
        assert!(update.held.len() <= super::BASE_PAGES_MAX);
        assert_eq!(update.path.len(), 4);
        let finished = update.take_pages().len();
        assert!(finished <= 3 * put.len());
        made += finished;
    }
    let updated = run(update.finish()).unwrap();
    assert_eq!(made + updated.pages.len(), 8192 + 8192 + 64 + 1);
}

/// Depth costs nothing: snapshot 10,000 of a chain is read and updated at the price of the first.
#[test]
fn a_chain_of_10_000_snapshots() {
    let maps = Maps::uncached();
    let mut model: Model = (0..3000).map(|at| (at * 401, 0)).collect();
    let first_model = model.clone();
    let first = maps.build(&model);
    let mut random = scattered();
    let mut root = first;
    for number in 1..10_000 {
        let put: Model = random
            .by_ref()
            .take(3)
            .map(|n| (n as u32 % 3000 * 401, n))
            .collect();
        let (updated, loaded, _) = maps.counting(|| maps.update(root, &entries(&put)));
        assert!(updated.pages.len() <= 3 * 3 + 1 && updated.added == 0);
        assert!(loaded <= 3 * 3 + 1, "{loaded} pages at {number}");
        root = updated.root;
        model.extend(put);
    }
    let read = |root| maps.counting(|| maps.walk(root, 0, usize::MAX));
    let (first_walk, first_loaded, first_calls) = read(first);
    let (last_walk, last_loaded, last_calls) = read(root);
    assert_eq!(first_walk.entries, entries(&first_model));
    assert_eq!(last_walk.entries, entries(&model));
    assert_eq!((first_loaded, first_calls), (last_loaded, last_calls));
    let get = |root| maps.counting(|| maps.get(root, 401 * 1234).unwrap()).1;
    assert_eq!((get(first), get(root)), (4, 4));
    assert_eq!(
        maps.diff(first, root, 0, UNLIMITED).changes,
        changes(&first_model, &model)
    );
    // Nothing is stored but what changed: 10,000 times 3 changes of 3 pages and a root each.
    assert!(maps.pages.loader().len() <= 10_000 * 10 + 3100);
}

#[test]
fn a_damaged_base_is_an_error_and_not_a_map() {
    let maps = Maps::uncached();
    // An inner page of level 2 that names another page of level 2 where one of level 1 belongs.
    let mut slots = [None; SLOTS];
    slots[0] = Some(digest(1));
    let inner = maps.put(Page::of_slots(2, &slots).encode_named());
    slots[0] = Some(inner);
    let wrong = maps.put(Page::of_slots(2, &slots).encode_named());
    slots = [None; SLOTS];
    slots[..2].copy_from_slice(&[Some(wrong), Some(inner)]);
    let root = maps.put(Page::of_slots(3, &slots).encode_named());
    let put = [
        (index(0), digest(2)),
        (index((1 << 21) + (1 << 14)), digest(2)),
    ];
    let applied = run(Update::new(&maps.pages, root).apply(&put));
    let reason = PageError::Misplaced {
        expected: 1,
        found: 2,
    };
    assert!(
        matches!(applied, Err(Error::Damaged { page, reason: found })
        if page == inner && found == reason)
    );
}

#[test]
fn changes_out_of_order_are_a_bug_of_the_caller() {
    let applied = |calls: &[&[u32]]| {
        std::panic::catch_unwind(|| {
            let maps = Maps::uncached();
            let mut update = Update::new(&maps.pages, empty_root().digest);
            for call in calls {
                let put: Vec<_> = call.iter().map(|at| (index(*at), digest(1))).collect();
                run(update.apply(&put)).unwrap();
            }
        })
        .is_ok()
    };
    assert!(applied(&[&[1, 2], &[3]]));
    assert!(!applied(&[&[2, 1]]));
    assert!(!applied(&[&[2, 2]]));
    assert!(!applied(&[&[1, 2], &[2]]));
}
