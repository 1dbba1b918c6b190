//! The six EBS direct operations over HTTP: requests in, verbs of the engine, responses out (SPEC 2, 3, 5).
//!
//! ```text
//! routes.rs          method and path -> operation
//! ops/               one file per operation
//! parameters.rs      path, query and headers as text and integers; numbers.rs, snapshot_id.rs
//! constraints.rs     modelled constraints, and their messages
//! body.rs            bodies within bounds; intake.rs: block data into pooled buffers
//! admission.rs       what requests may hold of the server's memory
//! block_token.rs     page_token.rs, base62.rs: what clients hold on to
//! error.rs           every refusal in the words of the wire
//! response.rs        what every response carries
//! extensions.rs      which extensions of ours an answer offers
//! ```
//!
//! Order of checks, in every operation: route, signature, constraints, the snapshot, the rest; and whatever can be refused
//! before the body is read is refused before. Wire names and texts end here: the engine knows none of them.

mod admission;
mod base62;
mod block_token;
mod body;
mod constraints;
mod error;
mod extensions;
mod intake;
mod json;
mod numbers;
mod ops;
mod page_token;
mod parameters;
mod response;
mod routes;
mod snapshot_id;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use body::BodyLimits;

use crate::admission::Admissions;
use crate::body::RequestBody;
use crate::error::ApiError;
use crate::intake::Intake;
use crate::parameters::Parameters;
use crate::response::Reply;
use crate::routes::Route;
use auth::{
    Authenticator, Caller, RequestHead, RequestId, Service, TokenKeys, Unproven, UnsignedPayload,
};
use bytes::Bytes;
use engine::{Admission, BufferPool, Engine};
use futures_util::FutureExt;
use http::request::Parts;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use types::{Clock, Digest, Random};

/// What an [`EbsApi`] is made of.
pub struct Components {
    /// The verbs.
    pub engine: Engine,
    /// Signatures and accounts.
    pub authenticator: Authenticator,
    /// The keys of tokens.
    pub token_keys: Arc<TokenKeys>,
    /// The time of tokens and of the `Date` header; the one that signatures are judged by.
    pub clock: Arc<dyn Clock>,
    /// Salts of tokens.
    pub random: Random,
    /// What an operator may choose.
    pub options: EbsApiOptions,
}

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct EbsApiOptions {
    /// Items of a page when a request does not say (SPEC 8.7), 100 to 10,000.
    pub max_results_default: usize,
    /// Patience with bodies.
    pub body_limits: BodyLimits,
}

impl EbsApiOptions {
    /// What `serve` uses unless told otherwise.
    pub const STANDARD: EbsApiOptions = EbsApiOptions {
        max_results_default: types::limits::LIST_RESULTS_MAX,
        body_limits: BodyLimits::STANDARD,
    };
}

/// The name of the operation that a response answers, as an extension of the response: for metrics. `Unknown` when no
/// operation was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation(pub &'static str);

/// The name of the exception that a response tells, as an extension of the response; successes have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrorCode(pub &'static str);

/// The EBS direct APIs; clones share everything.
#[derive(Clone)]
pub struct EbsApi {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    engine: Engine,
    authenticator: Authenticator,
    token_keys: Arc<TokenKeys>,
    clock: Arc<dyn Clock>,
    random: Random,
    options: EbsApiOptions,
    admissions: Admissions,
    verified: Intake,
    unverified: Intake,
}

impl EbsApi {
    /// Puts the parts together.
    pub fn new(components: Components) -> EbsApi {
        let Components {
            engine,
            authenticator,
            token_keys,
            clock,
            random,
            options,
        } = components;
        let (verified, unverified) = (engine.buffers(), engine.unverified_buffers());
        let admissions = Admissions::new(verified.total(), unverified.total(), &clock);
        let intake = |pool: &BufferPool, admission: &Admission| {
            let limits = options.body_limits.clone();
            Intake::new(pool.clone(), admission.clone(), limits)
        };
        let verified = intake(verified, &admissions.blocks);
        let unverified = intake(unverified, &admissions.unverified);
        let shared = Shared {
            engine,
            authenticator,
            token_keys,
            clock,
            random,
            options,
            admissions,
            verified,
            unverified,
        };
        EbsApi {
            shared: Arc::new(shared),
        }
    }

    /// The answer to a request that there is no room for, whatever it asks.
    pub fn throttle(&self, request_id: RequestId) -> Response<Full<Bytes>> {
        let error = ApiError::throttled();
        let mut reply = response::error(&error, true);
        reply.extensions_mut().insert(ErrorCode(error.code()));
        reply.extensions_mut().insert(Operation("Unknown"));
        response::finish(reply, request_id, self.shared.clock.now())
    }

