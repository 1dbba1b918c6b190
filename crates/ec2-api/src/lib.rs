//! The EC2 calls that clients of snapshots need, and STS GetCallerIdentity, over HTTP (SPEC 7).
//!
//! ```text
//! lib.rs           authenticate, read, carry out, answer     <- start here
//! service.rs       EC2 or STS
//! body.rs          the body, bounded
//! admission.rs     what calls may hold of the server's memory
//! query.rs         parameters, from a form or a query
//! ops.rs           the actions; ops/ has a file for each
//! filters.rs       Filter.N and its wildcards
//! page.rs          MaxResults and NextToken
//! scan.rs          the snapshots of an account, a batch at a time
//! extensions.rs    extensions of ours that a client asks for
//! lineage.rs       what one of them tells of snapshots
//! snapshot_ids.rs  ids as clients write them
//! xml.rs           the text of responses
//! response.rs      status, headers, errors in XML
//! error.rs         error codes
//! ```
//!
//! Invariants
//! - Nothing is looked up or changed before the signature over method, path, query, headers and body is verified.
//! - An action acts only on parameters that it knows; a request with any other is refused.
//! - A call's memory and work are bounded, whatever the store holds (`page.rs`, `filters.rs`).
//!
//! Deliberately absent: sharing, copying, locks, tiers and the recycle bin; every snapshot is private to its account, and
//! every key of an account may do everything with it.

mod admission;
mod body;
mod error;
mod extensions;
mod filters;
mod lineage;
mod ops;
mod page;
mod query;
mod response;
mod scan;
mod service;
mod snapshot_ids;
mod xml;

use admission::Admissions;
use auth::{AuthError, Authenticator, Caller, RequestHead, RequestId, UnsignedPayload};
use body::WholeBody;
use bytes::Bytes;
use engine::{Admission, Admitted, Engine, Refused};
use error::{ApiError, Code, echo};
use extensions::Asked;
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use ops::{Action, Call};
use query::{Parameters, Source};
use service::Service;
use std::sync::Arc;
use types::{Clock, Digest};

/// The name of the action carried out, in a response's extensions, for metrics: `Unknown` where it was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation(pub &'static str);

/// The code of an error, in a response's extensions, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorCode(pub &'static str);

/// What the API is made of.
pub struct Ec2Options {
    /// The verbs.
    pub engine: Engine,
    /// Who may call.
    pub authenticator: Authenticator,
    /// The one region, as in credential scopes.
    pub region: String,
    /// The time by which slow clients are judged.
    pub clock: Arc<dyn Clock>,
}

/// EC2 and STS; shared by all connections.
pub struct Ec2Api {
    options: Ec2Options,
    admissions: Admissions,
}

impl Ec2Api {
    /// The API over these parts.
    pub fn new(options: Ec2Options) -> Ec2Api {
        let admissions = Admissions::new(&options.clock);
        Ec2Api {
            options,
            admissions,
        }
    }

    /// The answer to a request that there is no room for, in the words of the service that it is for.
    pub fn throttle(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        request_id: RequestId,
    ) -> Response<Full<Bytes>> {
        let service = Service::of_request(headers, query);
        let refused = ApiError::from(Refused::LineFull).in_words_of(service);
        response::response(service, request_id, Operation("Unknown"), Err(refused))
    }

    /// What calls are admitted to, for the counts.
    pub fn admissions(&self) -> [(&'static str, Admission); 2] {
        self.admissions.by_name()
    }

    /// Answers a request to `/`. Whatever is wrong with it, there is a response, with an [`Operation`] in its extensions and
    /// an [`ErrorCode`] if it is a refusal. An answer that holds memory carries an `Arc<engine::Transfer>` too, to be told of
    /// its way out.
    pub async fn handle<B: Body<Data = Bytes>>(
        &self,
        request: Request<B>,
        request_id: RequestId,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let service = Service::of_request(&head.headers, head.uri.query());
        let mut operation = Operation("Unknown");
        let asked = Asked::read(&head.headers);
        let outcome = self
            .answer(service, &head, body, request_id, &asked, &mut operation)
            .await;
        let (outcome, transfer) = match outcome {
            Ok((answer, room)) => {
                let transfer = Arc::clone(room.transfer());
                (Ok(admission::held(answer, room)), Some(transfer))
            }
            Err(error) => (Err(error.in_words_of(service)), None),
        };
        let mut response = response::response(service, request_id, operation, outcome);
        if let Some(transfer) = transfer {
            response.extensions_mut().insert(transfer);
        }
        let describes = operation == Operation(Action::DescribeSnapshots.name());
        if describes && response.status().is_success() {
            asked.answer(&self.options.engine, response.headers_mut());
        }
        response
    }

    async fn answer<B: Body<Data = Bytes>>(
        &self,
        service: Service,
        head: &Parts,
        body: B,
        request_id: RequestId,
        asked: &Asked,
        operation: &mut Operation,
    ) -> Result<(Bytes, Admitted), ApiError> {
        if head.method != Method::POST && head.method != Method::GET {
            let message = format!(
                "The method {} is not valid here.",
                echo(head.method.as_str())
            );
            return Err(ApiError::new(Code::InvalidAction, message));
        }
        let (caller, body) = self.authenticate(service, head, body).await?;
        let mut parameters = Parameters::default();
        parameters.read(
            head.uri.query().unwrap_or_default().as_bytes(),
            Source::Query,
        )?;
        if head.method == Method::POST {
            parameters.read(&body.bytes, Source::Form)?;
        }
        let action = Action::take(service, &mut parameters)?;
        *operation = Operation(action.name());
        let room = self
            .admissions
            .answer(&caller.access_key_id, action)
            .await?;
        let call = Call {
            engine: &self.options.engine,
            account: caller.account,
            region: &self.options.region,
            host: head
                .headers
                .get(HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
            request_id,
            asked,
        };
        Ok((call.run(action, parameters).await?, room))
    }

    /// Verifies the request with its body. Only a request of a known key gets its body read, and where the signature can be
    /// verified without the body, only one with a good signature. Hashing takes 0.7 ms at most, so it is done right here.
    async fn authenticate<B: Body<Data = Bytes>>(
        &self,
        service: Service,
        head: &Parts,
        body: B,
    ) -> Result<(Caller, WholeBody), ApiError> {
        let refused = |error: AuthError| match service {
            Service::Ec2 => ApiError::of_auth_in_ec2(&error),
            Service::Sts => ApiError::of_auth_in_sts(&error),
        };
        let signed = RequestHead {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let unproven = self
            .options
            .authenticator
            .open(&signed, service.scope(), UnsignedPayload::Refused)
            .map_err(refused)?;
        unproven.verify_before_body().transpose().map_err(refused)?;
        let body = body::read(body, &self.admissions.bodies, unproven.access_key_id()).await?;
        let caller = unproven
            .verify_with(Digest::of(&body.bytes))
            .map_err(refused)?;
        Ok((caller, body))
    }
}

#[cfg(test)]
mod tests;
