//! `DeleteTags` (SPEC 7.2): deletes tags from snapshots. A tag that a snapshot does not have is no error.
//!
//! A request may name 1,000 tags of 1,000 snapshots, while no snapshot has more than 50. So the snapshots are taken in small
//! groups, each in a transaction of its own that deletes only tags that somebody in the group has: other writers get their
//! turn in between. An unknown snapshot is found before anything is deleted; one that is deleted meanwhile ends the call
//! with some groups done, which asking again completes.

use super::{Call, admit};
use crate::error::{ApiError, Code};
use crate::query::Parameters;
use crate::snapshot_ids::resource_ids;
use bytes::Bytes;
use engine::TagSelector;
use std::collections::HashSet;
use types::SnapshotId;

/// Tags that one request can name.
const TAGS_MAX: usize = 1_000;

/// Snapshots whose existence is checked at a time.
const CHECKED: usize = 250;

/// Snapshots whose tags are deleted in one transaction: at most 50 tags each, so 20,000 statements.
const GROUP: usize = 20;

pub(super) async fn delete_tags(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let ids = resource_ids(&parameters.take_list("ResourceId"))?;
    let selectors = take_selectors(&mut parameters)?;
    admit(parameters)?;
    match selectors {
        None => call.engine.delete_tags(call.account, &ids, None).await?,
        Some(selectors) => {
            for ids in ids.chunks(CHECKED) {
                call.engine.snapshots_by_id(call.account, ids).await?;
            }
            for ids in ids.chunks(GROUP) {
                delete_from_group(call, ids, &selectors).await?;
            }
        }
    }
    Ok(call.done("DeleteTagsResponse"))
}

/// Deletes the selected tags from these snapshots in one transaction. Tags made after this has looked stay, as if they had
/// been made after it.
async fn delete_from_group(
    call: &Call<'_>,
    ids: &[SnapshotId],
    selectors: &[TagSelector],
) -> Result<(), ApiError> {
    let snapshots = call.engine.snapshots_by_id(call.account, ids).await?;
    let present: HashSet<&str> = snapshots
        .iter()
        .flat_map(|snapshot| &snapshot.tags)
        .map(|tag| tag.key.as_str())
        .collect();
    let selected: Vec<TagSelector> = selectors
        .iter()
        .filter(|selector| present.contains(selector.key.as_str()))
        .cloned()
        .collect();
    if !selected.is_empty() {
        call.engine
            .delete_tags(call.account, ids, Some(&selected))
            .await?;
    }
    Ok(())
}

/// Takes `Tag.N`: with a value the tag goes only if it has that value, without one in any case. `None` (no tag named): all
/// tags go.
fn take_selectors(parameters: &mut Parameters) -> Result<Option<Vec<TagSelector>>, ApiError> {
    let structures = parameters.take_structures("Tag");
    if structures.is_empty() {
        return Ok(None);
    }
    if structures.len() > TAGS_MAX {
        let message = format!("The parameter Tag can have at most {TAGS_MAX} values.");
        return Err(ApiError::new(Code::InvalidParameterValue, message));
    }
    let mut selectors = Vec::with_capacity(structures.len());
    for mut structure in structures {
        let key = structure.required("Key")?;
        selectors.push(TagSelector {
            key,
            value: structure.take("Value"),
        });
        structure.finish()?;
    }
    Ok(Some(selectors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Source;

    fn selectors(form: &str) -> Result<Option<Vec<TagSelector>>, Code> {
        let mut parameters = Parameters::default();
        parameters.read(form.as_bytes(), Source::Form).unwrap();
        take_selectors(&mut parameters).map_err(|error| error.code)
    }

    #[test]
    fn no_value_an_empty_value_and_no_tag_at_all_differ() {
        let selector = |key: &str, value: Option<&str>| TagSelector {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        assert_eq!(selectors(""), Ok(None));
        let form = "Tag.1.Key=a&Tag.2.Key=b&Tag.2.Value=&Tag.3.Key=c&Tag.3.Value=d";
        let wanted = vec![
            selector("a", None),
            selector("b", Some("")),
            selector("c", Some("d")),
        ];
        assert_eq!(selectors(form), Ok(Some(wanted)));
    }

    #[test]
    fn selectors_are_checked() {
        assert_eq!(selectors("Tag.1.Value=a"), Err(Code::MissingParameter));
        assert_eq!(
            selectors("Tag.1.Key=a&Tag.1.X=b"),
            Err(Code::UnknownParameter)
        );
        let many: String = (1..=TAGS_MAX + 1)
            .map(|tag| format!("Tag.{tag}.Key={tag}&"))
            .collect();
        assert_eq!(selectors(&many), Err(Code::InvalidParameterValue));
    }
}
