//! `POST /snapshots`: begins a snapshot (SPEC 2.1, 3.5, 3.14).
//!
//! The document is read, then come constraints, combinations of parent and encryption (SPEC 3.7), encryption itself (which
//! does not exist yet and is refused, never ignored), size and tags, and last the engine, which decides whether a client
//! token repeats a request. A replay answers the first response again: all of it but id and start time equals the request.

use crate::Shared;
use crate::constraints::{CLIENT_TOKEN, Constraints, NOT_EMPTY};
use crate::error::{ApiError, Reason};
use crate::json::Members;
use crate::response::{self, Reply};
use crate::snapshot_id::WireSnapshotId;
use auth::Caller;
use engine::{StartSnapshot, Started, Tag};
use http::StatusCode;
use serde_json::json;
use std::collections::HashSet;
use types::limits::TAGS_MAX;
use types::{AccountId, BLOCK_BYTES, VolumeSize};

/// Answers the operation.
pub(crate) async fn run(api: &Shared, caller: &Caller, document: &[u8]) -> Result<Reply, ApiError> {
    let input = Input::read(document)?;
    input.check_constraints()?;
    input.check_combinations()?;
    let request = input.into_request(caller.account)?;
    let started = api.engine.start_snapshot(request.clone()).await?;
    Ok(response::json(
        StatusCode::CREATED,
        answer(&request, started),
    ))
}

struct Input {
    volume_size: Option<i64>,
    parent: Option<String>,
    tags: Option<Vec<InputTag>>,
    description: Option<String>,
    client_token: Option<String>,
    encrypted: Option<bool>,
    kms_key_arn: Option<String>,
    timeout: Option<i64>,
}

struct InputTag {
    key: Option<String>,
    value: Option<String>,
}

impl InputTag {
    fn read(mut members: Members) -> Result<InputTag, ApiError> {
        Ok(InputTag {
            key: members.text("Key")?,
            value: members.text("Value")?,
        })
    }
}

impl Input {
    fn read(document: &[u8]) -> Result<Input, ApiError> {
        let mut members = Members::parse(document)?;
        let tags = members.objects("Tags")?;
        Ok(Input {
            volume_size: members.integer("VolumeSize")?,
            parent: members.text("ParentSnapshotId")?,
            tags: tags
                .map(|tags| tags.into_iter().map(InputTag::read).collect())
                .transpose()?,
            description: members.text("Description")?,
            client_token: members.text("ClientToken")?,
            encrypted: members.boolean("Encrypted")?,
            kms_key_arn: members.text("KmsKeyArn")?,
            timeout: members.integer("Timeout")?,
        })
    }

    fn check_constraints(&self) -> Result<(), ApiError> {
        let mut constraints = Constraints::new();
        constraints.required("volumeSize", self.volume_size.as_ref());
        constraints.at_least("volumeSize", self.volume_size, 1);
        constraints.snapshot_id("parentSnapshotId", self.parent.as_deref());
        for (position, tag) in self.tags.iter().flatten().enumerate() {
            let member = |name| format!("tags.{}.member.{name}", position + 1);
            constraints.length_at_most(&member("key"), tag.key.as_deref(), 127);
            constraints.pattern(&member("key"), tag.key.as_deref(), NOT_EMPTY);
            constraints.length_at_most(&member("value"), tag.value.as_deref(), 255);
        }
        constraints.length_at_most("description", self.description.as_deref(), 255);
        constraints.pattern("description", self.description.as_deref(), NOT_EMPTY);
        constraints.length_at_most("clientToken", self.client_token.as_deref(), 255);
        constraints.pattern("clientToken", self.client_token.as_deref(), CLIENT_TOKEN);
        constraints.kms_key_arn("kmsKeyArn", self.kms_key_arn.as_deref());
        constraints.within("timeout", self.timeout, 10, 4320);
        constraints.finish()
    }

