//! The calls one by one, against a real server.

use crate::server::{Place, Server};
use crate::signed::Key;
use client::api::{
    Api, ApiParts, Extensions, PageStart, PutByDigest, SnapshotState, StartSnapshot, Which,
};
use client::config::{ApiOptions, Config, ConfigOptions, Environment};
use client::{Counter, Error, Meter, SnapshotId};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::{BLOCK_BYTES, BlockIndex, Digest, DigestContext, Random, SystemClock, VolumeSize};

/// A client of this server, with the key of its first start.
pub fn api(place: &Place, server: &Server, options: ApiOptions) -> Api {
    let key = Key::of(place);
    let variables = [
        ("AWS_ACCESS_KEY_ID", key.id),
        ("AWS_SECRET_ACCESS_KEY", key.secret),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", format!("http://{}", server.address)),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value));
    let config = Config::load(&Environment::new(variables), &ConfigOptions::default());
    let parts = ApiParts {
        config: config.expect("a configuration"),
        options,
        clock: Arc::new(SystemClock::new()),
        random: Random::system(),
        meter: Arc::new(Meter::new()),
    };
    Api::new(parts).expect("an API")
}

fn start(token: &str, parent: Option<&SnapshotId>) -> StartSnapshot {
    StartSnapshot {
        volume_size: VolumeSize::from_gib(1).expect("a size"),
        parent: parent.cloned(),
        description: Some("a <disk> & more".to_owned()),
        tags: BTreeMap::from([("Name".to_owned(), "a*b?\\".to_owned())]),
        encrypted: None,
        kms_key_arn: None,
        client_token: token.to_owned(),
        timeout_minutes: 60,
    }
}

fn index(value: u32) -> BlockIndex {
    BlockIndex::new(value).expect("an index")
}

fn block(seed: u8) -> (bytes::Bytes, Digest) {
    let data: Vec<u8> = (0..BLOCK_BYTES).map(|at| (at / 7) as u8 ^ seed).collect();
    let digest = Digest::of(&data);
    (data.into(), digest)
}

fn aggregate(digests: &[Digest]) -> Digest {
    let mut context = DigestContext::new();
    digests
        .iter()
        .for_each(|digest| context.update(digest.as_bytes()));
    context.finish()
}

async fn describe(api: &Api, which: Which) -> Vec<client::api::Description> {
    let mut found = Vec::new();
    api.describe_snapshots(&which, &mut |description| found.push(description))
        .await
        .expect("descriptions");
    found
}

async fn complete(api: &Api, id: &SnapshotId, digests: &[Digest]) {
    let count = u32::try_from(digests.len()).expect("few");
    api.complete_snapshot(id, count, aggregate(digests))
        .await
        .expect("completed");
    loop {
        let found = describe(api, Which::Ids(vec![id.clone()])).await;
        match &found[0].state {
            SnapshotState::Completed => return,
            SnapshotState::Pending => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_does_what_it_says() {
    let place = Place::new();
    let server = place.serve(&[]);
    let api = api(&place, &server, ApiOptions::default());

    let account = api.caller_account().await.expect("an account");
    assert_eq!(account.len(), 12);

    let request = start("first", None);
    let started = api.start_snapshot(&request).await.expect("started");
    assert_eq!(
        started.extensions,
        Extensions {
            block_checksums: true,
            put_by_digest: true,
            lineage: true
        }
    );
    let id = started.id;
    let again = api.start_snapshot(&request).await.expect("started");
    assert_eq!(again.id, id, "the token makes a repeat harmless");

    let (one, one_digest) = block(1);
    let (two, two_digest) = block(2);
    api.put_block(&id, index(0), one, one_digest)
        .await
        .expect("put");
    api.put_block(&id, index(2047), two.clone(), two_digest)
        .await
        .expect("put");
    let put = |digest| api.put_by_digest(&id, index(7), digest);
    assert_eq!(put(two_digest).await.expect("put"), PutByDigest::Done);
    let unknown = Digest::of(b"unknown");
    assert_eq!(put(unknown).await.expect("put"), PutByDigest::DataRequired);
    let beyond = api.put_block(&id, index(2048), two, two_digest).await;
    assert!(
        matches!(&beyond, Err(Error::Refused(refusal)) if refusal.reason.as_deref() == Some("INVALID_BLOCK")),
        "{beyond:?}"
    );
    complete(&api, &id, &[one_digest, two_digest, two_digest]).await;

    let page = api
        .list_blocks(&id, PageStart::Index(BlockIndex::ZERO))
        .await;
    let page = page.expect("a page");
    assert_eq!(page.next, None);
    assert_eq!(page.volume_size, VolumeSize::from_gib(1));
    let listed: Vec<_> = page
        .blocks
        .iter()
        .map(|block| (block.index.get(), block.digest))
        .collect();
    let expected = [(0, one_digest), (7, two_digest), (2047, two_digest)];
    assert_eq!(
        listed,
        expected.map(|(index, digest)| (index, Some(digest)))
    );
    for listed in &page.blocks {
        let got = api
            .get_block(&id, listed.index, &listed.token, listed.digest)
            .await
            .expect("a block");
        assert_eq!(Digest::of(&got.data), got.digest);
        assert_eq!(Some(got.digest), listed.digest);
    }
    let refused = api
        .get_block(&id, index(1), &page.blocks[0].token, None)
        .await;
    assert!(
        matches!(&refused, Err(Error::Refused(refusal)) if refusal.reason.as_deref() == Some("INVALID_BLOCK_TOKEN")),
        "{refused:?}"
    );

    let child = api.start_snapshot(&start("second", Some(&id))).await;
    let child = child.expect("started").id;
    let (three, three_digest) = block(3);
    api.put_block(&child, index(7), three, three_digest)
        .await
        .expect("put");
    complete(&api, &child, &[three_digest]).await;
    let changed = api
        .list_changed_blocks(&id, &child, PageStart::Index(BlockIndex::ZERO))
        .await
        .expect("a page");
    assert_eq!(changed.blocks.len(), 1);
    let changed = &changed.blocks[0];
    assert_eq!(changed.index, index(7));
    let digest = |side: &Option<(String, Option<Digest>)>| side.as_ref().and_then(|side| side.1);
    assert_eq!(digest(&changed.first), Some(two_digest));
    assert_eq!(digest(&changed.second), Some(three_digest));

    let found = describe(&api, Which::Own).await;
    assert_eq!(found.len(), 2);
    let found = describe(&api, Which::Ids(vec![child.clone()])).await;
    let found = &found[0];
    assert_eq!(found.id, child);
    assert_eq!(found.owner, account);
    assert_eq!(found.description, "a <disk> & more");
    assert_eq!(found.full_bytes, Some(3 * BLOCK_BYTES as u64));
    assert_eq!(found.progress.as_deref(), Some("100%"));
    assert!(found.start_time.is_some() && found.completion_time >= found.start_time);
    let lineage = found.lineage.as_ref().expect("it was asked for");
    assert_eq!(lineage.parent, Some(id.clone()));
    assert!(lineage.root.is_some());

    let tags = BTreeMap::from([("k".to_owned(), "v&=+ %\u{e9}".to_owned())]);
    api.create_tags(std::slice::from_ref(&child), &tags)
        .await
        .expect("tagged");
    let tagged = |key: &str, value: &str| Which::Tagged {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let found = describe(&api, tagged("k", "v&=+ %\u{e9}")).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].tags.len(), 2);
    assert_eq!(describe(&api, tagged("Name", "a*b?\\")).await.len(), 2);
    assert_eq!(describe(&api, tagged("Name", "a*")).await.len(), 0);
    api.delete_tags(std::slice::from_ref(&child), &["k".to_owned()])
        .await
        .expect("untagged");
    let found = describe(&api, Which::Ids(vec![child.clone()])).await;
    assert_eq!(found[0].tags.len(), 1);

    api.delete_snapshot(&child).await.expect("deleted");
    let gone = api.delete_snapshot(&child).await;
    assert!(
        matches!(&gone, Err(Error::Refused(refusal)) if refusal.code == "InvalidSnapshot.NotFound"),
        "{gone:?}"
    );
    let reading = api.meter().read();
    assert_eq!(reading.retries, 0);
    assert_eq!(reading.in_flight, 0);
    assert_eq!(reading.bytes, 7 * BLOCK_BYTES as u64);
    assert!(reading.p50.is_some());
    assert!(api.meter().get(Counter::InFlightLimit) >= 1);
}
