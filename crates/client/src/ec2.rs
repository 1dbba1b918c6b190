//! The snapshot operations of EC2, and STS GetCallerIdentity, in their wire form (SPEC 7), one file each.

pub(crate) mod delete_snapshot;
pub(crate) mod describe_snapshots;
pub(crate) mod get_caller_identity;
pub(crate) mod tags;
mod xml;

use crate::Refusal;
use crate::api::caller::Call;
use crate::ebs;
use crate::transport::Answer;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use sigv4::{PayloadHash, Service};
use types::Digest;
use xml::Document;

const EC2_VERSION: &str = "2016-11-15";
const STS_VERSION: &str = "2011-06-15";

/// Parameters of a request, as a form.
struct Form(String);

impl Form {
    fn new(action: &str, version: &str) -> Form {
        Form(format!("Action={action}&Version={version}"))
    }

    fn push(&mut self, name: &str, value: &str) {
        self.0.push('&');
        self.0.push_str(&ebs::encoded(name));
        self.0.push('=');
        self.0.push_str(&ebs::encoded(value));
    }

    fn call(self, operation: &'static str, service: Service) -> Call {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
        let body = self.0.into_bytes();
        Call {
            operation,
            service,
            method: Method::POST,
            path: "/".to_owned(),
            query: String::new(),
            headers: vec![(CONTENT_TYPE, form)],
            payload: PayloadHash::Digest(Digest::of(&body)),
            is_idempotent: true,
            body: body.into(),
        }
    }
}

/// The error that an answer is (SPEC 7.1); STS has one element less around it.
///
/// # Errors
/// It is not one of this API.
pub(crate) fn refusal(operation: &'static str, answer: &Answer) -> Result<Refusal, String> {
    let mut refusal = ebs::refusal_without_words(operation, answer)?;
    match read_error(&answer.text) {
        Ok(found) => {
            refusal.code = ebs::cut(&found.code);
            refusal.message = ebs::cut(&found.message);
            if let Some(id) = found.request_id {
                refusal.request_id = Some(ebs::cut(&id));
            }
            Ok(refusal)
        }
        Err(_) if ebs::passes(answer) => Ok(refusal),
        Err(_) => Err(ebs::not_an_error_of_the_api(answer)),
    }
}

#[derive(Default)]
struct FoundError {
    code: String,
    message: String,
    request_id: Option<String>,
}

fn read_error(text: &[u8]) -> Result<FoundError, String> {
    let mut found = FoundError::default();
    let mut document = Document::new(text)?;
    let root = document.root()?;
    if root != "Response" && root != "ErrorResponse" {
        return Err(format!("the element {root}"));
    }
    while let Some(name) = document.child()? {
        match name.as_str() {
            "Errors" => {
                while let Some(name) = document.child()? {
                    match name.as_str() {
                        "Error" => read_error_item(&mut document, &mut found)?,
                        _ => document.skip()?,
                    }
                }
            }
            "Error" => read_error_item(&mut document, &mut found)?,
            "RequestID" | "RequestId" => found.request_id = Some(document.text()?),
            _ => document.skip()?,
        }
    }
    match found.code.is_empty() {
        true => Err("an error without a code".to_owned()),
        false => Ok(found),
    }
}

fn read_error_item(document: &mut Document<'_>, found: &mut FoundError) -> Result<(), String> {
    while let Some(name) = document.child()? {
        match name.as_str() {
            "Code" => found.code = document.text()?,
            "Message" => found.message = document.text()?,
            _ => document.skip()?,
        }
    }
    Ok(())
}

/// An answer that says nothing but that it is done.
fn parse_done(answer: &Answer, root: &str) -> Result<(), String> {
    let mut document = Document::new(&answer.text)?;
    document.expect_root(root)?;
    while let Some(name) = document.child()? {
        match name.as_str() {
            "return" if document.text()?.trim() != "true" => {
                return Err("that nothing was done".to_owned());
            }
            "return" => {}
            _ => document.skip()?,
        }
    }
    Ok(())
}
