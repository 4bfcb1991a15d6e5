//! Several `tollgate serve` processes over real Redis servers: exact together, and harmless when Redis fails.

#![cfg(test)]

mod bad_input;
mod exact;
mod failure_modes;
mod outage;
mod support;
