//! What an audit can find, and what it has found.

use super::Finding;
use std::collections::BTreeMap;

/// Examples kept of each kind.
const EXAMPLES_MAX: usize = 5;

/// What can be wrong; grave ones come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Flaw {
    ChunkMissing,
    ChunkCondemned,
    ChunkDamaged,
    ChunkKind,
    PageUnreadable,
    FrameContainer,
    FrameContainerKind,
    FrameBeyondEnd,
    FramesOverlap,
    FrameFreed,
    FrameMissing,
    FrameDifferent,
    ContainerMissing,
    ContainerUnknown,
    ContainerKind,
    ContainerShort,
    ContainerId,
    LiveBytesLow,
    SnapshotFrame,
    SnapshotCount,
    ContainerLeftover,
    LiveBytesHigh,
    EntriesLeft,
    PagesLeft,
    TagsLeft,
    TokensLeft,
}

impl Flaw {
    fn name(self) -> &'static str {
        match self {
            Flaw::ChunkMissing => "chunk-missing",
            Flaw::ChunkCondemned => "chunk-condemned",
            Flaw::ChunkDamaged => "chunk-damaged",
            Flaw::ChunkKind => "chunk-kind",
            Flaw::PageUnreadable => "page-unreadable",
            Flaw::FrameContainer => "frame-container",
            Flaw::FrameContainerKind => "frame-container-kind",
            Flaw::FrameBeyondEnd => "frame-beyond-end",
            Flaw::FramesOverlap => "frames-overlap",
            Flaw::FrameFreed => "frame-freed",
            Flaw::FrameMissing => "frame-missing",
            Flaw::FrameDifferent => "frame-different",
            Flaw::ContainerMissing => "container-missing",
            Flaw::ContainerUnknown => "container-unknown",
            Flaw::ContainerKind => "container-kind",
            Flaw::ContainerShort => "container-short",
            Flaw::ContainerId => "container-id",
            Flaw::LiveBytesLow => "live-bytes-low",
            Flaw::SnapshotFrame => "snapshot-frame",
            Flaw::SnapshotCount => "snapshot-count",
            Flaw::ContainerLeftover => "container-leftover",
            Flaw::LiveBytesHigh => "live-bytes-high",
            Flaw::EntriesLeft => "entries-left",
            Flaw::PagesLeft => "pages-left",
            Flaw::TagsLeft => "tags-left",
            Flaw::TokensLeft => "tokens-left",
        }
    }

    /// Whether data is lost or in danger.
    fn is_grave(self) -> bool {
        match self {
            Flaw::ChunkMissing
            | Flaw::ChunkCondemned
            | Flaw::ChunkDamaged
            | Flaw::ChunkKind
            | Flaw::PageUnreadable
            | Flaw::FrameContainer
            | Flaw::FrameContainerKind
            | Flaw::FrameBeyondEnd
            | Flaw::FramesOverlap
            | Flaw::FrameFreed
            | Flaw::FrameMissing
            | Flaw::FrameDifferent
            | Flaw::ContainerMissing
            | Flaw::ContainerUnknown
            | Flaw::ContainerKind
            | Flaw::ContainerShort
            | Flaw::ContainerId
            | Flaw::LiveBytesLow
            | Flaw::SnapshotFrame
            | Flaw::SnapshotCount => true,
            Flaw::ContainerLeftover
            | Flaw::LiveBytesHigh
            | Flaw::EntriesLeft
            | Flaw::PagesLeft
            | Flaw::TagsLeft
            | Flaw::TokensLeft => false,
        }
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Findings(BTreeMap<Flaw, (u64, Vec<String>)>);

impl Findings {
    pub(super) fn add(&mut self, flaw: Flaw, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(flaw).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example());
        }
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        let found = self.0.into_iter();
        found
            .map(|(flaw, (count, examples))| Finding {
                kind: flaw.name(),
                grave: flaw.is_grave(),
                count,
                examples,
            })
            .collect()
    }
}
