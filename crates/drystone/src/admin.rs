//! Admin commands: what an operator's commands ask, and how the running server hears it.
//!
//! The server listens on DIR/admin.sock, for its own user only (mode 0600). A client sends one line of JSON, a
//! [`Request`]. Lines of JSON come back: any number of parts (`{"part":…}`), one a second at least while the work goes on,
//! and then a [`Reply`], the last; then the connection ends. When no server runs, the command takes the lock of the
//! directory and carries the request out itself: there is never a second writer.
//!
//! ```text
//! admin/command.rs   a command's way to its reply: the server, or else this process
//! admin/ask.rs       the client's end of the socket        admin/socket.rs   the server's
//! admin/here.rs      the work without a server             admin/jobs.rs     bounds of what takes long
//! admin/parts.rs     what comes before a reply
//! admin/keys.rs  collection.rs  usage.rs  scrub.rs  audit.rs     one kind of request each
//! ```
//!
//! Invariants
//! - The socket is made under the directory's lock: one that is there before is left from a dead server.
//! - Lines, connections, waiting jobs and the time that a client takes are bounded; a client that stalls is cut.
//! - A job that was begun goes on to its end in the server, also when its client goes away.
//! - Only the reply to a `create` holds a secret, and nothing logs a reply.
//! - Names in requests and replies stay: a client and a server of two versions may meet. What one does not know it refuses.

mod ask;
mod audit;
mod collection;
mod command;
mod here;
mod jobs;
mod keys;
mod line;
mod parts;
mod scrub;
mod socket;
mod usage;

pub use audit::{AuditRequest, Audited, Depth, Kind, LookedAt};
pub use collection::{CollectRequest, Collected};
pub use command::{DataArgs, carry_out};
pub use jobs::Jobs;
pub use keys::{CreatedKey, KeyRequest, ListedKey, Owner};
pub use parts::{Part, Step};
pub use scrub::{Damaged, ScrubRequest, Scrubbed, Touched};
pub use socket::AdminSocket;
pub use usage::{NAMED_MAX, SnapshotUsage, UsageRequest, UsageTotals};

use auth::KeyStore;
use catalog::db::Sqlite;
use chunkstore::LocalStore;
use engine::Engine;
use parts::Parts;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// Something to be done for the owner of the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Something about access keys.
    Key(KeyRequest),
    /// A garbage collection.
    Collect(CollectRequest),
    /// What snapshots hold.
    Usage(UsageRequest),
    /// A scrub.
    Scrub(ScrubRequest),
    /// An audit.
    Audit(AuditRequest),
}

/// What became of a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// A piece of the answer; more lines follow.
    Part(Part),
    /// It was done.
    Done,
    /// A key was made.
    Created(CreatedKey),
    /// The keys there are, oldest first.
    Keys(Vec<ListedKey>),
    /// A collection has ended.
    Collected(Collected),
    /// What the store holds; the snapshots came as parts.
    Usage(UsageTotals),
    /// A scrub has ended; what is damaged came as parts.
    Scrubbed(Scrubbed),
    /// How many chunks are known to be damaged; they came as parts.
    KnownDamage(u64),
    /// An audit has ended.
    Audited(Audited),
    /// It was not done.
    Refused(String),
}

/// What the running server carries requests out with.
pub struct Served {
    /// The access keys.
    pub keys: Arc<KeyStore>,
    /// The engine.
    pub engine: Engine,
    /// The catalog below it.
    pub catalog: Arc<Sqlite>,
    /// The chunk store below it.
    pub chunks: Arc<LocalStore>,
    /// Where an audit sorts; nobody else uses it.
    pub audit_scratch: PathBuf,
    /// Bytes a second that a scrub reads when the request names no rate.
    pub scrub_rate: u64,
    /// What bounds the work that takes long.
    pub jobs: Jobs,
}

/// Does what is asked.
async fn perform(served: &Served, request: Request, parts: Parts) -> Reply {
    let done = match request {
        Request::Key(request) => keys::perform(&served.keys, request).await,
        Request::Collect(request) => {
            collection::perform(&served.engine, &served.jobs, request, &parts).await
        }
        Request::Usage(request) => {
            usage::perform(&served.engine, &served.jobs, request, &parts).await
        }
        Request::Scrub(request) => {
            scrub::perform(
                &served.engine,
                &served.jobs,
                served.scrub_rate,
                request,
                &parts,
            )
            .await
        }
        Request::Audit(request) => {
            let subject = audit::Subject {
                db: Arc::clone(&served.catalog) as _,
                chunks: Arc::clone(&served.chunks) as _,
                scratch: served.audit_scratch.clone(),
            };
            audit::perform(subject, &served.jobs, request, &parts).await
        }
    };
    done.unwrap_or_else(Reply::Refused)
}
