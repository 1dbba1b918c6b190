//! The element `drystone` of a described snapshot, where a client asks for the extension `lineage` (docs/wire.md, Extensions).
//!
//! ```xml
//! <drystone>
//!   <parentSnapshotId>snap-…</parentSnapshotId>    what it was based on, also when that is gone
//!   <rootDigest>hex</rootDigest>                   the identity of its content, once it is completed
//!   <uniqueBytes>n</uniqueBytes>                   bytes that deleting it would have freed, as the last collection found
//!   <usageTime>ISO 8601</usageTime>                when that was
//! </drystone>
//! ```
//!
//! Each member is there when it is known. The figures of collection are read for many snapshots at once.

use crate::error::ApiError;
use crate::ops::iso_8601;
use crate::xml::Xml;
use engine::{Engine, SnapshotView};
use std::collections::HashMap;
use types::{SnapshotId, UnixMillis};

/// What is told beyond AWS's members.
pub(crate) enum Lineage {
    /// Nothing: nobody asked.
    Untold,
    /// The element, with the figures of the snapshots that were looked up last.
    Told {
        /// When the figures were made.
        usage_time: Option<UnixMillis>,
        /// Bytes that each alone holds.
        unique_bytes: HashMap<SnapshotId, u64>,
    },
}

impl Lineage {
    /// What is told to a client that asks, or does not.
    pub(crate) fn new(asked: bool) -> Lineage {
        match asked {
            false => Lineage::Untold,
            true => Lineage::Told {
                usage_time: None,
                unique_bytes: HashMap::new(),
            },
        }
    }

    /// Reads what [`Lineage::write`] tells of these snapshots, all of the caller's own, in place of what was read before.
    pub(crate) async fn look_up(
        &mut self,
        engine: &Engine,
        snapshots: &[SnapshotView],
    ) -> Result<(), ApiError> {
        let Lineage::Told {
            usage_time,
            unique_bytes,
        } = self
        else {
            return Ok(());
        };
        let ids: Vec<_> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let (time, usage) = engine.usage_by_id(&ids).await?;
        *usage_time = time;
        *unique_bytes = usage
            .into_iter()
            .map(|usage| (usage.id, usage.own_bytes))
            .collect();
        Ok(())
    }

    /// Writes the element into the item of a snapshot.
    pub(crate) fn write(&self, xml: &mut Xml, snapshot: &SnapshotView) {
        let Lineage::Told {
            usage_time,
            unique_bytes,
        } = self
        else {
            return;
        };
        xml.open("drystone");
        if let Some(parent) = snapshot.parent {
            xml.text("parentSnapshotId", &parent.to_string());
        }
        if let Some(root) = snapshot.root {
            xml.text("rootDigest", &root.to_string());
        }
        if let (Some(bytes), Some(time)) = (unique_bytes.get(&snapshot.id), usage_time) {
            xml.text("uniqueBytes", &bytes.to_string());
            xml.text("usageTime", &iso_8601(*time));
        }
        xml.close();
    }
}
