//! Moves the blocks: sets the parts going and sees to it that they all end.
//!
//! ```text
//!   plan.rs        which blocks        <- source's runs, parent.rs, journal of earlier attempts
//!     | items, in index order
//!   read.rs        threads: read, hash, decide (decide.rs)
//!     | puts                  \
//!   send.rs        async: put   \ nothing to put
//!     | acknowledged            /
//!   collect.rs     thread: journal, order, aggregate, digest file
//! ```
//!
//! Everything between them is bounded: buffers by their pool, items by the gate of `collect.rs`, messages by channels. Nobody holds a
//! buffer while waiting for an item, and whoever holds one gets rid of it without needing another: there is no deadlock.
//!
//! The end, whatever it is: puts on their way stop first, then everything acknowledged goes to the journal, then the gate closes and
//! the channels end, by which all threads end as soon as they notice. One that waits for a stream that does not flow notices never,
//! and holds nothing.

use super::collect::{Collector, Parts, SharedJournal, Summary, WINDOW};
use super::parent::Parent;
use super::plan::{Data, Inputs, Plan, Pull};
use super::read::{Put, Readers, take};
use super::send::Sender;
use crate::api::Api;
use crate::journal::{DigestFile, Records};
use crate::source::Source;
use crate::{Error, SnapshotId};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use types::{BLOCK_BYTES, VolumeSize};

/// Puts that are ready and wait for a place in flight.
const PUTS_AHEAD: usize = 8;

/// What is moved, and where to.
pub(super) struct Transfer {
    pub(super) snapshot: SnapshotId,
    pub(super) volume_size: VolumeSize,
    pub(super) put_by_digest: bool,
    pub(super) source: Arc<Source>,
    pub(super) parent: Option<Parent>,
    /// What earlier attempts put.
    pub(super) earlier: Option<Records>,
    pub(super) journal: Option<SharedJournal>,
    pub(super) digests: Option<DigestFile>,
}

/// Closes the gate in the end, so that nobody waits at it for ever.
struct Gate(Arc<Semaphore>);

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Transfer {
    /// Moves everything that must be moved.
    pub(super) async fn run(
        self,
        api: &Api,
        cancel: &mut (impl Future<Output = ()> + Send + Unpin),
    ) -> Result<Summary, Error> {
        let gate = Gate(Arc::new(Semaphore::new(WINDOW)));
        let runtime = Handle::current();
        let (feeding, parent): (_, Pull<_>) = match self.parent {
            Some(parent) => {
                let (task, pull) = parent.feed().split();
                (Some(task), pull)
            }
            None => (None, Box::new(|| Ok(None))),
        };
        let plan = Arc::new(Mutex::new(Plan::new(Inputs {
            data: data(&self.source, api, &runtime),
            parent,
            own: match self.earlier {
                Some(mut records) => Box::new(move || records.next_entry()),
                None => Box::new(|| Ok(None)),
            },
            volume_size: self.volume_size,
            meter: Arc::clone(api.meter()),
        })));
        let collector = Collector::start(Parts {
            journal: self.journal.clone(),
            digests: self.digests,
            gate: Arc::clone(&gate.0),
            meter: Arc::clone(api.meter()),
        })?;
        let (puts, mut received) = mpsc::channel::<Result<Put, Error>>(PUTS_AHEAD);
        Readers {
            runtime,
            source: self.source,
            plan: Arc::clone(&plan),
            gate: Arc::clone(&gate.0),
            buffers: api.buffers().clone(),
            journal: self.journal,
            puts,
            settled: collector.sender().clone(),
        }
        .start()?;
        let settled = collector.sender().clone();
        let mut sender = Sender::new(api, &self.snapshot, self.put_by_digest, settled);
        let sent = tokio::select! {
            sent = sender.run(&mut received) => sent,
            () = cancel => Err(Error::Interrupted),
        };
        drop(sender);
        drop(feeding);
        match sent {
            Ok(()) => {
                let items = plan.lock().unwrap_or_else(PoisonError::into_inner).items();
                collector.finish(items).await
            }
            // The collector, when it fails, can only hang up.
            Err(error) => Err(collector.stop().await.unwrap_or(error)),
        }
    }
}

fn data(source: &Arc<Source>, api: &Api, runtime: &Handle) -> Data {
    let source = Arc::clone(source);
    let Some(bytes) = source.bytes() else {
        let (runtime, buffers) = (runtime.clone(), api.buffers().clone());
        return Data::Stream(Box::new(move || {
            let mut buffer = take(&runtime, &buffers);
            Ok(source.read_next(&mut buffer)?.then_some(buffer))
        }));
    };
    let blocks = u32::try_from(bytes.div_ceil(BLOCK_BYTES as u64))
        .expect("a source is not larger than the largest volume");
    Data::Runs(Box::new(move |from| source.next_data(from)), blocks)
}
