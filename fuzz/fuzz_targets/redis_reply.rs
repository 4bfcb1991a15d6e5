//! Replies of the scripts: any reply gives either verdicts for the limits of the request, or is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_redis::fuzzing;

fuzz_target!(|input: (u8, &[u8])| {
    let (asked, reply) = input;
    fuzzing::reply(asked, reply);
});
