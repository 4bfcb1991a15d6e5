//! Reads the body of a request: checks the declared type, and bounds its size, its time and the memory for all bodies.

use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::pin::{Pin, pin};
use std::task::Poll;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Request, header};

use super::problem::Problem;
use crate::app::BodyBounds;
use crate::config::UNFINISHED_BYTES;
use crate::net::{HeldMemory, MemoryFull};

/// A complete body. Its memory is held until it is dropped, together with the request.
#[derive(Debug)]
pub(super) struct WholeBody {
    bytes: Bytes,
    _held: Option<HeldMemory>,
}

impl Deref for WholeBody {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

/// The body of `request`, which must be declared as JSON.
pub(super) async fn read_json<B: HttpBody<Data = Bytes>>(
    request: Request<B>,
    bounds: BodyBounds<'_>,
) -> Result<WholeBody, Problem> {
    declared(request.headers(), &[(JSON, ())])?;
    read(request.into_body(), bounds).await
}

/// `body`, within `bounds`.
pub(super) async fn read<B: HttpBody<Data = Bytes>>(
    body: B,
    bounds: BodyBounds<'_>,
) -> Result<WholeBody, Problem> {
    if body.size_hint().lower() > bounds.max_bytes as u64 {
        return Err(Problem::body_too_large(bounds.max_bytes));
    }
    let mut reading = pin!(collect(body, bounds));
    // A small body has usually arrived with its headers; then no timer is needed.
    if let Poll::Ready(read) = poll_once(reading.as_mut()).await {
        return read;
    }
    let in_time = tokio::time::timeout(bounds.timeout, reading).await;
    in_time.unwrap_or_else(|_| Err(Problem::body_timeout(bounds.timeout.as_millis())))
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}

async fn collect<B>(body: B, bounds: BodyBounds<'_>) -> Result<WholeBody, Problem>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut parts = Parts::of(bounds);
    loop {
        let polled = poll_fn(|context| Poll::Ready(body.as_mut().poll_frame(context))).await;
        let frame = match polled {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                parts.wait()?;
                poll_fn(|context| body.as_mut().poll_frame(context)).await
            }
        };
        let Some(frame) = frame else { return Ok(parts.into_whole()) };
        if let Ok(data) = frame.map_err(|_| Problem::broken_body())?.into_data() {
            parts.add(data)?;
        }
    }
}

/// The parts of a body that have arrived.
struct Parts<'a> {
    /// The only part of most bodies, which is not copied. Several parts are copied to the held memory.
    first: Bytes,
    bytes: usize,
    held: Option<HeldMemory>,
    bounds: BodyBounds<'a>,
}

impl<'a> Parts<'a> {
    fn of(bounds: BodyBounds<'a>) -> Self {
        Self { first: Bytes::new(), bytes: 0, held: None, bounds }
    }

    /// Moves the parts into held memory, which counts while the rest is awaited.
    fn wait(&mut self) -> Result<(), Problem> {
        let memory = self.bounds.memory;
        let held = self.held.get_or_insert_with(|| memory.part());
        // Counts what is stored, not what is announced.
        let grown = held.grow_to(self.first.len() + UNFINISHED_BYTES);
        grown.map_err(|MemoryFull| Problem::too_many_unfinished())
    }

    fn add(&mut self, data: Bytes) -> Result<(), Problem> {
        let before = self.bytes;
        self.bytes = before.saturating_add(data.len());
        if self.bytes > self.bounds.max_bytes {
            return Err(Problem::body_too_large(self.bounds.max_bytes));
        }
        if before == 0 {
            self.first = data;
            return Ok(());
        }
        let memory = self.bounds.memory;
        let held = self.held.get_or_insert_with(|| memory.part());
        let first = std::mem::take(&mut self.first);
        let kept = held.keep(&first).and_then(|()| held.keep(&data));
        kept.map_err(|MemoryFull| Problem::too_many_unfinished())
    }

    fn into_whole(mut self) -> WholeBody {
        let kept = self.held.as_mut().and_then(HeldMemory::take_kept);
        WholeBody { bytes: kept.unwrap_or(self.first), _held: self.held }
    }
}

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";

/// The declared type of a body: one of `types`, by name. A name such as `+yaml` stands for every media type with this
/// suffix (RFC 6839).
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
    let is_it = |(name, _): &&(&str, T)| {
        declared == name && !name.starts_with('+') || is_of(declared.as_bytes(), name)
    };
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

/// Whether `declared` is the media type `name`, ignoring case and parameters.
fn is_of(declared: &[u8], name: &str) -> bool {
    let essence = declared.split(|byte| *byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    if !name.starts_with('+') {
        return essence.eq_ignore_ascii_case(name.as_bytes());
    }
    essence
        .len()
        .checked_sub(name.len())
        .and_then(|start| essence.split_at_checked(start))
        .is_some_and(|(before, suffix)| {
            before.contains(&b'/') && suffix.eq_ignore_ascii_case(name.as_bytes())
        })
}
