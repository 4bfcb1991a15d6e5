//! Errors of calls: what is wrong, where, and what is accepted.

use std::fmt;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

/// The problems of a request, one for each field.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<String>);

/// The most problems that are listed.
const MAX_LISTED: usize = 16;

impl Problems {
    /// Adds a problem of `field`.
    pub(crate) fn add(
        &mut self,
        field: &dyn fmt::Display,
        problem: &dyn fmt::Display,
        accepted: &str,
    ) {
        if self.0.len() < MAX_LISTED {
            self.0.push(format!("{field} {problem}; accepted: {accepted}"));
        }
    }

    /// How many there are, of those that are listed.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// `value`, if there is no problem.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Status> {
        if self.0.is_empty() { Ok(value) } else { Err(self.into_status()) }
    }

    /// `INVALID_ARGUMENT` with all of them.
    pub(crate) fn into_status(self) -> Status {
        Status::invalid_argument(self.0.join("\n"))
    }
}

/// No decision was possible.
pub(crate) fn store_unavailable() -> Status {
    Status::unavailable("no decision was possible: the store is unavailable; try again")
}

/// The store keeps no leases.
pub(crate) fn no_leases() -> Status {
    Status::unimplemented("the store of this server keeps no leases; checks work as usual")
}

/// No service is called so.
pub(crate) fn no_service(names: &[&str]) -> Status {
    Status::unimplemented(format!("no service is called so; accepted: {}", names.join(", ")))
}

/// `answer`; if tonic refused the request itself, with a message that says what is accepted. `setting` sets the bound `longest`, in
/// bytes.
pub(crate) fn explained(answer: Response<Body>, longest: usize, setting: &str) -> Response<Body> {
    // Only an answer without a message has its status in the head.
    let Some(code) = answer.headers().get("grpc-status") else { return answer };
    match Code::from_bytes(code.as_bytes()) {
        Code::OutOfRange => Status::out_of_range(format!(
            "the message is too long; accepted: at most {longest} bytes ({setting} sets the bound)"
        ))
        .into_http(),
        Code::Unimplemented if !answer.headers().contains_key("grpc-message") => {
            Status::unimplemented(
                "the service has no such call; accepted: the calls that `grpc.reflection` lists",
            )
            .into_http()
        }
        _ => answer,
    }
}
