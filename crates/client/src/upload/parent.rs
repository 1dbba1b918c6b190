//! What the parent holds: the digest of every block that it lists, in index order, as a stream that runs ahead of who needs it.
//!
//! Three ways, the first that works is taken:
//! 1. The server names the blocks' checksums in its listing.
//! 2. A digest file of the parent, kept by the upload that made it. It is believed when it is whole, is about the parent and has the digest
//!    of one block, chosen at random, that is then got; and as long as it has the very blocks that are listed.
//! 3. Every block is got, and its digest computed.

use super::ParentKnownBy;
use super::plan::Pull;
use crate::api::{Api, ListedBlock};
use crate::journal::{DigestHeader, Records};
use crate::listing::{Blocks, get_with_fresh_token};
use crate::tasks::{Task, Tasks, blocking};
use crate::walk::{Listed, Lost, Walk};
use crate::{Error, SnapshotId};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use types::{BlockIndex, Digest, VolumeSize};

/// Blocks handed on at once.
const BATCH: usize = 512;

/// Batches that may wait to be taken: with those being made, as many blocks as two pages list.
const BATCHES_AHEAD: usize = 32;

/// A parent whose listing has begun.
pub(super) struct Parent {
    api: Api,
    id: SnapshotId,
    walk: Walk,
    way: Way,
}

enum Way {
    Checksums,
    DigestFile(Box<Records>, PathBuf),
    Reading,
}

/// The stream of digests; it ends when this is dropped.
pub(super) struct Feed {
    task: Task<()>,
    batches: mpsc::Receiver<Batch>,
}

enum Batch {
    Blocks(Vec<(BlockIndex, Digest)>),
    Failed(Error),
    End,
}

impl Parent {
    /// Fetches the first page of the listing and finds the way. Pushes what the user should know to `warnings`.
    pub(super) async fn open(
        api: &Api,
        id: &SnapshotId,
        digests: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Parent, Error> {
        let walk = Walk::begin(api, id, Lost::Fail).await?;
        let way = if walk.extensions().block_checksums {
            Way::Checksums
        } else {
            match digests {
                Some(path) => match believed(api, id, path).await? {
                    Ok(records) => Way::DigestFile(Box::new(records), path.to_owned()),
                    Err(why) => {
                        warnings.push(format!("the parent's blocks were read: {why}"));
                        Way::Reading
                    }
                },
                None => Way::Reading,
            }
        };
        Ok(Parent {
            api: api.clone(),
            id: id.clone(),
            walk,
            way,
        })
    }

    /// Size of its volume.
    pub(super) fn volume_size(&self) -> VolumeSize {
        self.walk.volume_size()
    }

    /// The way that was found.
    pub(super) fn known_by(&self) -> ParentKnownBy {
        match self.way {
            Way::Checksums => ParentKnownBy::Checksums,
            Way::DigestFile(..) => ParentKnownBy::DigestFile,
            Way::Reading => ParentKnownBy::Reading,
        }
    }

    /// Starts the stream.
    pub(super) fn feed(self) -> Feed {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let task = Task::start(async move {
            let last = match self.run(&sender).await {
                Ok(()) => Batch::End,
                Err(error) => Batch::Failed(error),
            };
            // When nobody wants it, the transfer has ended.
            let _ = sender.send(last).await;
            Ok(())
        });
        Feed { task, batches }
    }

    async fn run(self, sender: &mpsc::Sender<Batch>) -> Result<(), Error> {
        let mut out = Out {
            sender,
            batch: Vec::with_capacity(BATCH),
        };
        let Parent { api, id, walk, way } = self;
        match way {
            Way::Checksums => listed_checksums(&api, walk, &mut out).await?,
            Way::DigestFile(records, path) => from_file(walk, *records, &path, &mut out).await?,
            Way::Reading => by_reading(&api, &id, walk, &mut out).await?,
        }
        out.flush().await
    }
}

impl Feed {
    /// The stream as something that is asked from a thread that may block, and what keeps it going.
    pub(super) fn split(self) -> (Task<()>, Pull<(BlockIndex, Digest)>) {
        let mut batches = self.batches;
        let mut batch = Vec::new().into_iter();
        let mut ended = false;
        let pull = move || {
            loop {
                if let Some(next) = batch.next() {
                    return Ok(Some(next));
                }
                if ended {
                    return Ok(None);
                }
                match batches.blocking_recv() {
                    Some(Batch::Blocks(blocks)) => batch = blocks.into_iter(),
                    Some(Batch::Failed(error)) => return Err(error),
                    Some(Batch::End) => ended = true,
                    None => return Err(Error::Interrupted),
                }
            }
        };
        (self.task, Box::new(pull))
    }
}

/// Where blocks are handed on.
struct Out<'a> {
    sender: &'a mpsc::Sender<Batch>,
    batch: Vec<(BlockIndex, Digest)>,
}

impl Out<'_> {
    async fn push(&mut self, index: BlockIndex, digest: Digest) -> Result<(), Error> {
        self.batch.push((index, digest));
        match self.batch.len() < BATCH {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender
            .send(Batch::Blocks(batch))
            .await
            .map_err(|_| Error::Interrupted)
    }
}

