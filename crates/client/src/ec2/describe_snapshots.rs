//! DescribeSnapshots (SPEC 7.3), with lineage where the server tells it.

use super::xml::Document;
use super::{EC2_VERSION, Form};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::api::{Description, Lineage, SnapshotState};
use crate::ebs;
use crate::transport::Answer;
use http::{HeaderName, HeaderValue};
use sigv4::Service;
use std::collections::BTreeMap;
use types::{Digest, Extension, UnixMillis, VolumeSize};

/// Snapshots of a page.
const MAX_RESULTS: &str = "1000";

/// A page of snapshots.
pub(crate) struct Page {
    /// What is on it.
    pub(crate) snapshots: Vec<Description>,
    /// Where the next begins.
    pub(crate) next: Option<String>,
}

/// Describes these; they come on one page.
pub(crate) fn by_id(ids: &[SnapshotId]) -> Call {
    let mut form = Form::new("DescribeSnapshots", EC2_VERSION);
    for (number, id) in (1..).zip(ids) {
        form.push(&format!("SnapshotId.{number}"), id.as_str());
    }
    asked(form)
}

/// Describes a page of the caller's own, perhaps of those with a tag.
pub(crate) fn own(tag: Option<(&str, &str)>, next: Option<&str>) -> Call {
    let mut form = Form::new("DescribeSnapshots", EC2_VERSION);
    if let Some((key, value)) = tag {
        form.push("Filter.1.Name", &format!("tag:{key}"));
        form.push("Filter.1.Value.1", &literal(value));
    }
    form.push("MaxResults", MAX_RESULTS);
    if let Some(next) = next {
        form.push("NextToken", next);
    }
    form.push("Owner.1", "self");
    asked(form)
}

fn asked(form: Form) -> Call {
    let mut call = form.call("DescribeSnapshots", Service::Ec2);
    call.headers.push((
        HeaderName::from_static(Extension::HEADER),
        HeaderValue::from_static(Extension::Lineage.name()),
    ));
    call
}

/// A filter's value in which nothing stands for anything else.
fn literal(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '*' | '?' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text
}

/// The answer.
pub(crate) fn parse(answer: &Answer) -> Result<Page, String> {
    let told = ebs::extensions(&answer.headers).lineage;
    let mut page = Page {
        snapshots: Vec::new(),
        next: None,
    };
    let mut document = Document::new(&answer.text)?;
    document.expect_root("DescribeSnapshotsResponse")?;
    let mut is_there = false;
    while let Some(name) = document.child()? {
        match name.as_str() {
            "snapshotSet" => {
                is_there = true;
                while let Some(name) = document.child()? {
                    match name.as_str() {
                        "item" => page.snapshots.push(item(&mut document, told)?),
                        _ => document.skip()?,
                    }
                }
            }
            "nextToken" => page.next = Some(document.text()?).filter(|token| !token.is_empty()),
            _ => document.skip()?,
        }
    }
    match is_there {
        true => Ok(page),
        false => Err("no set of snapshots".to_owned()),
    }
}

fn item(document: &mut Document<'_>, told: bool) -> Result<Description, String> {
    let mut found = Members::default();
    while let Some(name) = document.child()? {
        match name.as_str() {
            "snapshotId" => found.id = Some(document.text()?),
            "status" => found.state = Some(document.text()?),
            "statusMessage" => found.state_message = some(document.text()?),
            "startTime" => found.start_time = time(&document.text()?),
            "completionTime" => found.completion_time = time(&document.text()?),
            "progress" => found.progress = some(document.text()?),
            "ownerId" => found.owner = document.text()?,
            "volumeSize" => {
                let gib = document.text()?.trim().parse().ok();
                found.volume_size = gib.and_then(VolumeSize::from_gib);
            }
            "fullSnapshotSizeInBytes" => found.full_bytes = document.text()?.trim().parse().ok(),
            "description" => found.description = document.text()?,
            "encrypted" => found.encrypted = document.text()?.trim() == "true",
            "kmsKeyId" => found.kms_key = some(document.text()?),
            "tagSet" => found.tags = tags(document)?,
            "drystone" if told => found.lineage = Some(lineage(document)?),
            _ => document.skip()?,
        }
    }
    found.finish()
}

/// What an item says, in whatever order.
#[derive(Default)]
struct Members {
    id: Option<String>,
    state: Option<String>,
    state_message: Option<String>,
    start_time: Option<UnixMillis>,
    completion_time: Option<UnixMillis>,
    progress: Option<String>,
    owner: String,
    volume_size: Option<VolumeSize>,
    full_bytes: Option<u64>,
    description: String,
    encrypted: bool,
    kms_key: Option<String>,
    tags: BTreeMap<String, String>,
    lineage: Option<Lineage>,
}

impl Members {
    fn finish(self) -> Result<Description, String> {
        let id = self
            .id
            .ok_or_else(|| "a snapshot without its id".to_owned())?;
        let state = match self.state.as_deref().map(str::trim) {
            Some("pending") => SnapshotState::Pending,
            Some("completed") => SnapshotState::Completed,
            Some("error") => SnapshotState::Error,
            Some(other) => SnapshotState::Other(ebs::cut(other)),
            None => return Err("a snapshot without its status".to_owned()),
        };
        Ok(Description {
            id: id.trim().parse().map_err(|error| format!("{error}"))?,
            state,
            state_message: self.state_message,
            start_time: self.start_time,
            completion_time: self.completion_time,
            progress: self.progress,
            owner: self.owner,
            volume_size: self.volume_size,
            full_bytes: self.full_bytes,
            description: self.description,
            encrypted: self.encrypted,
            kms_key: self.kms_key,
            tags: self.tags,
            lineage: self.lineage,
        })
    }
}

fn tags(document: &mut Document<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut tags = BTreeMap::new();
    while let Some(name) = document.child()? {
        if name != "item" {
            document.skip()?;
            continue;
        }
        let (mut key, mut value) = (None, String::new());
        while let Some(name) = document.child()? {
            match name.as_str() {
                "key" => key = Some(document.text()?),
                "value" => value = document.text()?,
                _ => document.skip()?,
            }
        }
        if let Some(key) = key {
            tags.insert(key, value);
        }
    }
    Ok(tags)
}

fn lineage(document: &mut Document<'_>) -> Result<Lineage, String> {
    let mut found = Lineage::default();
    while let Some(name) = document.child()? {
        match name.as_str() {
            "parentSnapshotId" => found.parent = document.text()?.trim().parse().ok(),
            "rootDigest" => found.root = hex(document.text()?.trim()),
            "uniqueBytes" => found.unique_bytes = document.text()?.trim().parse().ok(),
            "usageTime" => found.usage_time = time(&document.text()?),
            _ => document.skip()?,
        }
    }
    Ok(found)
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn time(text: &str) -> Option<UnixMillis> {
    let time: jiff::Timestamp = text.trim().parse().ok()?;
    Some(time.as_millisecond())
}

/// A digest in hex.
fn hex(text: &str) -> Option<Digest> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes: Option<Vec<u8>> = text
        .as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
            _ => None,
        })
        .collect();
    Digest::from_slice(&bytes?)
}
