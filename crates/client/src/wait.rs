//! Waits until a snapshot is completed: asks again and again, at once first and then ever more rarely.

use crate::api::{Api, Description, SnapshotState, Which};
use crate::{Error, SnapshotId};
use std::pin::pin;
use std::time::Duration;

/// Time between the first two questions.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Longest time between two questions: those of AWS are throttled for all tools of an account together.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How often in a row AWS must say that a snapshot is completed, because it flickers (SPEC 3.13).
const COMPLETED_MIN: u32 = 3;

/// Time between these.
const PAUSE_COMPLETED: Duration = Duration::from_secs(2);

/// Waits until a snapshot is completed, however long that takes, and answers its description.
///
/// # Errors
/// [`Error::SnapshotFailed`]: it never will be; [`Error::Interrupted`]: `cancel` ended first; what describing it fails with.
pub async fn wait_until_completed(
    api: &Api,
    id: &SnapshotId,
    cancel: impl Future<Output = ()> + Send,
) -> Result<Description, Error> {
    let mut cancel = pin!(cancel);
    let (mut pause, mut completed) = (PAUSE_FIRST, 0);
    loop {
        let described = tokio::select! {
            described = describe(api, id) => described?,
            () = &mut cancel => return Err(Error::Interrupted),
        };
        let next = match settled(described)? {
            Some(done) => {
                completed += 1;
                // A server of ours, which is one that tells lineage, says it once and for all.
                if done.lineage.is_some() || completed >= COMPLETED_MIN {
                    return Ok(done);
                }
                PAUSE_COMPLETED
            }
            None => {
                completed = 0;
                let next = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                next
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = &mut cancel => return Err(Error::Interrupted),
        }
    }
}

/// Describes one snapshot. One that was started just now is asked for again for as long as it may not be known everywhere (SPEC 3.13).
///
/// # Errors
/// [`Error::Refused`]: there is none.
pub(crate) async fn describe(api: &Api, id: &SnapshotId) -> Result<Description, Error> {
    let mut pause = PAUSE_FIRST;
    loop {
        match describe_once(api, id).await {
            Err(Error::Refused(refusal))
                if refusal.code == "InvalidSnapshot.NotFound" && api.is_newborn(id) => {}
            answer => return answer,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn describe_once(api: &Api, id: &SnapshotId) -> Result<Description, Error> {
    let mut found = None;
    let mut each = |description: Description| {
        if description.id == *id {
            found = Some(description);
        }
    };
    api.describe_snapshots(&Which::Ids(vec![id.clone()]), &mut each)
        .await?;
    found.ok_or_else(|| Error::NotTheApi {
        operation: "DescribeSnapshots",
        endpoint: api.endpoint(),
        reason: format!("it does not describe {id}"),
    })
}

/// The description of a completed snapshot; nothing while it may still become one.
fn settled(description: Description) -> Result<Option<Description>, Error> {
    let state = match &description.state {
        SnapshotState::Completed => return Ok(Some(description)),
        SnapshotState::Pending => return Ok(None),
        SnapshotState::Error => "error".to_owned(),
        SnapshotState::Other(state) => state.clone(),
    };
    Err(Error::SnapshotFailed {
        snapshot: description.id,
        state,
        message: description.state_message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, Scripted, api};

    /// How often a server is asked that says these one after the other.
    async fn polls(states: &[&str], extensions: &str) -> usize {
        let answers = states.iter().map(|state| {
            let text = format!(
                "<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-01</snapshotId>\
                 <status>{state}</status><drystone/></item></snapshotSet></DescribeSnapshotsResponse>"
            );
            Answer::new(200, text)
                .with("Content-Type", "text/xml;charset=UTF-8")
                .with("x-drystone-extensions", extensions)
        });
        let server = Scripted::answering(answers);
        let id = "snap-01".parse().unwrap();
        let done = wait_until_completed(&api(&server), &id, std::future::pending()).await;
        assert_eq!(done.unwrap().state, SnapshotState::Completed);
        server.asked().len()
    }

    #[tokio::test(start_paused = true)]
    async fn completed_is_believed_when_it_stays_so() {
        let (done, pending) = ("completed", "pending");
        let flickering = [pending, done, done, pending, done, done, done, done];
        assert_eq!(polls(&flickering, "").await, 7);
        assert_eq!(polls(&[pending, done], "lineage").await, 2);
    }

    fn description(state: SnapshotState) -> Description {
        Description {
            id: "snap-01".parse().unwrap(),
            state,
            state_message: Some("Snapshot timed out".to_owned()),
            start_time: None,
            completion_time: None,
            progress: None,
            owner: String::new(),
            volume_size: None,
            full_bytes: None,
            description: String::new(),
            encrypted: false,
            kms_key: None,
            tags: Default::default(),
            lineage: None,
        }
    }

    #[test]
    fn only_pending_snapshots_are_waited_for() {
        let state_of = |state| match settled(description(state)) {
            Ok(Some(_)) => "completed".to_owned(),
            Ok(None) => "wait".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(state_of(SnapshotState::Completed), "completed");
        assert_eq!(state_of(SnapshotState::Pending), "wait");
        assert_eq!(
            state_of(SnapshotState::Error),
            "snap-01 is in state error: Snapshot timed out"
        );
        let recoverable = SnapshotState::Other("recoverable".to_owned());
        assert_eq!(
            state_of(recoverable),
            "snap-01 is in state recoverable: Snapshot timed out"
        );
    }
}
