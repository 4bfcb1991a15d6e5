//! The store over real servers: the conformance suite, faults, and what nodes tell each other.

#![cfg(test)]

mod conformance;
mod denials;
mod failover;
mod faults;
mod rights;
mod startup;
mod support;
mod versions;
