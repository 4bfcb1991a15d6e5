//! Whether the server and its parts are well.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// What is known of the parts. By itself all is well.
#[derive(Debug, Default)]
pub(crate) struct Health {
    draining: watch::Sender<bool>,
    catalog_refused: AtomicBool,
    catalog_unavailable: AtomicBool,
    store_degraded: AtomicBool,
    store_awaited: AtomicBool,
    store_evicts: AtomicBool,
}

// Relaxed throughout: each flag is a value by itself, and no other memory is read because of it.
impl Health {
    /// Notes that the server is about to end and should get no new work.
    pub(crate) fn set_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the server is about to end.
    pub(crate) fn draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Told when the server is about to end: for answers that would go on for ever.
    pub(crate) fn subscribe_draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Notes whether the store fails, so that checks are decided without it.
    pub(crate) fn set_store_degraded(&self, degraded: bool) {
        self.store_degraded.store(degraded, Ordering::Relaxed);
    }

    /// Notes that the store has not been reached since the start.
    pub(crate) fn set_store_awaited(&self) {
        self.store_awaited.store(true, Ordering::Relaxed);
    }

    /// Notes that the store has answered.
    pub(crate) fn set_store_reached(&self) {
        self.store_awaited.store(false, Ordering::Relaxed);
    }

    /// Whether checks are decided without the store, or would be if there were any.
    pub(crate) fn store_degraded(&self) -> bool {
        self.store_degraded.load(Ordering::Relaxed) || self.store_awaited.load(Ordering::Relaxed)
    }

    /// Notes whether the store drops keys, and with them usage that counts.
    pub(crate) fn set_store_evicts(&self, evicts: bool) {
        self.store_evicts.store(evicts, Ordering::Relaxed);
    }

    /// Whether the store drops keys, so that limits admit more than they say.
    pub(crate) fn store_evicts(&self) -> bool {
        self.store_evicts.load(Ordering::Relaxed)
    }

    /// Notes whether the database of the catalog does not answer.
    pub(crate) fn set_catalog_unavailable(&self, unavailable: bool) {
        self.catalog_unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Whether the database of the catalog does not answer, so that the last known answers stand.
    pub(crate) fn catalog_unavailable(&self) -> bool {
        self.catalog_unavailable.load(Ordering::Relaxed)
    }

    /// Notes whether the latest change of the policies was refused.
    pub(crate) fn set_catalog_refused(&self, refused: bool) {
        self.catalog_refused.store(refused, Ordering::Relaxed);
    }

    /// Whether the policies in force are older than what the catalog holds, which was refused.
    pub(crate) fn catalog_refused(&self) -> bool {
        self.catalog_refused.load(Ordering::Relaxed)
    }
}
