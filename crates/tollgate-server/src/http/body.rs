//! Reading the body of a request: declared as JSON, within its cap and its time.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Request, header};
use bytes::BytesMut;
use http_body_util::BodyExt;

use super::problem::Problem;

/// The body of `request`, which is declared as JSON and has at most `max_bytes`.
pub(super) async fn read_json<B: HttpBody<Data = Bytes>>(
    request: Request<B>,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
    require_json(request.headers())?;
    let body = request.into_body();
    if body.size_hint().lower() > max_bytes as u64 {
        return Err(Problem::body_too_large(max_bytes));
    }
    let mut reading = pin!(collect(body, max_bytes));
    // A small body has mostly come with its headers: then no timer is needed.
    if let Poll::Ready(read) = poll_once(reading.as_mut()).await {
        return read;
    }
    let in_time = tokio::time::timeout(timeout, reading).await;
    in_time.unwrap_or_else(|_| Err(Problem::body_timeout(timeout.as_millis())))
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

async fn collect<B>(body: B, max_bytes: usize) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut whole = Bytes::new();
    let mut parts = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::broken_body())?.into_data() else { continue };
        if whole.len() + parts.len() + data.len() > max_bytes {
            return Err(Problem::body_too_large(max_bytes));
        }
        if whole.is_empty() && parts.is_empty() {
            // The only part of most bodies: not copied.
            whole = data;
        } else {
            parts.extend_from_slice(&std::mem::take(&mut whole));
            parts.extend_from_slice(&data);
        }
    }
    Ok(if parts.is_empty() { whole } else { parts.freeze() })
}

const ACCEPTED_TYPE: &str = "application/json";

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |problem| Problem::unsupported_media_type("Content-Type", problem, ACCEPTED_TYPE);
    let Some(declared) = headers.get(header::CONTENT_TYPE) else {
        return Err(refused("is missing"));
    };
    if declared != ACCEPTED_TYPE && !is_json(declared.as_bytes()) {
        return Err(refused("is another type"));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(
            Problem::unsupported_media_type("Content-Encoding", "is not supported", "no encoding"),
        ),
        _ => Ok(()),
    }
}

/// Whether `declared` is `application/json`, in any case and with any parameters.
fn is_json(declared: &[u8]) -> bool {
    let essence = declared.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(ACCEPTED_TYPE.as_bytes())
}