    /// What requests are admitted to, for the counts.
    pub fn admissions(&self) -> [(&'static str, Admission); 4] {
        self.shared.admissions.by_name()
    }

    /// Answers a request, whatever it is: errors are responses, and so is a panic. Dropping the future gives the request up.
    ///
    /// The response carries [`Operation`] and, for an error, [`ErrorCode`] as extensions. A large one carries an
    /// `Arc<engine::Transfer>` too, to be told of its way out.
    pub async fn handle<B>(
        &self,
        request: Request<B>,
        request_id: RequestId,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        let (head, body) = request.into_parts();
        let mut body = RequestBody::new(body, &head.headers);
        let route = routes::route(&head.method, head.uri.path());
        let operation = route.as_ref().map_or("Unknown", Route::operation);
        let work = async {
            let route = route.ok_or_else(ApiError::unknown_operation)?;
            self.shared.answer(route, &head, &mut body).await
        };
        let answered = AssertUnwindSafe(work).catch_unwind().await;
        let outcome = answered.unwrap_or_else(|panic| Err(ApiError::internal(panic_text(&*panic))));
        let mut reply = match outcome {
            Ok(reply) => reply,
            Err(error) => {
                if let Some(fault) = error.fault() {
                    tracing::error!(%request_id, operation, code = error.code(), fault, "request failed");
                }
                let reusable = body.drain(&self.shared.options.body_limits).await;
                let mut reply = response::error(&error, !reusable);
                reply.extensions_mut().insert(ErrorCode(error.code()));
                reply
            }
        };
        reply.extensions_mut().insert(Operation(operation));
        response::finish(reply, request_id, self.shared.clock.now())
    }
}

impl Shared {
    async fn answer<B>(
        &self,
        route: Route<'_>,
        head: &Parts,
        body: &mut RequestBody<B>,
    ) -> Result<Reply, ApiError>
    where
        B: Body<Data = Bytes> + Send + Unpin,
    {
        if let Route::PutSnapshotBlock { snapshot, index } = route {
            return ops::put_snapshot_block::run(self, head, body, snapshot, index).await;
        }
        let unproven = self.open(head, UnsignedPayload::Refused)?;
        let (limits, large) = (&self.options.body_limits, &self.admissions.documents);
        let document = body
            .document(limits, large, unproven.access_key_id())
            .await?;
        let caller = unproven.verify_with(Digest::of(&document.bytes))?;
        let parameters = Parameters::of(head);
        let reply = self
            .answer_caller(route, &caller, &parameters, &document.bytes)
            .await?;
        Ok(match route {
            Route::StartSnapshot
            | Route::ListSnapshotBlocks { .. }
            | Route::ListChangedBlocks { .. } => {
                extensions::answered(reply, &parameters, &self.engine)
            }
            Route::PutSnapshotBlock { .. }
            | Route::CompleteSnapshot { .. }
            | Route::GetSnapshotBlock { .. } => reply,
        })
    }

    /// The operations that need their whole request before they begin.
    async fn answer_caller(
        &self,
        route: Route<'_>,
        caller: &Caller,
        parameters: &Parameters<'_>,
        document: &[u8],
    ) -> Result<Reply, ApiError> {
        match route {
            Route::StartSnapshot => ops::start_snapshot::run(self, caller, document).await,
            Route::CompleteSnapshot { snapshot } => {
                ops::complete_snapshot::run(self, caller, parameters, snapshot).await
            }
            Route::GetSnapshotBlock { snapshot, index } => {
                ops::get_snapshot_block::run(self, caller, parameters, snapshot, index).await
            }
            Route::ListSnapshotBlocks { snapshot } => {
                ops::list_snapshot_blocks::run(self, caller, parameters, snapshot).await
            }
            Route::ListChangedBlocks { second } => {
                ops::list_changed_blocks::run(self, caller, parameters, second).await
            }
            Route::PutSnapshotBlock { .. } => {
                unreachable!("a put is answered while its body streams")
            }
        }
    }

    /// Judges a request's signature as far as that goes without its body.
    fn open(&self, head: &Parts, unsigned: UnsignedPayload) -> Result<Unproven, ApiError> {
        Ok(self
            .authenticator
            .open(&signed_head(head), Service::Ebs, unsigned)?)
    }
}

/// What the signature of a request covers.
pub(crate) fn signed_head(head: &Parts) -> RequestHead<'_> {
    RequestHead {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panic: {}", text.unwrap_or("(no text)"))
}
