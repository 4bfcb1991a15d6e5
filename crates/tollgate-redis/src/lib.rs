//! Usage in Redis or Valkey, shared by any number of nodes: one atomic script a check, and Redis's own clock.
//!
//! [`RedisStore`] implements [`Store`](tollgate_store::Store). `url` reads where Redis is, `topology` finds the
//! primary that answers for a key (`cluster` and `sentinel` ask who it is), `link` keeps one multiplexed connection to
//! it, and `server_clock` what its clock says; `call` runs one script within its deadline, `errors` says what a
//! refusal means; `key` makes keys, `wire` packs what the scripts of `lua/` are asked and reads
//! what they answer; `check` puts a check together, `refund` gives back what a check charged that was not admitted, and
//! `background` keeps both going when the caller has gone;
//! `announcements` tells every node when usage was given back.
//!
//! `login` and `tls` are how servers are spoken to; `startup` looks at the store at the start by the list of `rights`, and
//! `examiner` tells what only a wrong configuration can cause; `eviction` watches for keys that Redis drops.
//!
//! Invariants: nothing is sent twice unless Redis said that it did not run it; nothing waits in a queue while
//! there is no connection. This crate must not know policies, HTTP, or what happens when a store fails.

mod announcements;
mod background;
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
mod link;
mod login;
mod refund;
mod rights;
mod script;
mod sentinel;
mod server_clock;
mod startup;
mod store;
mod tls;
mod topology;
mod url;
mod wire;

pub use announcements::Announcement;
pub use eviction::Eviction;
pub use examiner::{Misconfiguration, StartProblem};
pub use rights::least_rights;
pub use startup::Warning;
pub use store::{RedisOptions, RedisStore};
pub use url::{RedisUrl, UrlProblem};
#[doc(hidden)]
pub use wire::EntryId;
