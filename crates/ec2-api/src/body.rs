//! Reads the body of a request, bounded in bytes and in time. A large one takes a place of those that are few.

use crate::error::{ApiError, Code};
use auth::AccessKeyId;
use bytes::Bytes;
use engine::{Admission, Admitted, Refused};
use http_body::Body;
use http_body_util::BodyExt;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

/// Bytes of a body: the largest that makes sense, 1,000 tags of 1,000 resources, has under 1 MiB.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of a body that need no admission; those of SDKs are shorter, and 1,024 connections hold 16 MiB of them.
const SMALL_BODY: usize = 16 * 1024;

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// A whole body, and the place that it has if it is large.
#[derive(Default)]
pub(crate) struct WholeBody {
    pub(crate) bytes: Vec<u8>,
    room: Option<Admitted>,
}

/// Reads a whole body for this key.
///
/// # Errors
/// Too large, too slow, broken, or throttled when too many large ones are being read.
pub(crate) async fn read<B: Body<Data = Bytes>>(
    body: B,
    large: &Admission,
    key: &AccessKeyId,
) -> Result<WholeBody, ApiError> {
    let announced = body.size_hint().lower();
    if announced > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut whole = WholeBody::default();
    if announced > SMALL_BODY as u64 {
        whole.admit(large, key).await?;
    }
    match timeout(BODY_TIME_MAX, collect(body, &mut whole, large, key)).await {
        Ok(read) => read.map(|()| whole),
        Err(_) => Err(too_slow()),
    }
}

async fn collect<B: Body<Data = Bytes>>(
    body: B,
    whole: &mut WholeBody,
    large: &Admission,
    key: &AccessKeyId,
) -> Result<(), ApiError> {
    let mut body = pin!(body);
    loop {
        let mut rest = body.as_mut();
        let frame = match &whole.room {
            None => rest.frame().await,
            Some(room) => tokio::select! {
                biased;
                frame = rest.frame() => frame,
                () = room.transfer().cut() => return Err(Refused::TooLate.into()),
            },
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| broken("The body of the request could not be read."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = whole.bytes.len() + data.len();
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if length > SMALL_BODY && whole.room.is_none() {
            whole.admit(large, key).await?;
        }
        if let Some(room) = &whole.room {
            room.transfer().moved(data.len());
        }
        whole.bytes.extend_from_slice(&data);
    }
    if let Some(room) = &whole.room {
        room.transfer().stop();
    }
    Ok(())
}

impl WholeBody {
    async fn admit(&mut self, large: &Admission, key: &AccessKeyId) -> Result<(), ApiError> {
        let room = large.admit(key.as_str(), 1).await?;
        room.transfer().start();
        self.room = Some(room);
        Ok(())
    }
}

fn too_large() -> ApiError {
    let message = format!("The body of the request must not exceed {BODY_BYTES_MAX} bytes.");
    ApiError::new(Code::RequestEntityTooLarge, message)
}

fn too_slow() -> ApiError {
    broken("The body of the request did not arrive in time.")
}

fn broken(message: &str) -> ApiError {
    ApiError::new(Code::RequestTimeout, message)
}
