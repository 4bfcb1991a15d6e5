//! Work that continues after its caller has gone: calls until their deadline, and refunds.
//!
//! A store over a network has one [`Background`]. It counts what runs, so that a shutdown can wait for it. It must not know what runs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::Notify;

/// The most charges that may wait for a refund or a late answer at a time. Further ones are counted as left in the
/// store.
pub const MAX_WAITING: usize = 4_096;

/// The background work of one store.
#[derive(Debug, Default)]
pub struct Background {
    running: AtomicUsize,
    waiting: AtomicUsize,
    ended: Notify,
}

// Counting can be relaxed, because no other memory depends on the counts. `ended` orders what waits for them.
impl Background {
    /// Counts a running task until the returned value is dropped.
    pub fn begin(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running { background: Arc::clone(self), waits: false }
    }

    /// The same for a charge that waits; `None` if too many already do.
    pub fn begin_waiting(self: &Arc<Self>) -> Option<Running> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut running = self.begin();
        running.waits = true;
        (waiting < MAX_WAITING).then_some(running)
    }

    /// Waits until no task runs.
    pub async fn finish(&self) {
        loop {
            let ended = self.ended.notified();
            if self.running.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A running task.
#[derive(Debug)]
pub struct Running {
    background: Arc<Background>,
    waits: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.waits {
            self.background.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        // Release: a thread that sees no running task also sees what the tasks did.
        if self.background.running.fetch_sub(1, Ordering::Release) == 1 {
            self.background.ended.notify_waiters();
        }
    }
}

/// A call that continues in its own task if its caller drops it. While the caller waits, it costs one allocation and no
/// task.
pub struct Outliving<T: 'static> {
    call: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    has_begun: bool,
    background: Arc<Background>,
}

impl<T: Send + 'static> Outliving<T> {
    /// Runs `call` while it is polled, and in a task of `background` from when it is dropped. A call that was never polled is
    /// dropped with it.
    pub fn new(
        background: &Arc<Background>,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { call: Some(Box::pin(call)), has_begun: false, background: Arc::clone(background) }
    }
}

impl<T: Send + 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.has_begun = true;
        let Some(call) = &mut self.call else { return Poll::Pending };
        let polled = call.as_mut().poll(context);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl<T: 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        let Some(call) = self.call.take().filter(|_| self.has_begun) else { return };
        // Without a runtime, the call cannot continue.
        if let Ok(runtime) = Handle::try_current() {
            let running = self.background.begin();
            // The task drops the answer inside the poll, because it must not hold it across an await.
            let call = Discarding(call);
            runtime.spawn(async move {
                call.await;
                drop(running);
            });
        }
    }
}

/// A call whose answer nobody waits for; it drops the answer.
struct Discarding<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Future for Discarding<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// If the caller disconnects, the call continues; `finish` waits for it.
    #[tokio::test(start_paused = true)]
    async fn a_call_outlives_its_caller() {
        let background = Arc::new(Background::default());
        let ended = Arc::new(AtomicUsize::new(0));
        let call = || {
            let ended = Arc::clone(&ended);
            Outliving::new(&background, async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                ended.fetch_add(1, Ordering::SeqCst);
            })
        };
        drop(call());
        background.finish().await;
        assert_eq!(ended.load(Ordering::SeqCst), 0, "a call that never began");
        call().await;
        assert_eq!(ended.load(Ordering::SeqCst), 1);
        let hung_up = tokio::time::timeout(Duration::from_millis(30), call()).await;
        assert!(hung_up.is_err());
        background.finish().await;
        assert_eq!(ended.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_waits_is_bounded() {
        let background = Arc::new(Background::default());
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| background.begin_waiting()).collect();
        assert!(waiting.iter().all(Option::is_some));
        assert!(background.begin_waiting().is_none());
        drop(waiting);
        assert!(background.begin_waiting().is_some());
    }
}
