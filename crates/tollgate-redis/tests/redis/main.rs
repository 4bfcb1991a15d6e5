//! The store over real servers: the conformance suite, faults, and announcements between nodes.

#![cfg(test)]

mod conformance;
mod damage;
mod denials;
mod differential;
mod failover;
mod faults;
mod hanging_up;
mod leases;
mod locality;
mod parts;
mod refunds;
mod reported_cases;
mod rights;
mod scaling;
mod sentinels;
mod startup;
mod store_errors;
mod support;
mod versions;
