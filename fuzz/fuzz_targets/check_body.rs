//! Bodies of checks and batches: any bytes give either a check or a problem with a status of 400 to 422.
//!
//! An accepted body must be JSON, with the user and the model that a plain JSON parser finds in it, if there are any.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tollgate_core::subject::check_id;
use tollgate_core::{Attribute, Check};
use tollgate_server::fuzzing;

fuzz_target!(|body: &[u8]| {
    match fuzzing::check(body, |check| judge(check, &json(body))) {
        Ok(()) => {}
        Err(status) => assert!((400..=422).contains(&status), "{status}"),
    }
    let mut checks = 0;
    let batch = fuzzing::batch(body, |check| {
        judge(check, &json(body)["checks"][checks]);
        checks += 1;
    });
    if let Err(status) = batch {
        assert!((400..=422).contains(&status), "{status}");
    }
});

fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).expect("what is accepted is JSON")
}

fn judge(check: &Check<'_>, body: &Value) {
    for (attribute, member) in [(Attribute::User, "userId"), (Attribute::Model, "modelId")] {
        let value = check.subject.get(&attribute);
        assert_eq!(value, body[member].as_str(), "{member}");
        // A check may lack either (R20).
        assert!(value.is_none_or(|id| check_id(id).is_ok()), "{member}");
    }
    let request_id = body["requestId"].as_str();
    assert_eq!(check.request_id, request_id);
}
