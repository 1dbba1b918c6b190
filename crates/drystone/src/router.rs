//! From a request to what answers it, with everything that every request gets: an id, a line in the log, metrics, and
//! an answer even when the server has a bug.
//!
//! ```text
//! GET  /healthz                  200 when the server serves
//! GET  /metrics                  Prometheus text, for clients on this machine
//! POST /, GET /?Action=…         EC2 and STS (crate ec2-api)
//! everything else                EBS direct APIs (crate ebs-api), also for what is no operation at all
//! ```

use crate::http::refusal::{Code, Refusal};
use crate::http::{Answer, Peer};
use crate::metrics::{HttpMetrics, Metrics};
use auth::RequestId;
use bytes::Bytes;
use ebs_api::EbsApi;
use ec2_api::Ec2Api;
use futures_util::FutureExt;
use http::header::{CONTENT_TYPE, FORWARDED};
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;
use types::{Clock, Random};

/// Letters of a path that a log line shows.
const LOGGED_PATH_MAX: usize = 128;

/// Everything that answers requests.
pub struct Router {
    /// The EBS direct APIs.
    pub ebs: EbsApi,
    /// EC2 and STS.
    pub ec2: Ec2Api,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// Counts requests.
    pub http: Arc<HttpMetrics>,
    /// Measures them.
    pub clock: Arc<dyn Clock>,
    /// Makes their ids.
    pub random: Random,
}

impl Router {
    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let request_id = RequestId::generate(&self.random);
        let begun = self.clock.monotonic();
        let in_flight = self.http.request();
        let logged = Logged::of(&request);
        let span = tracing::error_span!("request", %request_id);
        let work = self.dispatch(request, request_id);
        let mut answer = guarded(work, request_id).instrument(span.clone()).await;
        drop(in_flight);
        let took = self.clock.monotonic().saturating_sub(begun);
        span.in_scope(|| self.record(&logged, &mut answer, took));
        answer
    }

    /// Answers a request that there is no room for: that it is to come again. Who watches over the server is served even now.
    pub async fn turn_away(&self, request: Request<Incoming>) -> Answer {
        let request_id = RequestId::generate(&self.random);
        let begun = self.clock.monotonic();
        let logged = Logged::of(&request);
        let mut answer = match Route::of(&request) {
            Route::Health | Route::Metrics => self.dispatch(request, request_id).await,
            Route::Ec2 => {
                let query = request.uri().query();
                self.ec2.throttle(request.headers(), query, request_id)
            }
            Route::Ebs => self.ebs.throttle(request_id),
        };
        let took = self.clock.monotonic().saturating_sub(begun);
        self.record(&logged, &mut answer, took);
        answer
    }

    async fn dispatch(&self, request: Request<Incoming>, id: RequestId) -> Answer {
        match Route::of(&request) {
            Route::Health => named("healthz", text(id, "text/plain", "ok\n".to_owned())),
            Route::Metrics => named("metrics", self.show_metrics(id)),
            Route::Ec2 => self.ec2.handle(request, id).await,
            Route::Ebs => self.ebs.handle(request, id).await,
        }
    }

    fn show_metrics(&self, id: RequestId) -> Answer {
        match self.metrics.text() {
            Ok(metrics) => text(
                id,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                metrics,
            ),
            Err(error) => {
                tracing::error!("{error:#}");
                Refusal::PANIC.response(id)
            }
        }
    }

    fn record(&self, logged: &Logged, answer: &mut Answer, took: Duration) {
        let operation = operation_of(answer);
        let code = code_of(answer);
        let status = answer.status().as_u16();
        tracing::debug!(
            target: "drystone::http",
            method = logged.method,
            path = logged.path,
            operation,
            status,
            code,
            bytes = answer.body().size_hint().exact().unwrap_or(0),
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            peer = logged.peer,
            "answered"
        );
        self.http.answered(operation, status, code, took);
    }
}

/// What a request is for.
enum Route {
    Health,
    Metrics,
    Ec2,
    Ebs,
}

impl Route {
    fn of(request: &Request<Incoming>) -> Route {
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/healthz" if read => Route::Health,
            "/metrics" if read && is_local(request) => Route::Metrics,
            "/" if request.method() == Method::POST || has_action(request) => Route::Ec2,
            _ => Route::Ebs,
        }
    }
}

/// Answers even when the work panics. The hook of `logging.rs` has then logged where, and the connection ends.
async fn guarded(work: impl Future<Output = Answer>, id: RequestId) -> Answer {
    let answered = AssertUnwindSafe(work).catch_unwind().await;
    answered.unwrap_or_else(|_| Refusal::PANIC.response(id))
}

/// What the log says of a request; not its query, which holds tokens and signatures.
struct Logged {
    method: String,
    path: String,
    peer: String,
}

impl Logged {
    fn of(request: &Request<Incoming>) -> Logged {
        if !tracing::enabled!(target: "drystone::http", tracing::Level::DEBUG) {
            return Logged {
                method: String::new(),
                path: String::new(),
                peer: String::new(),
            };
        }
        let path = request.uri().path();
        let peer = request.extensions().get::<Peer>();
        Logged {
            method: request
                .method()
                .as_str()
                .chars()
                .take(LOGGED_PATH_MAX)
                .collect(),
            path: path.chars().take(LOGGED_PATH_MAX).collect(),
            peer: peer
                .map(|Peer(address)| address.to_string())
                .unwrap_or_default(),
        }
    }
}

/// The name of the operation that was carried out.
#[derive(Clone, Copy)]
struct Named(&'static str);

fn named(operation: &'static str, mut answer: Answer) -> Answer {
    answer.extensions_mut().insert(Named(operation));
    answer
}

fn operation_of(answer: &Answer) -> &'static str {
    let extensions = answer.extensions();
    let ec2 = extensions
        .get::<ec2_api::Operation>()
        .map(|operation| operation.0);
    let ebs = extensions
        .get::<ebs_api::Operation>()
        .map(|operation| operation.0);
    let own = extensions.get::<Named>().map(|operation| operation.0);
    ebs.or(ec2).or(own).unwrap_or("unknown")
}

/// The code of a refusal, nothing for a success.
fn code_of(answer: &Answer) -> &'static str {
    let extensions = answer.extensions();
    let ec2 = extensions.get::<ec2_api::ErrorCode>().map(|code| code.0);
    let ebs = extensions.get::<ebs_api::ErrorCode>().map(|code| code.0);
    let own = extensions.get::<Code>().map(|code| code.0);
    ebs.or(ec2).or(own).unwrap_or("")
}

/// Whether the client is a program on this machine, as far as we can see: what a proxy passes on is not.
fn is_local(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let passed_on = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    let peer = request.extensions().get::<Peer>();
    !passed_on && peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback())
}

fn has_action(request: &Request<Incoming>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == Method::GET && query.split('&').any(|part| part.starts_with("Action="))
}

fn text(id: RequestId, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(RequestId::HEADER, id.header_value());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_panic_becomes_an_answer() {
        let id = RequestId::generate(&Random::seeded(1));
        let answer = guarded(async { panic!("a bug") }, id).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answer.headers()[RequestId::HEADER], id.to_string().as_str());
        assert_eq!(code_of(&answer), "InternalServerException");
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("the body is there")
            .to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("the body is JSON");
        assert_eq!(body["__type"], "InternalServerException");
        assert!(!body.to_string().contains("a bug"));
    }
}
