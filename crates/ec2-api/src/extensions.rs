//! Which extensions of ours a client asks for, and which of them the answer offers (docs/wire.md, Extensions).
//!
//! A call that does not ask is answered exactly as AWS would.

use engine::Engine;
use http::{HeaderMap, HeaderName, HeaderValue};
use types::Extension;

/// What the client would like, as it says it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Asked {
    list: String,
}

impl Asked {
    /// Reads the header; repeated ones are one list.
    pub(crate) fn read(headers: &HeaderMap) -> Asked {
        let values = headers.get_all(Extension::HEADER).iter();
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        Asked {
            list: values.join(","),
        }
    }

    /// Whether this one is asked for.
    pub(crate) fn has(&self, extension: Extension) -> bool {
        extension.is_named_in(&self.list)
    }

    /// Adds those that this server offers to the headers of an answer.
    pub(crate) fn answer(&self, engine: &Engine, headers: &mut HeaderMap) {
        let agreed = Extension::answer(&self.list, |extension| match extension {
            Extension::PutByDigest => engine.puts_by_digest(),
            Extension::BlockChecksums | Extension::Lineage => true,
        });
        if let Some(agreed) = agreed {
            let agreed = HeaderValue::try_from(agreed).expect("names are plain ASCII");
            headers.insert(HeaderName::from_static(Extension::HEADER), agreed);
        }
    }
}
