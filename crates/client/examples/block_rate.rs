//! Measures how fast blocks are put and got over the wire, with 1, 8, 16 and 32 requests in flight and with as many as the client chooses.
//!
//! Where, and with whose credentials, is taken from the environment, as by every command. Leaves nothing behind.
//!
//! Usage: `cargo run --release -p client --example block_rate [BLOCKS]`

use bytes::Bytes;
use client::api::{Api, ApiParts, PageStart, SnapshotState, StartSnapshot, Which};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::{Counter, Error, Meter, SnapshotId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use types::{
    BLOCK_BYTES, BlockIndex, Clock, Digest, DigestContext, Random, SystemClock, VolumeSize,
};

const IN_FLIGHT: [usize; 4] = [1, 8, 16, 32];

#[tokio::main]
async fn main() -> Result<(), Error> {
    let blocks = std::env::args()
        .nth(1)
        .map_or(Some(1_000), |text| text.parse().ok())
        .filter(|blocks| (1..=2_048).contains(blocks))
        .ok_or_else(|| Error::Config("usage: block_rate [1 to 2048 BLOCKS]".to_owned()))?;
    println!("{blocks} blocks of 512 KiB, MB/s");
    println!("in flight      put      get   p50 of both");
    for in_flight in IN_FLIGHT {
        measure(in_flight, false, blocks).await?;
    }
    measure(64, true, blocks).await
}

async fn measure(in_flight: usize, is_free: bool, blocks: u32) -> Result<(), Error> {
    // What the client would not choose by itself is held by so many callers.
    let options = ApiOptions {
        in_flight_max: in_flight,
        ..ApiOptions::default()
    };
    let config = Config::load(
        &Environment::new(std::env::vars()),
        &ConfigOptions::default(),
    )?;
    let meter = Arc::new(Meter::new());
    let clock = Arc::new(SystemClock::new());
    let api = Api::new(ApiParts {
        config,
        options,
        clock: Arc::<SystemClock>::clone(&clock),
        random: Random::system(),
        meter: Arc::clone(&meter),
    })?;
    let id = start(&api).await?;
    let data = distinct(&api, blocks);
    let begun = clock.monotonic();
    let digests = put_all(&api, &id, data, in_flight).await?;
    let put = clock.monotonic().saturating_sub(begun);
    complete(&api, &id, &digests).await?;
    let begun = clock.monotonic();
    get_all(&api, &id, in_flight).await?;
    let get = clock.monotonic().saturating_sub(begun);
    api.delete_snapshot(&id).await?;
    let rate = |took: Duration| f64::from(blocks) * BLOCK_BYTES as f64 / 1e6 / took.as_secs_f64();
    let reading = meter.read();
    let shown = match is_free {
        true => format!("{} chosen", meter.get(Counter::InFlightLimit)),
        false => in_flight.to_string(),
    };
    println!(
        "{shown:>9} {:>8.0} {:>8.0}   {:?}",
        rate(put),
        rate(get),
        reading.p50.unwrap_or_default()
    );
    Ok(())
}

async fn start(api: &Api) -> Result<SnapshotId, Error> {
    let request = StartSnapshot {
        volume_size: VolumeSize::from_gib(1).expect("within the limits"),
        parent: None,
        description: None,
        tags: BTreeMap::new(),
        encrypted: None,
        kms_key_arn: None,
        client_token: format!("block-rate-{:016x}", api.random().bits()),
        timeout_minutes: 10,
    };
    Ok(api.start_snapshot(&request).await?.id)
}

/// Blocks that no store has yet: one of random bytes, each time with another beginning.
fn distinct(api: &Api, blocks: u32) -> impl Iterator<Item = (BlockIndex, Bytes)> + use<> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    while bytes.len() < BLOCK_BYTES {
        bytes.extend_from_slice(&api.random().bytes::<4096>());
    }
    (0..blocks).filter_map(move |number| {
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Some((BlockIndex::new(number)?, Bytes::copy_from_slice(&bytes)))
    })
}

async fn put_all(
    api: &Api,
    id: &SnapshotId,
    data: impl Iterator<Item = (BlockIndex, Bytes)>,
    in_flight: usize,
) -> Result<BTreeMap<BlockIndex, Digest>, Error> {
    let mut digests = BTreeMap::new();
    let mut tasks = JoinSet::new();
    for (index, data) in data {
        if tasks.len() == in_flight {
            join(&mut tasks).await?;
        }
        let digest = Digest::of(&data);
        digests.insert(index, digest);
        let (api, id) = (api.clone(), id.clone());
        tasks.spawn(async move { api.put_block(&id, index, data, digest).await });
    }
    while !tasks.is_empty() {
        join(&mut tasks).await?;
    }
    Ok(digests)
}

async fn complete(
    api: &Api,
    id: &SnapshotId,
    digests: &BTreeMap<BlockIndex, Digest>,
) -> Result<(), Error> {
    let mut aggregate = DigestContext::new();
    digests
        .values()
        .for_each(|digest| aggregate.update(digest.as_bytes()));
    let count = u32::try_from(digests.len()).expect("no more than blocks");
    api.complete_snapshot(id, count, aggregate.finish()).await?;
    let which = Which::Ids(vec![id.clone()]);
    loop {
        let mut done = false;
        let mut see =
            |found: client::api::Description| done = found.state == SnapshotState::Completed;
        api.describe_snapshots(&which, &mut see).await?;
        if done {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn get_all(api: &Api, id: &SnapshotId, in_flight: usize) -> Result<(), Error> {
    let start = PageStart::Index(BlockIndex::ZERO);
    let page = api.list_blocks(id, start).await?;
    let mut tasks = JoinSet::new();
    for block in page.blocks {
        if tasks.len() == in_flight {
            join(&mut tasks).await?;
        }
        let (api, id) = (api.clone(), id.clone());
        tasks.spawn(async move {
            api.get_block(&id, block.index, &block.token, block.digest)
                .await
                .map(|_| ())
        });
    }
    while !tasks.is_empty() {
        join(&mut tasks).await?;
    }
    Ok(())
}

async fn join(tasks: &mut JoinSet<Result<(), Error>>) -> Result<(), Error> {
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(_)) | None => Err(Error::Interrupted),
    }
}
