//! Leases in Redis (R13–R16): an admitted check that is kept as a record beside its limits.
//!
//! `id` draws the names of leases, `record` is what Redis keeps of one, `reserve` makes one, and `update` extends, settles or
//! releases it. `live` lists those that are alive. `requests` packs what the scripts `reserve.lua` and `update_lease.lua` get, and reads their answers.
//!
//! In a Cluster, a lease has a record in each slot of its limits. The first is the one that decides between updates: the others
//! follow it, in the same order for everybody, and an update that was cut off is completed by whoever sends it again.

mod id;
mod live;
mod record;
mod requests;
mod reserve;
mod update;
