//! Usage in Redis or Valkey, shared by any number of nodes, with one atomic script per check and Redis's own clock.
//!
//! [`RedisStore`] implements [`Store`](tollgate_store::Store). `url` parses the URL of Redis. `topology` finds the
//! primary that owns a key, with the help of `cluster` and `sentinel`. `link` keeps one multiplexed connection to it,
//! and `server_clock` estimates its clock. `call` runs one script within its deadline, and `errors` classifies
//! refusals. `key` builds keys; `wire` encodes the requests to the scripts of `lua/` and decodes their answers. `check`
//! assembles a check, and `combiner` sends many checks in one call. `announcements` notifies every node of usage that was
//! given back. `settle` changes what an admission was charged. `lease` keeps leases. `spread_check` says how a check in several slots is charged and refunded;
//! [`compensation`](tollgate_store::compensation) does it, and [`background`](tollgate_store::background) continues it
//! after the caller has gone.
//!
//! `login` and `tls` connect to servers. `startup` examines the store at the start, with the list in `rights`, and
//! `examiner` finds what only a wrong configuration can cause. `eviction` detects that Redis evicts keys.
//!
//! Invariants: nothing is sent twice unless Redis said that it did not run it; nothing is queued while there is no
//! connection. This crate must not know policies, HTTP, or the failure modes.

mod agreement;
mod announcements;
mod call;
mod check;
mod cluster;
mod combiner;
mod errors;
mod eviction;
mod examiner;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hello;
mod key;
mod lease;
mod link;
mod login;
mod parts;
mod rights;
mod script;
mod sentinel;
mod server_clock;
mod settle;
mod spread_check;
mod startup;
mod store;
mod tls;
mod topology;
mod url;
mod wire;

pub use announcements::Announcement;
pub use eviction::Eviction;
pub use rights::least_rights;
pub use store::{RedisOptions, RedisStore};
#[doc(no_inline)]
pub use tollgate_store::{Misconfiguration, StartProblem, Warning};
pub use url::{RedisUrl, UrlProblem};
#[doc(hidden)]
pub use wire::EntryId;
