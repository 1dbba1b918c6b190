//! CreateTags and DeleteTags (SPEC 7.5).

use super::{EC2_VERSION, Form};
use crate::SnapshotId;
use crate::api::caller::Call;
use crate::transport::Answer;
use sigv4::Service;
use std::collections::BTreeMap;

/// Sets tags.
pub(crate) fn create(ids: &[SnapshotId], tags: &BTreeMap<String, String>) -> Call {
    let mut form = Form::new("CreateTags", EC2_VERSION);
    push_resources(&mut form, ids);
    for (number, (key, value)) in (1..).zip(tags) {
        form.push(&format!("Tag.{number}.Key"), key);
        form.push(&format!("Tag.{number}.Value"), value);
    }
    form.call("CreateTags", Service::Ec2)
}

/// Removes tags, whatever their values.
pub(crate) fn delete(ids: &[SnapshotId], keys: &[String]) -> Call {
    let mut form = Form::new("DeleteTags", EC2_VERSION);
    push_resources(&mut form, ids);
    for (number, key) in (1..).zip(keys) {
        form.push(&format!("Tag.{number}.Key"), key);
    }
    form.call("DeleteTags", Service::Ec2)
}

/// The answer to the first.
pub(crate) fn parse_create(answer: &Answer) -> Result<(), String> {
    super::parse_done(answer, "CreateTagsResponse")
}

/// The answer to the second.
pub(crate) fn parse_delete(answer: &Answer) -> Result<(), String> {
    super::parse_done(answer, "DeleteTagsResponse")
}

fn push_resources(form: &mut Form, ids: &[SnapshotId]) {
    for (number, id) in (1..).zip(ids) {
        form.push(&format!("ResourceId.{number}"), id.as_str());
    }
}
