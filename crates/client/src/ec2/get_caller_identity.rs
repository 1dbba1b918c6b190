//! STS GetCallerIdentity (SPEC 7).

use super::xml::Document;
use super::{Form, STS_VERSION};
use crate::api::caller::Call;
use crate::transport::Answer;
use sigv4::Service;

/// The request.
pub(crate) fn call() -> Call {
    Form::new("GetCallerIdentity", STS_VERSION).call("GetCallerIdentity", Service::Sts)
}

/// The account.
pub(crate) fn parse(answer: &Answer) -> Result<String, String> {
    let mut document = Document::new(&answer.text)?;
    document.expect_root("GetCallerIdentityResponse")?;
    let mut account = None;
    while let Some(name) = document.child()? {
        if name != "GetCallerIdentityResult" {
            document.skip()?;
            continue;
        }
        while let Some(name) = document.child()? {
            match name.as_str() {
                "Account" => account = Some(document.text()?),
                _ => document.skip()?,
            }
        }
    }
    account
        .filter(|account| !account.is_empty())
        .ok_or_else(|| "no account".to_owned())
}