    /// The texts of SPEC 3.7; the key wins where both are wrong.
    fn check_combinations(&self) -> Result<(), ApiError> {
        let refused =
            |message: &str| Err(ApiError::validation(Reason::InvalidParameterValue, message));
        match (&self.parent, self.encrypted, &self.kms_key_arn) {
            (Some(_), _, Some(_)) => {
                refused("ParentSnapshotId and KmsKeyArn cannot be specified together")
            }
            (Some(_), Some(_), None) => {
                refused("ParentSnapshotId and Encrypt cannot be specified together")
            }
            (None, Some(false), Some(_)) => {
                refused("Encrypt cannot be false when KmsKeyArn is specified")
            }
            (None, Some(true), _) | (None, None, Some(_)) => Err(ApiError::validation(
                Reason::InvalidDependencyRequest,
                "Encryption is not available: this server has no key management service.",
            )),
            (None, Some(false) | None, None) | (Some(_), None, None) => Ok(()),
        }
    }

    fn into_request(self, account: AccountId) -> Result<StartSnapshot, ApiError> {
        let gib = self.volume_size.and_then(|size| u64::try_from(size).ok());
        let volume_size = gib.and_then(VolumeSize::from_gib).ok_or_else(|| {
            let message = format!(
                "The volume size must be from 1 to {} GiB.",
                VolumeSize::GIB_MAX
            );
            ApiError::validation(Reason::InvalidVolumeSize, message)
        })?;
        let tags = self.tags.map(checked_tags).transpose()?;
        let parent = self
            .parent
            .map(|id| WireSnapshotId::new(id).known())
            .transpose()?;
        Ok(StartSnapshot {
            account,
            volume_size,
            parent,
            tags,
            description: self.description,
            client_token: self.client_token,
            timeout_minutes: self.timeout.and_then(|minutes| u32::try_from(minutes).ok()),
            encrypted: self.encrypted,
        })
    }
}

/// The rules of tags that the model does not have (SPEC 8.11).
fn checked_tags(tags: Vec<InputTag>) -> Result<Vec<Tag>, ApiError> {
    let refused = |message: String| Err(ApiError::validation(Reason::InvalidTag, message));
    if tags.len() > TAGS_MAX {
        return refused(format!(
            "A snapshot can have at most {TAGS_MAX} tags, not {}.",
            tags.len()
        ));
    }
    let mut seen = HashSet::with_capacity(tags.len());
    let mut checked = Vec::with_capacity(tags.len());
    for InputTag { key, value } in tags {
        let Some(key) = key else {
            return refused("Every tag must have a key.".to_owned());
        };
        if key
            .get(..4)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"))
        {
            return refused(format!(
                "The tag key '{key}' is reserved: keys must not begin with 'aws:'."
            ));
        }
        if !seen.insert(key.clone()) {
            return refused(format!("The tag key '{key}' is given more than once."));
        }
        checked.push(Tag {
            key,
            value: value.unwrap_or_default(),
        });
    }
    Ok(checked)
}

/// Every member, in alphabetical order, absent ones as `null`.
fn answer(request: &StartSnapshot, started: Started) -> Vec<u8> {
    let tags = request
        .tags
        .as_deref()
        .filter(|tags| !tags.is_empty())
        .map(|tags| {
            tags.iter()
                .map(|tag| json!({ "Key": tag.key, "Value": tag.value }))
                .collect::<Vec<_>>()
        });
    let mut out = Vec::with_capacity(512);
    response::write(
        &mut out,
        format_args!(
            concat!(
                r#"{{"BlockSize":{},"Description":{},"KmsKeyArn":null,"OwnerId":"{}","#,
                r#""ParentSnapshotId":{},"SnapshotId":"{}","SseType":null,"StartTime":"#
            ),
            BLOCK_BYTES,
            json!(request.description),
            request.account,
            json!(request.parent.map(|id| id.to_string())),
            started.id,
        ),
    );
    response::write_time(&mut out, started.start_time);
    let (tags, size) = (json!(tags), request.volume_size.gib());
    response::write(
        &mut out,
        format_args!(r#","Status":"pending","Tags":{tags},"VolumeSize":{size}}}"#),
    );
    out
}

#[cfg(test)]
mod tests;
