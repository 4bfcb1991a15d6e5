//! The state of the server and its parts, for `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tollgate_store::StoreErrorKind;

/// The state of the parts. Initially nothing is degraded.
#[derive(Debug, Default)]
pub(crate) struct Health {
    draining: watch::Sender<bool>,
    catalog_refused: AtomicBool,
    catalog_unavailable: AtomicBool,
    store_failure: watch::Sender<Option<StoreErrorKind>>,
    store_awaited: AtomicBool,
    store_evicts: AtomicBool,
    snapshots_fail: AtomicBool,
}

// Relaxed throughout: each flag is independent, and no other memory depends on it.
impl Health {
    /// The server is about to end and should get no new work.
    pub(crate) fn set_draining(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the server is about to end.
    pub(crate) fn draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Notified when the server is about to end, so that endless answers (event streams) can end.
    pub(crate) fn subscribe_draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Sets how the store fails, so that checks are decided without it; `None` if it works.
    pub(crate) fn set_store_failure(&self, kind: Option<StoreErrorKind>) {
        self.store_failure.send_replace(kind);
    }

    /// The store has not been reached since the start.
    pub(crate) fn set_store_awaited(&self) {
        self.store_awaited.store(true, Ordering::Relaxed);
    }

    /// The store has answered.
    pub(crate) fn set_store_reached(&self) {
        self.store_awaited.store(false, Ordering::Relaxed);
    }

    /// Whether checks are decided without the store, or would be if there were any.
    pub(crate) fn store_degraded(&self) -> bool {
        self.store_failure().is_some()
    }

    /// Why checks are decided without the store, or would be if there were any.
    pub(crate) fn store_failure(&self) -> Option<StoreErrorKind> {
        let awaited = self.store_awaited.load(Ordering::Relaxed);
        (*self.store_failure.borrow()).or(awaited.then_some(StoreErrorKind::Unavailable))
    }

    /// Sets whether the store evicts keys, and with them usage that counts.
    pub(crate) fn set_store_evicts(&self, evicts: bool) {
        self.store_evicts.store(evicts, Ordering::Relaxed);
    }

    /// Whether the store evicts keys, so that limits admit more than they should.
    pub(crate) fn store_evicts(&self) -> bool {
        self.store_evicts.load(Ordering::Relaxed)
    }

    /// Sets whether the latest snapshot of usage could not be written; returns whether that is new.
    pub(crate) fn set_snapshots_fail(&self, fail: bool) -> bool {
        self.snapshots_fail.swap(fail, Ordering::Relaxed) != fail
    }

    /// Whether the latest snapshot of usage could not be written, so that a restart would lose usage.
    pub(crate) fn snapshots_fail(&self) -> bool {
        self.snapshots_fail.load(Ordering::Relaxed)
    }

    /// Sets whether the database of the catalog is unavailable.
    pub(crate) fn set_catalog_unavailable(&self, unavailable: bool) {
        self.catalog_unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Whether the database of the catalog is unavailable, so that the last known records are used.
    pub(crate) fn catalog_unavailable(&self) -> bool {
        self.catalog_unavailable.load(Ordering::Relaxed)
    }

    /// Sets whether the latest change of the policies was refused.
    pub(crate) fn set_catalog_refused(&self, refused: bool) {
        self.catalog_refused.store(refused, Ordering::Relaxed);
    }

    /// Whether the catalog contains a newer set of policies, which was refused.
    pub(crate) fn catalog_refused(&self) -> bool {
        self.catalog_refused.load(Ordering::Relaxed)
    }
}
