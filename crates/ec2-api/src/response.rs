//! Turns outcomes into HTTP responses, in the words of the service (SPEC 7.1).

use crate::error::ApiError;
use crate::service::Service;
use crate::xml::Xml;
use crate::{ErrorCode, Operation};
use auth::RequestId;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, SERVER, STRICT_TRANSPORT_SECURITY, VARY,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

/// What a throttled client is asked to wait, in milliseconds; SDKs spread their retries over about as long by themselves.
const RETRY_AFTER_MS: u32 = 1_000;

/// The response to a request; `Date` and `Content-Length` are added by the server below.
pub(crate) fn response(
    service: Service,
    request_id: RequestId,
    operation: Operation,
    outcome: Result<Bytes, ApiError>,
) -> Response<Full<Bytes>> {
    let (status, body, error_code, is_throttled) = match outcome {
        Ok(body) => (StatusCode::OK, body, None, false),
        Err(error) => {
            log(request_id, operation, &error);
            let body = match service {
                Service::Ec2 => ec2_error(request_id, &error),
                Service::Sts => sts_error(request_id, &error),
            };
            (
                error.code.status(),
                body,
                Some(ErrorCode(error.code.name())),
                error.code.is_throttling(),
            )
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.extensions_mut().insert(operation);
    if let Some(code) = error_code {
        response.extensions_mut().insert(code);
    }
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static(RequestId::HEADER),
        request_id.header_value(),
    );
    if is_throttled {
        headers.insert("x-amz-retry-after", RETRY_AFTER_MS.into());
    }
    let fixed: &[(HeaderName, &str)] = match service {
        Service::Ec2 => &[
            (CONTENT_TYPE, "text/xml;charset=UTF-8"),
            (CACHE_CONTROL, "no-cache, no-store"),
            (
                STRICT_TRANSPORT_SECURITY,
                "max-age=31536000; includeSubDomains",
            ),
            (VARY, "accept-encoding"),
            (SERVER, "AmazonEC2"),
        ],
        Service::Sts => &[(CONTENT_TYPE, "text/xml")],
    };
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What the client caused is its own affair; what we did not manage is the operator's.
fn log(request_id: RequestId, Operation(operation): Operation, error: &ApiError) {
    let code = error.code.name();
    let cause = error.cause.as_deref().unwrap_or(&error.message);
    if error.code.status().is_server_error() && !error.code.is_throttling() {
        tracing::error!(%request_id, operation, code, cause, "request failed");
    } else {
        tracing::debug!(%request_id, operation, code, cause, "request refused");
    }
}

fn ec2_error(request_id: RequestId, error: &ApiError) -> Bytes {
    let mut xml = Xml::new("Response", None);
    xml.open("Errors");
    xml.open("Error");
    xml.text("Code", error.code.name());
    xml.text("Message", &error.message);
    xml.close();
    xml.close();
    xml.text("RequestID", &request_id.to_string());
    xml.finish()
}

fn sts_error(request_id: RequestId, error: &ApiError) -> Bytes {
    let fault = if error.code.status().is_server_error() {
        "Receiver"
    } else {
        "Sender"
    };
    let mut xml = Xml::new("ErrorResponse", Some(Service::Sts.namespace()));
    xml.open("Error");
    xml.text("Type", fault);
    xml.text("Code", error.code.name());
    xml.text("Message", &error.message);
    xml.close();
    xml.text("RequestId", &request_id.to_string());
    xml.finish()
}
