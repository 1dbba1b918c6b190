//! StartSnapshot (SPEC 2.1).

use super::asking;
use crate::api::caller::Call;
use crate::api::{StartSnapshot, Started};
use crate::transport::Answer;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use serde::{Deserialize, Serialize};
use sigv4::{PayloadHash, Service};
use types::Digest;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    volume_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_snapshot_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    client_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    encrypted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kms_key_arn: Option<&'a str>,
    timeout: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag<'a> {
    key: &'a str,
    value: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    snapshot_id: String,
    block_size: Option<u64>,
}

/// The request.
pub(crate) fn call(request: &StartSnapshot) -> Call {
    let tags = request.tags.iter().map(|(key, value)| Tag { key, value });
    let body = Body {
        volume_size: request.volume_size.gib(),
        parent_snapshot_id: request.parent.as_ref().map(|parent| parent.as_str()),
        tags: tags.collect(),
        description: request.description.as_deref(),
        client_token: &request.client_token,
        encrypted: request.encrypted,
        kms_key_arn: request.kms_key_arn.as_deref(),
        timeout: request.timeout_minutes,
    };
    let body = serde_json::to_vec(&body).expect("numbers and text are always JSON");
    Call {
        operation: "StartSnapshot",
        service: Service::Ebs,
        method: Method::POST,
        path: "/snapshots".to_owned(),
        query: String::new(),
        headers: vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            asking(),
        ],
        payload: PayloadHash::Digest(Digest::of(&body)),
        is_idempotent: true,
        body: body.into(),
    }
}

/// The answer.
pub(crate) fn parse(answer: &Answer) -> Result<Started, String> {
    let output: Output = super::json(answer)?;
    super::listing::check_block_size(output.block_size)?;
    Ok(Started {
        id: output
            .snapshot_id
            .parse()
            .map_err(|error| format!("{error}"))?,
        extensions: super::extensions(&answer.headers),
    })
}
