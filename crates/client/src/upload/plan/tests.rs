//! Against a model that holds everything in maps.

use super::*;
use buffers::BufferPool;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::{Strategy, any, prop_assert_eq, proptest};
use std::collections::{BTreeMap, BTreeSet};
use types::BLOCKS_PER_GIB;

fn pull<T: Send + 'static>(items: impl IntoIterator<Item = T>) -> Pull<T> {
    let mut items = items.into_iter().collect::<Vec<T>>().into_iter();
    Box::new(move || Ok(items.next()))
}

fn digest(content: u8) -> Digest {
    Digest::of(&[content])
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

/// What earlier attempts put, and what the parent lists.
type Listed<T> = BTreeMap<u32, T>;

fn plan(data: Data, parent: &Listed<u8>, own: &Listed<Option<u8>>) -> (Plan, Arc<Meter>) {
    let meter = Arc::new(Meter::new());
    let entry = |(block, content): (&u32, &Option<u8>)| Entry {
        index: index(*block),
        digest: content.map(digest),
    };
    let plan = Plan::new(Inputs {
        data,
        parent: pull(
            parent
                .iter()
                .map(|(block, content)| (index(*block), digest(*content))),
        ),
        own: pull(own.iter().map(entry)),
        volume_size: VolumeSize::from_gib(1).unwrap(),
        meter: Arc::clone(&meter),
    });
    (plan, meter)
}

/// Index, parent, own, and whether the source may have data.
type Told = (u32, Option<Digest>, Own, bool);

fn drain(plan: &mut Plan) -> Result<Vec<Told>, Error> {
    let mut told = Vec::new();
    while let Some(item) = plan.next()? {
        assert_eq!(item.sequence, told.len() as u64);
        let data = !matches!(item.content, Content::Zeros);
        told.push((item.index.get(), item.parent, item.own, data));
    }
    assert_eq!(plan.items(), told.len() as u64);
    Ok(told)
}

fn model(data: &BTreeSet<u32>, parent: &Listed<u8>, own: &Listed<Option<u8>>) -> Vec<Told> {
    let all: BTreeSet<u32> = data
        .iter()
        .chain(parent.keys())
        .chain(own.keys())
        .copied()
        .collect();
    let tell = |block: u32| {
        let own = match own.get(&block) {
            None => Own::Nothing,
            Some(None) => Own::Unknown,
            Some(Some(content)) => Own::Known(digest(*content)),
        };
        let parent = parent.get(&block).map(|content| digest(*content));
        (block, parent, own, data.contains(&block))
    };
    all.into_iter().map(tell).collect()
}

/// Total, done and zero once all items are done with.
fn counts(meter: &Meter, items: usize) -> (u64, u64, u64) {
    let reading = meter.read();
    (
        reading.total,
        reading.done + items as u64,
        reading.zero + items as u64,
    )
}

fn parents() -> impl Strategy<Value = Listed<u8>> {
    btree_map(0..96u32, any::<u8>(), 0..32)
}

fn owns() -> impl Strategy<Value = Listed<Option<u8>>> {
    btree_map(0..96u32, any::<Option<u8>>(), 0..32)
}

proptest! {
    #[test]
    fn a_file_is_merged_as_the_model_says(
        data in btree_set(0..64u32, 0..48),
        joined in any::<bool>(),
        parent in parents(),
        own in owns(),
    ) {
        let blocks = data.clone();
        let runs = move |from| {
            let Some(&start) = blocks.range(from..).next() else { return Ok(None) };
            let end = (start..).find(|block| !blocks.contains(block)).unwrap();
            Ok(Some(Extent { start, count: if joined { end - start } else { 1 } }))
        };
        let (mut plan, meter) = plan(Data::Runs(Box::new(runs), 64), &parent, &own);
        let told = drain(&mut plan).unwrap();
        let expected = model(&data, &parent, &own);
        let behind = expected.iter().filter(|item| item.0 >= 64).count() as u64;
        let items = told.len();
        prop_assert_eq!(told, expected);
        prop_assert_eq!(counts(&meter, items), (64 + behind, 64 + behind, 64 + behind));
    }

    #[test]
    fn a_stream_is_merged_as_the_model_says(
        blocks in 0..64u32,
        parent in parents(),
        own in owns(),
    ) {
        let pool = BufferPool::new(1, 4096);
        let mut left = blocks;
        let stream = move || {
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return Ok(None),
            };
            Ok(pool.try_take())
        };
        let (mut plan, meter) = plan(Data::Stream(Box::new(stream)), &parent, &own);
        let told = drain(&mut plan).unwrap();
        let expected = model(&(0..blocks).collect(), &parent, &own);
        let all = u64::from(blocks) + expected.iter().filter(|item| item.0 >= blocks).count() as u64;
        prop_assert_eq!(counts(&meter, told.len()), (all, all, all));
        prop_assert_eq!(told, expected);
    }
}

#[test]
fn a_stream_may_fill_the_volume_and_no_more() {
    for (blocks, fits) in [(BLOCKS_PER_GIB, true), (BLOCKS_PER_GIB + 1, false)] {
        let pool = BufferPool::new(1, 4096);
        let mut left = blocks;
        let stream = move || {
            let more = left > 0;
            left = left.saturating_sub(1);
            Ok(if more { pool.try_take() } else { None })
        };
        let (mut plan, _) = plan(
            Data::Stream(Box::new(stream)),
            &BTreeMap::new(),
            &BTreeMap::new(),
        );
        match drain(&mut plan) {
            Ok(told) => assert!(fits && told.len() == blocks as usize),
            Err(error) => assert!(!fits && matches!(error, Error::Unfit(_)), "{error}"),
        }
    }
}

/// A second reader was told that all was interrupted, which could hide what the first one was told.
#[test]
fn a_failure_is_told_once() {
    let meter = Arc::new(Meter::new());
    let mut plan = Plan::new(Inputs {
        data: Data::Runs(Box::new(|_| Ok(None)), 64),
        parent: Box::new(|| Err(Error::Unfit("damaged".to_owned()))),
        own: pull([]),
        volume_size: VolumeSize::from_gib(1).unwrap(),
        meter,
    });
    assert!(matches!(plan.next(), Err(Error::Unfit(_))));
    for _ in 0..2 {
        assert!(matches!(plan.next(), Ok(None)));
    }
}
