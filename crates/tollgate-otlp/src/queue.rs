//! The spans that wait to be sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::Notify;

/// The most spans that wait; further ones are dropped. Some 5 MB.
pub(crate) const MAX_WAITING: usize = 8_192;
/// The most spans of one request to the collector.
pub(crate) const MAX_BATCH: usize = 512;

const _: () = assert!(MAX_BATCH <= MAX_WAITING, "a batch must be able to wait");

/// The spans that wait to be sent. Adding one never blocks for longer than it takes to add another.
#[derive(Debug, Default)]
pub(crate) struct SpanQueue {
    // Held while a span is moved; by the exporter while a batch is.
    waiting: Mutex<VecDeque<Span>>,
    has_batch: Notify,
    pub(crate) exported: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

impl SpanQueue {
    /// A poisoned lock is fine: a span is either in the queue or not.
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, span: Span) {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            drop(waiting);
            return self.count_dropped(1);
        }
        waiting.push_back(span);
        let is_batch = waiting.len() == MAX_BATCH;
        drop(waiting);
        if is_batch {
            self.has_batch.notify_one();
        }
    }

    /// The next batch; empty if nothing waits.
    pub(crate) fn batch(&self) -> Vec<Span> {
        let mut waiting = self.waiting();
        let most = waiting.len().min(MAX_BATCH);
        waiting.drain(..most).collect()
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
            queue.push(Span::default());
        }
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        let mut taken = 0;
        loop {
            let batch = queue.batch().len();
            taken += batch;
            assert!(batch <= MAX_BATCH);
            if batch == 0 {
                break;
            }
        }
        assert_eq!(taken, MAX_WAITING);
    }
}
