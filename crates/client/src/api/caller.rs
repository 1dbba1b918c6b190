//! One attempt of a request: signed, sent, counted, its answer told from an error.
//!
//! Signatures carry the time, which servers compare with theirs. Where one says that ours is off, and its `Date` agrees, the difference is
//! allowed for from then on (SPEC 3.16).

use crate::config::Credentials;
use crate::retry::{Failure, Tries};
use crate::transport::{Answer, Endpoint, Outgoing, Sink, Transport};
use crate::{Counter, Error, Meter, Refusal};
use bytes::Bytes;
use http::header::DATE;
use http::{HeaderName, HeaderValue, Method};
use sigv4::{PayloadHash, RequestHead, Service, Signer, SignerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use types::{Clock, Random, UnixMillis};

/// A difference of clocks that is worth correcting: servers allow for five minutes.
const SKEW_MIN_MS: u64 = 4 * 60 * 1000;

/// Errors that a wrong clock can be behind (SPEC 3.16; EC2 says `RequestExpired`).
const SKEW_CODES: [&str; 6] = [
    "AccessDeniedException",
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];

/// A request before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The operation, for messages.
    pub(crate) operation: &'static str,
    /// Whose it is.
    pub(crate) service: Service,
    /// The method.
    pub(crate) method: Method,
    /// The path, in its wire form, without the endpoint's prefix.
    pub(crate) path: String,
    /// The query, in its wire form; perhaps empty.
    pub(crate) query: String,
    /// Headers of the operation.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub(crate) body: Bytes,
    /// What the signature says of the body.
    pub(crate) payload: PayloadHash,
    /// Whether it may be sent twice and be answered as if it had been sent once.
    pub(crate) is_idempotent: bool,
}

/// Makes attempts.
pub(crate) struct Caller {
    pub(crate) ebs: Endpoint,
    pub(crate) ec2: Endpoint,
    pub(crate) sts: Endpoint,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    pub(crate) transport: Transport,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    pub(crate) meter: Arc<Meter>,
    pub(crate) attempts_max: u32,
    /// Milliseconds that the servers' clocks are ahead of ours.
    pub(crate) skew: AtomicI64,
}

impl Caller {
    /// The endpoint of a service.
    pub(crate) fn endpoint(&self, service: Service) -> &Endpoint {
        match service {
            Service::Ebs => &self.ebs,
            Service::Ec2 => &self.ec2,
            Service::Sts => &self.sts,
        }
    }

    /// Attempts of a request, none so far.
    pub(crate) fn tries(&self, operation: &'static str, service: Service) -> Tries<'_> {
        Tries::new(
            operation,
            self.endpoint(service).label(),
            self.attempts_max,
            &self.random,
            &self.meter,
        )
    }

    /// Sends a request as often as that makes sense, until an answer is a success that `parse` understands.
    pub(crate) async fn call<T>(
        &self,
        call: &Call,
        parse: impl Fn(&Answer) -> Result<T, String>,
    ) -> Result<T, Error> {
        let mut tries = self.tries(call.operation, call.service);
        loop {
            let answer = self.attempt(call, Sink::Text).await;
            match answer.and_then(|answer| parse(&answer).map_err(Failure::NotTheApi)) {
                Ok(parsed) => return Ok(parsed),
                Err(failure) => tries.after(failure).await?,
            }
        }
    }

    /// Sends a request once; an answer that is an error is a failure.
    pub(crate) async fn attempt(&self, call: &Call, sink: Sink<'_>) -> Result<Answer, Failure> {
        // Others may correct it while this is on its way.
        let skew = self.skew.load(Ordering::Relaxed);
        let outgoing = self.signed(call, skew).await.map_err(Failure::Unsent)?;
        let endpoint = self.endpoint(call.service);
        self.meter.add(Counter::Requests, 1);
        let sent = self.transport.send(endpoint, &outgoing, sink).await;
        let answer = sent.map_err(Failure::Lost)?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let refusal = refusal(call, &answer).map_err(Failure::NotTheApi)?;
        let refusal = Box::new(refusal);
        if SKEW_CODES.contains(&refusal.code.as_str()) && self.was_skewed(skew, &answer) {
            return Err(Failure::Skewed(refusal));
        }
        Err(Failure::Refused(refusal))
    }

    async fn signed(&self, call: &Call, skew: i64) -> Result<Outgoing, Error> {
        let endpoint = self.endpoint(call.service);
        let keys = self.credentials.get(self.clock.as_ref()).await?;
        let mut headers = Transport::headers(endpoint);
        headers.extend(call.headers.iter().cloned());
        let path = format!("{}{}", endpoint.prefix(), call.path);
        let signer = Signer::new(SignerOptions {
            access_key_id: keys.access_key_id.clone(),
            secret: keys.secret.clone(),
            session_token: keys.session_token.as_deref().cloned(),
            region: self.region.clone(),
            service: call.service.name().to_owned(),
        });
        let head = RequestHead {
            method: call.method.as_str(),
            path: &path,
            query: (!call.query.is_empty()).then_some(call.query.as_str()),
            headers: &headers,
        };
        let now = self.clock.now().saturating_add(skew);
        let signed = signer
            .sign(&head, call.payload, now)
            .map_err(|error| Error::Config(format!("requests cannot be signed: {error}")))?;
        headers.extend(signed.headers);
        let target = match call.query.is_empty() {
            true => path,
            false => format!("{path}?{}", call.query),
        };
        Ok(Outgoing {
            method: call.method.clone(),
            target,
            headers,
            body: call.body.clone(),
            is_idempotent: call.is_idempotent,
        })
    }

    /// Whether a request that was signed with this difference between our clock and the server's was signed with a wrong one; what is
    /// known of it is corrected first.
    fn was_skewed(&self, signed_with: i64, answer: &Answer) -> bool {
        let is_off = |skew: i64, known: i64| skew.abs_diff(known) >= SKEW_MIN_MS;
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(http_date);
        let skew = theirs.map(|theirs| theirs.saturating_sub(self.clock.now()));
        if let Some(skew) = skew.filter(|skew| is_off(*skew, signed_with)) {
            if is_off(skew, self.skew.swap(skew, Ordering::Relaxed)) {
                tracing::warn!(skew_ms = skew, "the clock of this machine is wrong");
            }
            return true;
        }
        // The server's word of now comes before what another answer said.
        skew.is_none() && is_off(self.skew.load(Ordering::Relaxed), signed_with)
    }
}

/// The error that an answer is.
fn refusal(call: &Call, answer: &Answer) -> Result<Refusal, String> {
    match call.service {
        Service::Ebs => crate::ebs::refusal(call.operation, answer),
        Service::Ec2 | Service::Sts => crate::ec2::refusal(call.operation, answer),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<UnixMillis> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(zoned.as_millisecond())
}