/// The next block of a walk that leaves nothing out.
async fn next(walk: &mut Walk) -> Result<Option<ListedBlock>, Error> {
    match walk.next().await? {
        Some(Listed::Block(block)) => Ok(Some(block)),
        Some(Listed::Unlisted(_)) => unreachable!("a walk that fails on lost pages skips none"),
        None => Ok(None),
    }
}

async fn listed_checksums(api: &Api, mut walk: Walk, out: &mut Out<'_>) -> Result<(), Error> {
    while let Some(block) = next(&mut walk).await? {
        let digest = block.digest.ok_or_else(|| Error::NotTheApi {
            operation: "ListSnapshotBlocks",
            endpoint: api.endpoint(),
            reason: format!("block {} is listed without its checksum", block.index),
        })?;
        out.push(block.index, digest).await?;
    }
    Ok(())
}

async fn from_file(
    mut walk: Walk,
    mut records: Records,
    path: &Path,
    out: &mut Out<'_>,
) -> Result<(), Error> {
    let differs = |index: BlockIndex| {
        Error::Unfit(format!(
            "{} does not have the blocks that the parent lists, such as {index}: remove it, so that the parent is read instead",
            path.display()
        ))
    };
    loop {
        let (ahead, some) = read_some(records).await?;
        records = ahead;
        for (index, digest) in &some {
            match next(&mut walk).await? {
                Some(block) if block.index == *index => out.push(*index, *digest).await?,
                _ => return Err(differs(*index)),
            }
        }
        if some.len() < BATCH {
            return match next(&mut walk).await? {
                Some(block) => Err(differs(block.index)),
                None => Ok(()),
            };
        }
    }
}

async fn by_reading(
    api: &Api,
    id: &SnapshotId,
    mut walk: Walk,
    out: &mut Out<'_>,
) -> Result<(), Error> {
    let mut gets = Tasks::new(true);
    let mut listed = true;
    loop {
        while listed && gets.len() < api.in_flight_max() {
            match next(&mut walk).await? {
                Some(block) => gets.start(digest_of(api.clone(), id.clone(), block)),
                None => listed = false,
            }
        }
        match gets.next().await {
            Some(got) => {
                let (index, digest) = got?;
                out.push(index, digest).await?;
            }
            None => return Ok(()),
        }
    }
}

/// Gets a block for its digest.
async fn digest_of(
    api: Api,
    id: SnapshotId,
    block: ListedBlock,
) -> Result<(BlockIndex, Digest), Error> {
    let index = block.index;
    let got = get_with_fresh_token(&api, &id, &block).await?;
    Ok((index, got.digest))
}

/// The records of a digest file, from the first on, when it can be believed to be the parent's; else why not.
async fn believed(
    api: &Api,
    id: &SnapshotId,
    path: &Path,
) -> Result<Result<Records, String>, Error> {
    let shown = path.display();
    if !path.exists() {
        return Ok(Err(format!("there is no digest file {shown} yet")));
    }
    let (records, header) = open(path).await?;
    match DigestHeader::decode(&header) {
        None => return Ok(Err(format!("{shown} is not a digest file"))),
        Some(header) if header.snapshot != *id => {
            let of = header.snapshot;
            return Ok(Err(format!("{shown} is the digest file of {of}")));
        }
        Some(_) if records.torn() => return Ok(Err(format!("{shown} is damaged"))),
        Some(_) => {}
    }
    let from = u32::from_le_bytes(api.random().bytes());
    let Some(block) = listed_near(api, id, from).await? else {
        return Ok(Ok(records));
    };
    let (index, digest) = digest_of(api.clone(), id.clone(), block).await?;
    let claimed = blocking(move || {
        let mut records = records;
        while let Some((at, digest)) = records.next()? {
            if at >= index {
                return Ok((at == index).then_some(digest));
            }
        }
        Ok(None)
    });
    if claimed.await? != Some(digest) {
        return Ok(Err(format!("{shown} is wrong about block {index}")));
    }
    Ok(Ok(open(path).await?.0))
}

/// A block of the snapshot, chosen by a number.
async fn listed_near(
    api: &Api,
    id: &SnapshotId,
    number: u32,
) -> Result<Option<ListedBlock>, Error> {
    let mut first = Blocks::begin(api, id, BlockIndex::ZERO).await?;
    let at = BlockIndex::new(number % first.volume_size().block_count());
    let mut near = Blocks::begin(api, id, at.unwrap_or(BlockIndex::ZERO)).await?;
    match near.next().await? {
        Some(block) => Ok(Some(block)),
        None => first.next().await,
    }
}

async fn open(path: &Path) -> Result<(Records, String), Error> {
    let path = path.to_owned();
    blocking(move || Records::open(&path)).await
}

/// Up to a batch of records; fewer at the end.
async fn read_some(mut records: Records) -> Result<(Records, Vec<(BlockIndex, Digest)>), Error> {
    blocking(move || {
        let mut some = Vec::with_capacity(BATCH);
        while some.len() < BATCH
            && let Some(next) = records.next()?
        {
            some.push(next);
        }
        Ok((records, some))
    })
    .await
}
