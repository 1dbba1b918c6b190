//! The calls against a scripted server: what is sent, what is repeated, and what comes of answers that are none.

mod blocks;
mod calls;
mod lines;

use super::*;
use crate::Reading;
use crate::testing::{Act, Answer, Scripted, api, api_at};
use std::time::Duration;

fn id() -> SnapshotId {
    "snap-0123456789abcdef0".parse().unwrap()
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).unwrap()
}

fn data(seed: u8) -> Vec<u8> {
    (0..BLOCK_BYTES).map(|at| (at / 5) as u8 ^ seed).collect()
}

fn start() -> StartSnapshot {
    StartSnapshot {
        volume_size: types::VolumeSize::from_gib(1).unwrap(),
        parent: None,
        description: None,
        tags: BTreeMap::new(),
        encrypted: None,
        kms_key_arn: None,
        client_token: "token".to_owned(),
        timeout_minutes: 60,
    }
}

/// A page without blocks.
fn empty_page() -> Answer {
    Answer::new(200, r#"{"Blocks":[],"BlockSize":524288,"VolumeSize":1}"#)
}

fn fault() -> Answer {
    Answer::error(500, "InternalServerException", None, "An internal error")
}

async fn list(api: &Api) -> Result<ListPage<ListedBlock>, Error> {
    api.list_blocks(&id(), PageStart::Index(BlockIndex::ZERO))
        .await
}

/// What a listing comes to, how long it took, and what was counted.
async fn listed(server: &Scripted) -> (Result<(), Error>, Duration, Reading) {
    let api = api(server);
    let begun = crate::instant::now();
    let result = list(&api).await.map(|_| ());
    let took = crate::instant::now().duration_since(begun);
    (result, took, api.meter().read())
}

fn is_unreachable(result: &Result<(), Error>, attempts_made: u32) -> bool {
    matches!(result, Err(Error::Unreachable { attempts, .. }) if *attempts == attempts_made)
}

fn is_refused(result: &Result<(), Error>, code: &str) -> bool {
    matches!(result, Err(Error::Refused(refusal)) if refusal.code == code)
}

fn is_not_the_api<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::NotTheApi { endpoint, .. }) if endpoint == "http://drystone.test:8080")
}
