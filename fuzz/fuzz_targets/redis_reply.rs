//! Replies of the scripts: whatever Redis says, either verdicts that belong to the limits asked about, or none.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_redis::fuzzing;

fuzz_target!(|input: (u8, &[u8])| {
    let (asked, reply) = input;
    fuzzing::reply(asked, reply);
});
