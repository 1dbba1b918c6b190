//! Reads the body of a request, bounded in bytes and in time.

use crate::error::{ApiError, Code};
use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;

/// Bytes of a body: the largest that makes sense, 1,000 tags of 1,000 resources, has under 1 MiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Reads a whole body.
pub(crate) async fn read<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, ApiError> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME_MAX, collect(body)).await {
        Ok(read) => read,
        Err(_) => Err(broken("The body of the request did not arrive in time.")),
    }
}

async fn collect<B: Body<Data = Bytes>>(body: B) -> Result<Bytes, ApiError> {
    let mut body = pin!(body);
    let mut read = BytesMut::new();
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|_| broken("The body of the request could not be read."))?;
        if let Ok(data) = frame.into_data() {
            if data.len() > BODY_BYTES_MAX - read.len() {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

fn too_large() -> ApiError {
    let message = format!("The body of the request must not exceed {BODY_BYTES_MAX} bytes.");
    ApiError::new(Code::RequestEntityTooLarge, message)
}

fn broken(message: &str) -> ApiError {
    ApiError::new(Code::RequestTimeout, message)
}
