//! Usage in Redis or Valkey, shared by any number of nodes: one atomic script a check, and Redis's own clock.
//!
//! [`RedisStore`] implements [`Store`](tollgate_store::Store). `url` reads where Redis is, `topology` finds the
//! primary that answers for a key, `link` keeps one multiplexed connection to it; `call`
//! runs one script within its deadline; `key` makes keys, `wire` packs what the scripts of `lua/` are asked and reads
//! what they answer; `check` puts a check together;
//! `announcements` tells every node when usage was given back.
//!
//! Invariants: nothing is sent twice unless Redis said that it did not run it; nothing waits in a queue while
//! there is no connection. This crate must not know policies, HTTP, or what happens when a store fails.

mod announcements;
mod call;
mod check;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod link;
mod script;
mod startup;
mod store;
mod topology;
mod url;
mod wire;

pub use announcements::Announcement;
pub use startup::Warning;
pub use store::{RedisOptions, RedisStore};
pub use url::{RedisUrl, UrlProblem};
