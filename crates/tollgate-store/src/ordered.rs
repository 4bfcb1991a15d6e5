//! Calls to a store that must be decided in the order in which they begin.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static IS_ORDERED: Cell<bool> = const { Cell::new(false) };
}

/// Runs calls that must be decided in the order in which they begin. Some stores have calls that can overtake each
/// other, for example on a new connection or while a server loads a script; they send `Ordered` calls so that this
/// cannot happen. Only a store that [keeps order](crate::Store::keeps_order) does so.
#[derive(Debug)]
pub struct Ordered<F>(Pin<Box<F>>);

impl<F: Future> Ordered<F> {
    /// `calls`, in order. Makes one allocation.
    pub fn new(calls: F) -> Self {
        Self(Box::pin(calls))
    }
}

impl<F: Future> Future for Ordered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let before = IS_ORDERED.replace(true);
        let polled = self.0.as_mut().poll(context);
        IS_ORDERED.set(before);
        polled
    }
}

/// Whether the call that begins now is one of [`Ordered`] calls.
pub fn is_ordered() -> bool {
    IS_ORDERED.get()
}
