//! The store over real servers: the conformance suite, faults, many nodes.

#![cfg(test)]

mod conformance;
mod denials;
mod faults;
mod nodes;
mod startup;
mod support;
