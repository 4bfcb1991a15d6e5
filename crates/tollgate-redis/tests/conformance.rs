//! The store passes the conformance suite over a real Redis, in virtual time and in Redis's own.

mod common;

use common::{OnCluster, OnServer, RedisClock};
use tollgate_testkit::conformance;

mod server {
    use super::*;

    conformance!(OnServer: contract, isolation, time, changes);
}

mod redis_clock {
    use super::*;

    conformance!(RedisClock: contract, concurrency);
}

mod cluster {
    use super::*;

    conformance!(OnCluster: contract, isolation, concurrency);
}
