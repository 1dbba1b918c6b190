//! Which extensions of ours an answer offers, to those who ask (docs/wire.md, Extensions).
//!
//! A request that does not ask is answered exactly as AWS would.

use crate::parameters::Parameters;
use crate::response::Reply;
use engine::Engine;
use http::{HeaderName, HeaderValue};
use types::Extension;

/// The reply with those of the extensions asked for that this server offers.
pub(crate) fn answered(mut reply: Reply, parameters: &Parameters<'_>, engine: &Engine) -> Reply {
    let agreed = parameters.header(Extension::HEADER).and_then(|asked| {
        Extension::answer(&asked, |extension| match extension {
            Extension::PutByDigest => engine.puts_by_digest(),
            Extension::BlockChecksums | Extension::Lineage => true,
        })
    });
    if let Some(agreed) = agreed {
        let agreed = HeaderValue::try_from(agreed).expect("names are plain ASCII");
        let header = HeaderName::from_static(Extension::HEADER);
        reply.headers_mut().insert(header, agreed);
    }
    reply
}
