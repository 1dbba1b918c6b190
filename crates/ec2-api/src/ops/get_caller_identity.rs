//! STS `GetCallerIdentity`: who has signed. Every key acts as the root of its account.

use super::Call;
use crate::error::ApiError;
use crate::query::Parameters;
use crate::service::Service;
use crate::xml::Xml;
use bytes::Bytes;

pub(super) fn get_caller_identity(
    call: &Call<'_>,
    parameters: Parameters,
) -> Result<Bytes, ApiError> {
    parameters.finish()?;
    let account = call.account.to_string();
    let mut xml = Xml::new("GetCallerIdentityResponse", Some(Service::Sts.namespace()));
    xml.open("GetCallerIdentityResult");
    xml.text("Arn", &format!("arn:aws:iam::{account}:root"));
    xml.text("UserId", &account);
    xml.text("Account", &account);
    xml.close();
    xml.open("ResponseMetadata");
    xml.text("RequestId", &call.request_id.to_string());
    Ok(xml.finish())
}
