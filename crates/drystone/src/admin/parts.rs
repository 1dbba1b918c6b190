//! What comes before a reply: how far the work is, and long lists, piece by piece.

use super::{Damaged, SnapshotUsage};
use engine::Progress;
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How often a client hears from work that takes long.
const BEAT: Duration = Duration::from_secs(1);

/// Parts that may wait for a slow client; the work that makes them waits then.
const WAITING_MAX: usize = 4;

/// A piece of an answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// How far the work is.
    Progress(Step),
    /// Some of the snapshots that were asked for.
    Snapshots(Vec<SnapshotUsage>),
    /// A damaged chunk.
    Damaged(Damaged),
}

/// How far the work is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What it does, in a few words.
    pub step: String,
    /// Items of this step that are done.
    pub done: u64,
}

impl From<Progress> for Step {
    fn from(progress: Progress) -> Step {
        Step {
            step: progress.step.to_owned(),
            done: progress.done,
        }
    }
}

/// Where work puts the parts of its answer.
pub struct Parts {
    to: mpsc::Sender<Part>,
}

/// A fresh pair of ends.
pub fn channel() -> (Parts, mpsc::Receiver<Part>) {
    let (to, from) = mpsc::channel(WAITING_MAX);
    (Parts { to }, from)
}

impl Parts {
    /// Hands a part over, after the ones before it.
    ///
    /// # Errors
    /// Words for a reply, when nobody waits for it any more.
    pub async fn send(&self, part: Part) -> Result<(), String> {
        let sent = self.to.send(part).await;
        sent.map_err(|_| "the client has gone".to_owned())
    }

    /// Waits for the work, and tells how far it is meanwhile.
    pub async fn while_working<T>(
        &self,
        progress: impl Fn() -> Option<Progress>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(BEAT, &mut work).await {
                return done;
            }
            let step = progress().map_or_else(Step::waiting, Step::from);
            // One that finds no room is followed by a newer one.
            let _ = self.to.try_send(Part::Progress(step));
        }
    }
}

impl Step {
    /// For work whose progress nobody can tell.
    fn waiting() -> Step {
        Step {
            step: "working".to_owned(),
            done: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test(start_paused = true)]
    async fn long_work_tells_how_far_it_is_once_a_second() {
        let (parts, mut coming) = channel();
        let done = AtomicU64::new(0);
        let progress = || {
            Some(Progress {
                step: "marking",
                done: done.fetch_add(1, Ordering::Relaxed),
            })
        };
        let work = async {
            tokio::time::sleep(BEAT * 5 / 2).await;
            "the end"
        };
        assert_eq!(parts.while_working(progress, work).await, "the end");
        drop(parts);
        let mut seen = Vec::new();
        while let Some(part) = coming.recv().await {
            seen.push(part);
        }
        let step = |done| {
            Part::Progress(Step {
                step: "marking".to_owned(),
                done,
            })
        };
        assert_eq!(seen, [step(0), step(1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_who_listens_is_no_reason_to_stop_the_work() {
        let (parts, coming) = channel();
        drop(coming);
        let work = tokio::time::sleep(BEAT * 20);
        parts.while_working(|| None, work).await;
        let part = Part::Snapshots(Vec::new());
        assert!(parts.send(part).await.is_err());
    }
}
