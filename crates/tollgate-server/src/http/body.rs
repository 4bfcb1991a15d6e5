//! Reading the body of a request: declared as what is read, within its cap and its time.

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
    declared(request.headers(), &[(JSON, ())])?;
    read(request.into_body(), max_bytes, timeout).await
}

/// `body`, which has at most `max_bytes`.
pub(super) async fn read<B: HttpBody<Data = Bytes>>(
    body: B,
    max_bytes: usize,
    timeout: Duration,
) -> Result<Bytes, Problem> {
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

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

/// What the media type of a body stands for: one of `types`, by name.
pub(super) fn declared<T: Copy>(
    headers: &HeaderMap,
    types: &[(&'static str, T)],
) -> Result<T, Problem> {
    let refused = |problem| {
        let accepted: Vec<_> = types.iter().map(|(name, _)| *name).collect();
        Problem::unsupported_media_type("Content-Type", problem, accepted.join(", "))
    };
    let Some(declared) = headers.get(header::CONTENT_TYPE) else {
        return Err(refused("is missing"));
    };
    let is_it = |(name, _): &&(&str, T)| declared == name || is_of(declared.as_bytes(), name);
    let Some((_, known)) = types.iter().find(is_it) else {
        return Err(refused("is another type"));
    };
    match headers.get(header::CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(
            Problem::unsupported_media_type("Content-Encoding", "is not supported", "no encoding"),
        ),
        _ => Ok(*known),
    }
}

/// Whether `declared` is the media type `name`, in any case and with any parameters.
fn is_of(declared: &[u8], name: &str) -> bool {
    let essence = declared.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
}
