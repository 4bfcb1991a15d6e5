//! The entry points of the fuzz targets of `fuzz/`. Compiled only with `--cfg fuzzing`; not part of the crate's
//! interface.

use axum::response::IntoResponse as _;
use tollgate_core::Check;

use super::problem::Problem;
use super::request::CheckRequest;

/// Parses the body of a check and passes it to `judge`; returns the status if it is refused.
pub fn check(body: &[u8], judge: impl FnOnce(&Check<'_>)) -> Result<(), u16> {
    let request = CheckRequest::parse(body, None).map_err(status)?;
    judge(&request.check());
    Ok(())
}

/// Parses the body of a batch and passes each check to `judge`; returns the status if it is refused.
pub fn batch(body: &[u8], mut judge: impl FnMut(&Check<'_>)) -> Result<(), u16> {
    let requests = CheckRequest::parse_batch(body, None).map_err(status)?;
    for request in &requests {
        judge(&request.check());
    }
    Ok(())
}

fn status(problem: Problem) -> u16 {
    problem.into_response().status().as_u16()
}
