//! The actions, one file each, and what they share.

mod create_tags;
mod delete_snapshot;
mod delete_tags;
mod describe_regions;
mod describe_snapshots;
mod describe_tags;
mod get_caller_identity;

use crate::error::{ApiError, Code, echo};
use crate::extensions::Asked;
use crate::page::ANSWER_BYTES_MAX;
use crate::query::Parameters;
use crate::service::Service;
use crate::xml::Xml;
use auth::RequestId;
use bytes::Bytes;
use engine::Engine;
use jiff::Timestamp;
use types::{AccountId, UnixMillis};

/// An authenticated request to carry out.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) account: AccountId,
    pub(crate) region: &'a str,
    /// The host that the client called, with its port.
    pub(crate) host: &'a str,
    pub(crate) request_id: RequestId,
    /// The extensions that the client would like.
    pub(crate) asked: &'a Asked,
}

/// The actions that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    CreateTags,
    DeleteSnapshot,
    DeleteTags,
    DescribeRegions,
    DescribeSnapshots,
    DescribeTags,
    GetCallerIdentity,
}

impl Action {
    const ALL: [Action; 7] = [
        Action::CreateTags,
        Action::DeleteSnapshot,
        Action::DeleteTags,
        Action::DescribeRegions,
        Action::DescribeSnapshots,
        Action::DescribeTags,
        Action::GetCallerIdentity,
    ];

    /// Takes `Action` and `Version`, and holds them against the service that the signature names.
    pub(crate) fn take(service: Service, parameters: &mut Parameters) -> Result<Action, ApiError> {
        let name = parameters
            .take("Action")
            .filter(|name| !name.is_empty())
            .ok_or_else(|| {
                ApiError::new(
                    Code::MissingAction,
                    "No action was supplied with this request",
                )
            })?;
        let action = Action::ALL.into_iter().find(|action| action.name() == name);
        let action = action
            .filter(|action| action.service() == service)
            .ok_or_else(|| {
                let message = format!(
                    "The action {} is not valid for this web service.",
                    echo(&name)
                );
                ApiError::new(Code::InvalidAction, message)
            })?;
        let version = parameters.required("Version")?;
        if version == service.version() {
            return Ok(action);
        }
        let message = format!(
            "The requested version ({}) of service {} does not exist",
            echo(&version),
            service.name()
        );
        Err(ApiError::new(Code::NoSuchVersion, message))
    }

    /// The action's name, on the wire and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::CreateTags => "CreateTags",
            Action::DeleteSnapshot => "DeleteSnapshot",
            Action::DeleteTags => "DeleteTags",
            Action::DescribeRegions => "DescribeRegions",
            Action::DescribeSnapshots => "DescribeSnapshots",
            Action::DescribeTags => "DescribeTags",
            Action::GetCallerIdentity => "GetCallerIdentity",
        }
    }

    /// Bytes that an answer takes at most.
    pub(crate) fn answer_bytes_max(self) -> usize {
        match self {
            Action::DescribeSnapshots | Action::DescribeTags => ANSWER_BYTES_MAX,
            Action::CreateTags
            | Action::DeleteSnapshot
            | Action::DeleteTags
            | Action::DescribeRegions
            | Action::GetCallerIdentity => 4 * 1024,
        }
    }

    fn service(self) -> Service {
        match self {
            Action::CreateTags
            | Action::DeleteSnapshot
            | Action::DeleteTags
            | Action::DescribeRegions
            | Action::DescribeSnapshots
            | Action::DescribeTags => Service::Ec2,
            Action::GetCallerIdentity => Service::Sts,
        }
    }
}

impl Call<'_> {
    /// Carries the action out and answers the response's body.
    pub(crate) async fn run(
        &self,
        action: Action,
        parameters: Parameters,
    ) -> Result<Bytes, ApiError> {
        match action {
            Action::CreateTags => create_tags::create_tags(self, parameters).await,
            Action::DeleteSnapshot => delete_snapshot::delete_snapshot(self, parameters).await,
            Action::DeleteTags => delete_tags::delete_tags(self, parameters).await,
            Action::DescribeRegions => describe_regions::describe_regions(self, parameters),
            Action::DescribeSnapshots => {
                describe_snapshots::describe_snapshots(self, parameters).await
            }
            Action::DescribeTags => describe_tags::describe_tags(self, parameters).await,
            Action::GetCallerIdentity => get_caller_identity::get_caller_identity(self, parameters),
        }
    }

    /// Starts the response of an EC2 action.
    fn response(&self, root: &'static str) -> Xml {
        let mut xml = Xml::new(root, Some(Service::Ec2.namespace()));
        xml.text("requestId", &self.request_id.to_string());
        xml
    }

    /// The whole response of an EC2 action that has nothing to tell.
    fn done(&self, root: &'static str) -> Bytes {
        let mut xml = self.response(root);
        xml.text("return", "true");
        xml.finish()
    }
}

/// Ends the reading of an EC2 action's parameters: nothing may be left, and a dry run goes no further (SPEC 7.1). Every key
/// may do everything, so a dry run of a well-formed request always says that it would have succeeded.
fn admit(mut parameters: Parameters) -> Result<(), ApiError> {
    let dry_run = parameters.take_flag("DryRun")?;
    parameters.finish()?;
    if dry_run {
        Err(ApiError::dry_run())
    } else {
        Ok(())
    }
}

/// A time as `2026-09-25T11:57:20.570Z`. One beyond the calendar of the year 9999 is told as its last moment.
pub(crate) fn iso_8601(time: UnixMillis) -> String {
    let timestamp = Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX);
    format!("{timestamp:.3}")
}
