//! What Drystone adds to the wire of the EBS direct APIs and of EC2, by name.
//!
//! A client names the extensions that it would like in the header [`Extension::HEADER`], and uses those that the answer names
//! back. AWS ignores the header and names none. `docs/wire.md` says what each one does.

/// An extension of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Extension {
    /// Listings tell the checksum of each block.
    BlockChecksums,
    /// A block that is stored already is put without its data.
    PutByDigest,
    /// Descriptions of snapshots tell parent, root digest and unique bytes.
    Lineage,
}

impl Extension {
    /// All of them, in the order in which answers name them.
    pub const ALL: [Extension; 3] = [
        Extension::BlockChecksums,
        Extension::PutByDigest,
        Extension::Lineage,
    ];

    /// The header that asks for extensions, and the one that answers.
    pub const HEADER: &'static str = "x-drystone-extensions";

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Extension::BlockChecksums => "block-checksums",
            Extension::PutByDigest => "put-by-digest",
            Extension::Lineage => "lineage",
        }
    }

    /// Whether a header's value, a list with commas, names it.
    pub fn is_named_in(self, list: &str) -> bool {
        list.split(',').any(|name| name.trim() == self.name())
    }

    /// The list of those extensions that `asked` names and that are offered; nothing when there are none.
    pub fn answer(asked: &str, offered: impl Fn(Extension) -> bool) -> Option<String> {
        let agreed: Vec<_> = Extension::ALL
            .into_iter()
            .filter(|extension| extension.is_named_in(asked) && offered(*extension))
            .map(Extension::name)
            .collect();
        (!agreed.is_empty()).then(|| agreed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(asked: &str, expected: Option<&str>) {
        let answer = Extension::answer(asked, |extension| extension != Extension::PutByDigest);
        assert_eq!(answer.as_deref(), expected, "{asked:?}");
    }

    #[test]
    fn what_is_asked_for_and_offered_is_named_once_and_in_order() {
        check("lineage,block-checksums", Some("block-checksums, lineage"));
        check(" lineage ,\tlineage,, future", Some("lineage"));
        check("put-by-digest", None);
        check("put-by-digest, block-checksums", Some("block-checksums"));
        check("", None);
        check("Lineage lineage;q=1 xlineage", None);
    }
}
