//! A call that is finished once it has begun, whether or not somebody waits for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// A call to the store. If it is dropped before it is complete, the rest of it runs as a task, and what it returns is dropped
/// there.
pub(super) struct RunsToEnd<T: Send + 'static> {
    call: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Handle,
}

impl<T: Send + 'static> RunsToEnd<T> {
    pub(super) fn new(runtime: &Handle, call: impl Future<Output = T> + Send + 'static) -> Self {
        Self { call: Some(Box::pin(call)), runtime: runtime.clone() }
    }
}

impl<T: Send + 'static> Future for RunsToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(call) = &mut self.call else { return Poll::Pending };
        let polled = call.as_mut().poll(context);
        if polled.is_ready() {
            self.call = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for RunsToEnd<T> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.runtime.spawn(async move { drop(call.await) });
        }
    }
}
