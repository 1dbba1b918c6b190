//! `DescribeSnapshots` (SPEC 7.3): the caller's snapshots, by id or by what they are.
//!
//! Only the owner sees a snapshot, so an owner or a restorer other than the caller selects nothing.
//!
//! Without `MaxResults` all that is selected is told, up to the bounds of [`crate::page`]; a store that large gets a page
//! token unasked, as the protocol allows. Who asks for it is told more of each snapshot (`lineage.rs`).

use super::{Call, admit, iso_8601};
use crate::error::{ApiError, Code, echo};
use crate::filters::{Filter, Work, take_filters};
use crate::lineage::Lineage;
use crate::page::{Page, invalid_token};
use crate::query::Parameters;
use crate::scan::Scan;
use crate::snapshot_ids::snapshot_ids;
use crate::xml::Xml;
use bytes::Bytes;
use engine::{SnapshotState, SnapshotView};
use types::{AccountId, BLOCK_BYTES, Extension, SnapshotId};

/// Snapshots named by id that are read at a time.
const BATCH: usize = 250;

/// The volume of every snapshot that was not made from a volume (SPEC 7.3).
const VOLUME_ID: &str = "vol-ffffffff";

const STORAGE_TIER: &str = "standard";
const TRANSFER_TYPE: &str = "standard";
const ENCRYPTED: &str = "false";

#[derive(Clone, PartialEq, Eq, Debug)]
enum Field {
    Description,
    Encrypted,
    OwnerAlias,
    OwnerId,
    Progress,
    SnapshotId,
    StartTime,
    Status,
    StorageTier,
    Tag { key: String },
    TagKey,
    TransferType,
    VolumeId,
    VolumeSize,
}

impl Field {
    fn of_name(name: &str) -> Option<Field> {
        match name {
            "description" => Some(Field::Description),
            "encrypted" => Some(Field::Encrypted),
            "owner-alias" => Some(Field::OwnerAlias),
            "owner-id" => Some(Field::OwnerId),
            "progress" => Some(Field::Progress),
            "snapshot-id" => Some(Field::SnapshotId),
            "start-time" => Some(Field::StartTime),
            "status" => Some(Field::Status),
            "storage-tier" => Some(Field::StorageTier),
            "tag-key" => Some(Field::TagKey),
            "transfer-type" => Some(Field::TransferType),
            "volume-id" => Some(Field::VolumeId),
            "volume-size" => Some(Field::VolumeSize),
            _ => name.strip_prefix("tag:").map(|key| Field::Tag {
                key: key.to_owned(),
            }),
        }
    }
}

/// Which snapshots are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Selection {
    /// By id; empty when by anything else.
    ids: Vec<SnapshotId>,
    /// Whether the owners and restorers named leave any snapshot of the caller's.
    is_own: bool,
    filters: Vec<Filter<Field>>,
}

pub(super) async fn describe_snapshots(
    call: &Call<'_>,
    mut parameters: Parameters,
) -> Result<Bytes, ApiError> {
    let page = Page::take("DescribeSnapshots", call.account, &mut parameters)?;
    let selection = Selection::take(call.account, &mut parameters)?;
    if page.is_sized && !selection.ids.is_empty() {
        return Err(ApiError::new(
            Code::InvalidParameterCombination,
            "The parameter SnapshotId cannot be used with the parameter MaxResults",
        ));
    }
    admit(parameters)?;
    let mut xml = call.response("DescribeSnapshotsResponse");
    xml.open("snapshotSet");
    let next = if selection.ids.is_empty() {
        write_page(call, &selection, &page, &mut xml).await?
    } else {
        write_named(call, &selection, &mut xml).await?;
        None
    };
    xml.close();
    if let Some(position) = next {
        xml.text("nextToken", &page.token(&position.number().to_be_bytes()));
    }
    Ok(xml.finish())
}

/// Writes the snapshots named by id, in the order named; one that is unknown fails the whole call.
async fn write_named(
    call: &Call<'_>,
    selection: &Selection,
    xml: &mut Xml,
) -> Result<(), ApiError> {
    let mut work = Work::new();
    let mut lineage = lineage(call);
    for ids in selection.ids.chunks(BATCH) {
        let snapshots = call.engine.snapshots_by_id(call.account, ids).await?;
        lineage.look_up(call.engine, &snapshots).await?;
        for snapshot in snapshots {
            if selection.accepts(&snapshot, &mut work) {
                write(xml, &snapshot, &lineage);
            }
        }
    }
    Ok(())
}

/// Writes the snapshots of a page; answers the position to go on from, if there is more.
async fn write_page(
    call: &Call<'_>,
    selection: &Selection,
    page: &Page,
    xml: &mut Xml,
) -> Result<Option<SnapshotId>, ApiError> {
    let mut last = match &page.position {
        Some(bytes) => Some(position(bytes).ok_or_else(invalid_token)?),
        None => None,
    };
    if !selection.is_own {
        return Ok(None);
    }
    let mut scan = match selection.named() {
        Some(names) => Scan::of_named(call.engine, call.account, &names, last),
        None => Scan::of_account(call.engine, call.account, last),
    };
    scan = scan.telling(lineage(call));
    let mut work = Work::new();
    let mut items = 0;
    while let Some(snapshot) = scan.next().await? {
        if selection.accepts(&snapshot, &mut work) {
            if items == page.bounds.items || xml.len() >= page.bounds.bytes {
                return Ok(last);
            }
            write(xml, &snapshot, scan.lineage());
            items += 1;
        }
        last = Some(snapshot.id);
        if scan.scanned() >= page.bounds.scanned || work.is_spent() {
            return Ok(last);
        }
    }
    Ok(None)
}

