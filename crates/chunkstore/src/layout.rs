//! The one place that builds and reads the names of segments and objects.
//!
//! ```text
//! local segment   0000000000000102.blocks    16 lower-case hex digits of the id, then the kind
//! object          chunks/0000000000000102    a prefix, then the id
//! ```

use crate::{ContainerId, ContainerKind};

const BLOCKS: &str = "blocks";
const PAGES: &str = "pages";

/// The file name of a segment.
pub(crate) fn segment_name(id: ContainerId, kind: ContainerKind) -> String {
    format!("{:016x}.{}", id.0, kind_word(kind))
}

/// The segment that a file of this name is; `None` for any name that [`segment_name`] does not build.
pub(crate) fn parse_segment_name(name: &str) -> Option<(ContainerId, ContainerKind)> {
    let (digits, word) = name.split_once('.')?;
    let kind = match word {
        BLOCKS => ContainerKind::Blocks,
        PAGES => ContainerKind::Pages,
        _ => return None,
    };
    let id = ContainerId(u64::from_str_radix(digits, 16).ok()?);
    (segment_name(id, kind) == name).then_some((id, kind))
}

/// What the names of all objects begin with, behind the prefix that the object store itself may add.
#[cfg(feature = "objects")]
pub(crate) const OBJECT_PREFIX: &str = "chunks";

/// The name of an object.
#[cfg(feature = "objects")]
pub(crate) fn object_name(id: ContainerId) -> String {
    format!("{OBJECT_PREFIX}/{:016x}", id.0)
}

/// The container that an object of this name is; `None` for any name that [`object_name`] does not build.
#[cfg(feature = "objects")]
pub(crate) fn parse_object_name(name: &str) -> Option<ContainerId> {
    let (_, digits) = name.rsplit_once('/')?;
    let id = ContainerId(u64::from_str_radix(digits, 16).ok()?);
    (object_name(id) == name).then_some(id)
}

fn kind_word(kind: ContainerKind) -> &'static str {
    match kind {
        ContainerKind::Blocks => BLOCKS,
        ContainerKind::Pages => PAGES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_form_are_segments() {
        let id = ContainerId(0x102);
        assert_eq!(
            segment_name(id, ContainerKind::Blocks),
            "0000000000000102.blocks"
        );
        for kind in [ContainerKind::Blocks, ContainerKind::Pages] {
            assert_eq!(
                parse_segment_name(&segment_name(id, kind)),
                Some((id, kind))
            );
        }
        let refused = [
            "",
            "102.blocks",
            "0000000000000102",
            "000000000000010A.blocks",
            "lost+found",
            "+000000000000102.blocks",
            "0000000000000102.blocks.old",
            "0000000000000102.index",
        ];
        for name in refused {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[cfg(feature = "objects")]
    #[test]
    fn only_names_of_our_own_form_are_objects() {
        assert_eq!(object_name(ContainerId(0x102)), "chunks/0000000000000102");
        assert_eq!(
            parse_object_name("chunks/0000000000000102"),
            Some(ContainerId(0x102))
        );
        for name in [
            "",
            "0000000000000102",
            "chunks/102",
            "other/0000000000000102",
            "chunks/a/b",
        ] {
            assert_eq!(parse_object_name(name), None, "{name}");
        }
    }
}
