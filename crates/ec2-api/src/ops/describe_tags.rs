//! `DescribeTags` (SPEC 7.5): the tags of the caller's snapshots, by snapshot and key.
//!
//! A page token holds the snapshot and the key of the last tag told; a tag or snapshot deleted meanwhile does no harm.

use super::{Call, admit};
use crate::error::ApiError;
use crate::filters::{Filter, Work, take_filters};
use crate::page::{Page, invalid_token};
use crate::query::Parameters;
use crate::scan::Scan;
use crate::xml::Xml;
use bytes::Bytes;
use engine::Tag;
use types::SnapshotId;

const RESOURCE_TYPE: &str = "snapshot";

#[derive(Clone, PartialEq, Eq, Debug)]
enum Field {
    Key,
    ResourceId,
    ResourceType,
    Tag { key: String },
    Value,
}

impl Field {
    fn of_name(name: &str) -> Option<Field> {
        match name {
            "key" => Some(Field::Key),
            "resource-id" => Some(Field::ResourceId),
            "resource-type" => Some(Field::ResourceType),
            "value" => Some(Field::Value),
            _ => name.strip_prefix("tag:").map(|key| Field::Tag {
                key: key.to_owned(),
            }),
        }
    }
}

/// The last tag told.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Position {
    id: SnapshotId,
    key: String,
}

impl Position {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.id.number().to_be_bytes().to_vec();
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Position> {
        let (number, key) = bytes.split_first_chunk::<8>()?;
        let id = SnapshotId::from_number(u64::from_be_bytes(*number))?;
        Some(Position {
            id,
            key: String::from_utf8(key.to_vec()).ok()?,
        })
    }
}

pub(super) async fn describe_tags(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let page = Page::take("DescribeTags", call.account, &mut parameters)?;
    let position = match &page.position {
        Some(bytes) => Some(Position::from_bytes(bytes).ok_or_else(invalid_token)?),
        None => None,
    };
    let filters = take_filters(&mut parameters, Field::of_name)?;
    admit(parameters)?;

    let mut work = Work::new();
    let mut xml = call.response("DescribeTagsResponse");
    xml.open("tagSet");
    let mut scan = scan(call, &filters, position.as_ref());
    let mut last = position;
    let mut items = 0;
    let mut next = None;
    'snapshots: while let Some(mut snapshot) = scan.next().await? {
        let id = snapshot.id.to_string();
        snapshot.tags.sort_unstable();
        for tag in snapshot.tags {
            if last
                .as_ref()
                .is_some_and(|last| last.id == snapshot.id && tag.key <= last.key)
            {
                continue;
            }
            if !accepts(&filters, &id, &tag, &mut work) {
                continue;
            }
            if items == page.bounds.items || xml.len() >= page.bounds.bytes {
                next = last.as_ref().map(Position::to_bytes);
                break 'snapshots;
            }
            write(&mut xml, &id, &tag);
            items += 1;
            last = Some(Position {
                id: snapshot.id,
                key: tag.key,
            });
        }
        if scan.scanned() >= page.bounds.scanned || work.is_spent() {
            // No key sorts after this one: the whole snapshot is done.
            let done = Position {
                id: snapshot.id,
                key: char::MAX.to_string(),
            };
            next = Some(done.to_bytes());
            break;
        }
    }
    xml.close();
    if let Some(position) = next {
        xml.text("nextToken", &page.token(&position));
    }
    Ok(xml.finish())
}

/// Walks from the snapshot of the last tag told, itself included: it may have more tags.
fn scan<'a>(call: &Call<'a>, filters: &[Filter<Field>], position: Option<&Position>) -> Scan<'a> {
    let before = position.and_then(|position| position.id.number().checked_sub(1));
    let after = before.and_then(SnapshotId::from_number);
    let named = filters
        .iter()
        .filter(|filter| filter.field == Field::ResourceId)
        .find_map(Filter::exact);
    match named {
        Some(names) => Scan::of_named(call.engine, call.account, &names, after),
        None => Scan::of_account(call.engine, call.account, after),
    }
}

fn accepts(filters: &[Filter<Field>], id: &str, tag: &Tag, work: &mut Work) -> bool {
    filters.iter().all(|filter| match &filter.field {
        Field::Key => filter.accepts([tag.key.as_str()], work),
        Field::ResourceId => filter.accepts([id], work),
        Field::ResourceType => filter.accepts([RESOURCE_TYPE], work),
        Field::Tag { key } => *key == tag.key && filter.accepts([tag.value.as_str()], work),
        Field::Value => filter.accepts([tag.value.as_str()], work),
    })
}

fn write(xml: &mut Xml, id: &str, tag: &Tag) {
    xml.open("item");
    xml.text("resourceId", id);
    xml.text("resourceType", RESOURCE_TYPE);
    xml.text("key", &tag.key);
    xml.text("value", &tag.value);
    xml.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    proptest! {
        #[test]
        fn positions_survive_their_bytes(bits in any::<u64>(), key in any::<String>()) {
            let position = Position { id: SnapshotId::from_random(bits), key };
            assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        }

        #[test]
        fn any_bytes_are_a_position_or_none(bytes in any::<Vec<u8>>()) {
            Position::from_bytes(&bytes);
        }
    }
}
