//! Usage in memcached, shared by any number of nodes: one value per key, which is read, decided on in the core, and stored only if
//! nobody else has stored meanwhile (CAS).
//!
//! [`MemcachedStore`] implements [`Store`](tollgate_store::Store). `url` parses the URL. `link` keeps one multiplexed
//! `connection`, and `protocol` writes commands and parses answers. `key` builds keys. `state` decides over the value of a key,
//! whose admissions are in `log`; `codec` says how it is written. `driver` carries out the operations on a key, one
//! at a time, and `known` keeps what this process knows of keys. `check` assembles a check of several limits;
//! [`compensation`](tollgate_store::compensation) charges and refunds it, and [`background`](tollgate_store::background)
//! continues it after the caller has gone. `announcements` tells every node of usage that was given back. `startup` examines
//! memcached at the start, and `watch` notices evictions and clocks that differ.
//!
//! Invariants: every change is conditional on the value that was decided on, so it is carried out at most once, and none is lost.
//! This crate must not know policies, HTTP, or the failure modes.

mod agreement;
mod announcements;
mod check;
mod codec;
mod connection;
mod driver;
mod errors;
mod key;
mod known;
mod link;
mod log;
mod protocol;
mod startup;
mod state;
mod store;
mod url;
mod watch;

pub use store::{MemcachedOptions, MemcachedStore};
pub use url::{MemcachedUrl, UrlProblem};
pub use watch::Event;
