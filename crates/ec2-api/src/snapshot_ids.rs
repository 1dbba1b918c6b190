//! Ids of snapshots and other resources as EC2 clients write them (SPEC 7.3).
//!
//! An id can be malformed in two ways, each with its own error, or well formed. Well-formed ids that we never issue are
//! simply unknown: the ids of snapshots that were made elsewhere.

use crate::error::{ApiError, Code, echo};
use types::SnapshotId;

/// Resources that one request can name.
pub(crate) const RESOURCES_MAX: usize = 1_000;

/// Reads ids of snapshots, each once, in the order given. The form of all is judged before any is called unknown.
pub(crate) fn snapshot_ids(texts: &[String]) -> Result<Vec<SnapshotId>, ApiError> {
    check_count(texts.len(), "SnapshotId")?;
    texts.iter().try_for_each(|text| check_form(text))?;
    known(texts)
}

/// Reads ids of resources that have tags, each once. Only snapshots exist here: other ids name nothing.
pub(crate) fn resource_ids(texts: &[String]) -> Result<Vec<SnapshotId>, ApiError> {
    if texts.is_empty() {
        return Err(ApiError::missing("ResourceId"));
    }
    check_count(texts.len(), "ResourceId")?;
    for text in texts {
        if !text.to_ascii_lowercase().starts_with("snap-") {
            let message = format!("The ID '{}' is not valid", echo(text));
            return Err(ApiError::new(Code::InvalidId, message));
        }
        check_form(text)?;
    }
    known(texts)
}

fn check_count(count: usize, name: &str) -> Result<(), ApiError> {
    if count <= RESOURCES_MAX {
        return Ok(());
    }
    let message = format!("The parameter {name} can have at most {RESOURCES_MAX} values.");
    Err(ApiError::new(Code::InvalidParameterValue, message))
}

/// A well-formed id has 8 or 17 hex digits.
fn check_form(text: &str) -> Result<(), ApiError> {
    let upper_case = text.bytes().any(|byte| byte.is_ascii_uppercase());
    match text.strip_prefix("snap-") {
        Some(digits) if !upper_case => {
            let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hex && matches!(digits.len(), 8 | 17) {
                return Ok(());
            }
            let message = format!("Invalid id: \"{}\"", echo(text));
            Err(ApiError::new(Code::InvalidSnapshotIdMalformed, message))
        }
        Some(_) | None => Err(ApiError::invalid(
            "snapshotId",
            text,
            "Expected: 'snap-...'.",
        )),
    }
}

fn known(texts: &[String]) -> Result<Vec<SnapshotId>, ApiError> {
    let mut ids = Vec::with_capacity(texts.len());
    let mut seen = std::collections::HashSet::with_capacity(texts.len());
    for text in texts {
        let id = SnapshotId::parse(text).ok_or_else(|| ApiError::snapshot_not_found(text))?;
        if seen.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "snap-0129a2cffb43638de";

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    fn refused(id: &str) -> (&'static str, String) {
        let error = snapshot_ids(&texts(&[id])).unwrap_err();
        (error.code.name(), error.message)
    }

    #[test]
    fn each_fault_of_an_id_has_its_error() {
        for id in [
            "snap-",
            "snap-1",
            "snap-0129a2cffb43638dez",
            "snap-xyz",
            "snap-0129a2cffb43638d",
        ] {
            assert_eq!(
                refused(id),
                (
                    "InvalidSnapshotID.Malformed",
                    format!("Invalid id: \"{id}\"")
                )
            );
        }
        for id in [
            "vol-0129a2cffb43638de",
            "SNAP-0129a2cffb43638de",
            "snap-0129A2CFFB43638DE",
            "",
            "é",
        ] {
            let text =
                format!("Value ({id}) for parameter snapshotId is invalid. Expected: 'snap-...'.");
            assert_eq!(refused(id), ("InvalidParameterValue", text));
        }
        for id in [
            "snap-5e85b9bf",
            "snap-1129a2cffb43638de",
            "snap-0ffffffffffffffff",
        ] {
            let text = format!("The snapshot '{id}' does not exist.");
            assert_eq!(refused(id), ("InvalidSnapshot.NotFound", text));
        }
    }

    #[test]
    fn ids_are_named_once_and_in_order() {
        let other = "snap-00000000000000001";
        let ids = snapshot_ids(&texts(&[OURS, other, OURS])).unwrap();
        assert_eq!(
            ids.iter().map(SnapshotId::to_string).collect::<Vec<_>>(),
            [OURS, other]
        );
        assert!(snapshot_ids(&vec![OURS.to_owned(); RESOURCES_MAX]).is_ok());
        assert!(snapshot_ids(&vec![OURS.to_owned(); RESOURCES_MAX + 1]).is_err());
    }

    #[test]
    fn malformed_ids_are_told_before_unknown_ones() {
        let error = snapshot_ids(&texts(&["snap-5e85b9bf", "snap-1"])).unwrap_err();
        assert_eq!(error.code, Code::InvalidSnapshotIdMalformed);
    }

    #[test]
    fn other_resources_are_not_valid() {
        let code = |ids: &[&str]| resource_ids(&texts(ids)).map_err(|error| error.code);
        assert!(code(&[OURS]).is_ok());
        assert_eq!(code(&[]), Err(Code::MissingParameter));
        assert_eq!(code(&["i-0129a2cffb43638de"]), Err(Code::InvalidId));
        assert_eq!(code(&["snap-1"]), Err(Code::InvalidSnapshotIdMalformed));
    }
}
