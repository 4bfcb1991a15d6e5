//! The spans that wait to be sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::encoded_span::put_bytes;

/// The most spans that wait; further ones are dropped. Some 5 MB.
pub(crate) const MAX_WAITING: usize = 8_192;
/// The most spans of one request to the collector.
pub(crate) const MAX_BATCH: usize = 512;

const _: () = assert!(MAX_BATCH <= MAX_WAITING, "a batch must be able to wait");

/// Spans that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The field `spans` of the message `ScopeSpans`, once for each.
    pub(crate) bytes: Vec<u8>,
    pub(crate) spans: usize,
}

/// The number of that field.
const SPANS: u32 = 2;

/// The spans that wait to be sent. Adding one never blocks for longer than it takes to add another.
#[derive(Debug, Default)]
pub(crate) struct SpanQueue {
    // Held while a span is copied; by the exporter while a batch is moved.
    waiting: Mutex<Waiting>,
    has_batch: Notify,
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    spans: usize,
}

impl SpanQueue {
    /// A poisoned lock is fine: nothing panics while it is held.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the message of a span.
    pub(crate) fn push(&self, span: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.spans >= MAX_WAITING {
            drop(waiting);
            return self.count_dropped(1);
        }
        waiting.spans += 1;
        if waiting.batches.back().is_none_or(|batch| batch.spans >= MAX_BATCH) {
            waiting.batches.push_back(Batch::default());
        }
        let Some(batch) = waiting.batches.back_mut() else { return };
        put_bytes(SPANS, span, &mut batch.bytes);
        batch.spans += 1;
        let is_whole = batch.spans == MAX_BATCH;
        drop(waiting);
        if is_whole {
            self.has_batch.notify_one();
        }
    }

    /// The next batch; `None` if nothing waits.
    pub(crate) fn batch(&self) -> Option<Batch> {
        let mut waiting = self.waiting();
        let batch = waiting.batches.pop_front()?;
        waiting.spans -= batch.spans;
        Some(batch)
    }

    /// Waits until a whole batch has gathered.
    pub(crate) async fn has_batch(&self) {
        self.has_batch.notified().await;
    }

    // Relaxed: only counts.
    pub(crate) fn count_dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn count_exported(&self, spans: u64) {
        self.exported.fetch_add(spans, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let queue = SpanQueue::default();
        for _ in 0..MAX_WAITING + 3 {
            queue.push(b"span");
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let mut taken = 0;
        while let Some(batch) = queue.batch() {
            taken += batch.spans;
            assert!(batch.spans <= MAX_BATCH);
            // A tag and a length, and then the span.
            assert_eq!(batch.bytes.len(), batch.spans * 6);
        }
        assert_eq!(taken, MAX_WAITING);
    }
}
