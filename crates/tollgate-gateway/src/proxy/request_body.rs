//! Reads the body of a request, within bounds of size, time and memory.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dialect::denial::Denial;

/// The most time for a body to arrive. It is longer than that of a check, because a body may be much longer.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Memory is counted in blocks of this size.
const BLOCK_BYTES: usize = 4 << 10;

/// The memory for the bodies of all requests that are received or waiting for an upstream.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory {
    blocks: Arc<Semaphore>,
    max_body_bytes: usize,
}

/// A body in memory, which counts until it is dropped.
#[derive(Debug)]
pub(super) struct HeldBody {
    bytes: Bytes,
    _blocks: Option<OwnedSemaphorePermit>,
}

impl HeldBody {
    /// The bytes. They share the memory.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl BodyMemory {
    pub(super) fn new(max_bytes: usize, max_body_bytes: usize) -> Self {
        let blocks = max_bytes.div_ceil(BLOCK_BYTES).min(Semaphore::MAX_PERMITS);
        Self { blocks: Arc::new(Semaphore::new(blocks)), max_body_bytes }
    }

    /// Reads `body` to its end.
    pub(super) async fn read<B>(&self, body: B) -> Result<HeldBody, Denial>
    where
        B: Body<Data = Bytes>,
    {
        if body.size_hint().lower() > self.max_body_bytes as u64 {
            return Err(Denial::TooLarge(self.max_body_bytes));
        }
        let read = tokio::time::timeout(BODY_TIMEOUT, self.collect(body)).await;
        read.unwrap_or(Err(Denial::TooSlow))
    }

    async fn collect<B>(&self, body: B) -> Result<HeldBody, Denial>
    where
        B: Body<Data = Bytes>,
    {
        let mut body = pin!(body);
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        let mut held: Option<OwnedSemaphorePermit> = None;
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let broken = "the body broke off";
            let frame =
                frame.map_err(|_| Denial::Invalid { param: None, message: broken.to_owned() })?;
            let Ok(data) = frame.into_data() else { continue };
            length += data.len();
            if length > self.max_body_bytes {
                return Err(Denial::TooLarge(self.max_body_bytes));
            }
            self.hold(&mut held, length)?;
            // Most bodies arrive in one piece, which is not copied.
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
        let bytes = if all.is_empty() { first } else { all.freeze() };
        Ok(HeldBody { bytes, _blocks: held })
    }

    /// Holds the blocks of `length` bytes in all.
    fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, length: usize) -> Result<(), Denial> {
        let own = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = length.div_ceil(BLOCK_BYTES).saturating_sub(own);
        let missing = u32::try_from(missing).map_err(|_| Denial::NoMemory)?;
        if missing == 0 {
            return Ok(());
        }
        let blocks = Arc::clone(&self.blocks).try_acquire_many_owned(missing);
        let blocks = blocks.map_err(|_| Denial::NoMemory)?;
        match held {
            Some(held) => held.merge(blocks),
            None => *held = Some(blocks),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn in_parts(parts: &[&'static [u8]]) -> impl Body<Data = Bytes, Error = std::io::Error> {
        let frames: Vec<_> =
            parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part)))).collect();
        StreamBody::new(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_and_counts_while_it_is_held() {
        let memory = BodyMemory::new(3 * BLOCK_BYTES, 2 * BLOCK_BYTES);
        let body = memory.read(in_parts(&[b"ab", b"", b"c"])).await.unwrap();
        assert_eq!((body.bytes(), memory.blocks.available_permits()), ("abc".into(), 2));
        let large = Full::new(Bytes::from(vec![0; 2 * BLOCK_BYTES]));
        let large = memory.read(large).await.unwrap();
        let denied = memory.read(in_parts(&[b"a"])).await.unwrap_err();
        assert_eq!(denied, Denial::NoMemory);
        drop((body, large));
        assert_eq!(memory.blocks.available_permits(), 3);
        let empty = memory.read(in_parts(&[])).await.unwrap();
        assert_eq!(empty.bytes(), Bytes::new());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_is_refused() {
        let memory = BodyMemory::new(1 << 20, 4);
        let known = Full::new(Bytes::from_static(b"12345"));
        assert_eq!(memory.read(known).await.unwrap_err(), Denial::TooLarge(4));
        let unknown = in_parts(&[b"123", b"45"]);
        assert_eq!(memory.read(unknown).await.unwrap_err(), Denial::TooLarge(4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_refused() {
        let memory = BodyMemory::new(1 << 20, 4);
        let never = StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, std::io::Error>,
        >());
        let began = tokio::time::Instant::now();
        assert_eq!(memory.read(never).await.unwrap_err(), Denial::TooSlow);
        // The clock is paused, so this is exact. docs/SETTINGS.md and docs/INTEGRATION.md name this time.
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}