fn position(bytes: &[u8]) -> Option<SnapshotId> {
    let number = bytes.try_into().ok().map(u64::from_be_bytes)?;
    SnapshotId::from_number(number)
}

impl Selection {
    fn take(account: AccountId, parameters: &mut Parameters) -> Result<Selection, ApiError> {
        let ids = snapshot_ids(&parameters.take_list("SnapshotId"))?;
        let owners = parameters.take_list("Owner");
        let restorers = parameters.take_list("RestorableBy");
        let mut is_own = true;
        // There are no public snapshots, so `all` selects nothing among restorers; as an owner it is everybody.
        for (names, everybody) in [(owners, true), (restorers, false)] {
            let mut any = names.is_empty();
            for name in &names {
                any |= is_caller(account, name, everybody)?;
            }
            is_own &= any;
        }
        let filters = take_filters(parameters, Field::of_name)?;
        Ok(Selection {
            ids,
            is_own,
            filters,
        })
    }

    /// The snapshots that a filter names, when it names them without wildcards.
    fn named(&self) -> Option<Vec<&str>> {
        let mut by_id = self
            .filters
            .iter()
            .filter(|filter| filter.field == Field::SnapshotId);
        by_id.find_map(Filter::exact)
    }

    fn accepts(&self, snapshot: &SnapshotView, work: &mut Work) -> bool {
        self.is_own
            && self
                .filters
                .iter()
                .all(|filter| accepts(filter, snapshot, work))
    }
}

/// Whether an owner or restorer named is the caller.
fn is_caller(account: AccountId, name: &str, everybody: bool) -> Result<bool, ApiError> {
    match name {
        "self" => Ok(true),
        "all" => Ok(everybody),
        "amazon" | "aws-marketplace" => Ok(false),
        _ => match AccountId::parse(name) {
            Some(named) => Ok(named == account),
            None => {
                let message = format!("Invalid user id: \"{}\"", echo(name));
                Err(ApiError::new(Code::InvalidUserIdMalformed, message))
            }
        },
    }
}

fn accepts(filter: &Filter<Field>, snapshot: &SnapshotView, work: &mut Work) -> bool {
    let tags = snapshot.tags.iter();
    match &filter.field {
        Field::Description => {
            filter.accepts([snapshot.description.as_deref().unwrap_or_default()], work)
        }
        Field::Encrypted => filter.accepts([ENCRYPTED], work),
        Field::OwnerAlias => filter.accepts([], work),
        Field::OwnerId => filter.accepts([snapshot.account.to_string().as_str()], work),
        Field::Progress => filter.accepts([progress(snapshot.state)], work),
        Field::SnapshotId => filter.accepts([snapshot.id.to_string().as_str()], work),
        Field::StartTime => filter.accepts([iso_8601(snapshot.start_time).as_str()], work),
        Field::Status => filter.accepts([status(snapshot.state)], work),
        Field::StorageTier => filter.accepts([STORAGE_TIER], work),
        Field::Tag { key } => {
            let values = tags
                .filter(|tag| tag.key == *key)
                .map(|tag| tag.value.as_str());
            filter.accepts(values, work)
        }
        Field::TagKey => filter.accepts(tags.map(|tag| tag.key.as_str()), work),
        Field::TransferType => filter.accepts([TRANSFER_TYPE], work),
        Field::VolumeId => filter.accepts([VOLUME_ID], work),
        Field::VolumeSize => {
            filter.accepts([snapshot.volume_size.gib().to_string().as_str()], work)
        }
    }
}

/// What is told beyond AWS's members.
fn lineage(call: &Call<'_>) -> Lineage {
    Lineage::new(call.asked.has(Extension::Lineage))
}

fn write(xml: &mut Xml, snapshot: &SnapshotView, lineage: &Lineage) {
    xml.open("item");
    xml.text("snapshotId", &snapshot.id.to_string());
    xml.text("volumeId", VOLUME_ID);
    xml.text("status", status(snapshot.state));
    if let Some(message) = &snapshot.status_message {
        xml.text("statusMessage", message);
    }
    xml.text("startTime", &iso_8601(snapshot.start_time));
    xml.text("progress", progress(snapshot.state));
    xml.text("ownerId", &snapshot.account.to_string());
    xml.text("volumeSize", &snapshot.volume_size.gib().to_string());
    xml.text(
        "description",
        snapshot.description.as_deref().unwrap_or_default(),
    );
    xml.text("encrypted", ENCRYPTED);
    if !snapshot.tags.is_empty() {
        xml.open("tagSet");
        for tag in &snapshot.tags {
            xml.open("item");
            xml.text("key", &tag.key);
            xml.text("value", &tag.value);
            xml.close();
        }
        xml.close();
    }
    xml.text("storageTier", STORAGE_TIER);
    xml.text("transferType", TRANSFER_TYPE);
    if snapshot.state == SnapshotState::Completed {
        if let Some(time) = snapshot.completion_time {
            xml.text("completionTime", &iso_8601(time));
        }
        if let Some(count) = snapshot.full_block_count {
            let bytes = count.saturating_mul(BLOCK_BYTES as u64);
            xml.text("fullSnapshotSizeInBytes", &bytes.to_string());
        }
    }
    lineage.write(xml, snapshot);
    xml.close();
}

fn status(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Pending => "pending",
        SnapshotState::Completed => "completed",
        SnapshotState::Error => "error",
    }
}

/// Whole, or not begun: nothing in between is told (SPEC 8.36).
fn progress(state: SnapshotState) -> &'static str {
    match state {
        SnapshotState::Completed => "100%",
        SnapshotState::Pending | SnapshotState::Error => "0%",
    }
}

#[cfg(test)]
mod tests;
