//! What the fuzz targets of `fuzz/` call. Compiled only for them, with `--cfg fuzzing`: no part of what the crate offers.

use axum::response::IntoResponse as _;
use tollgate_core::Check;

use super::problem::Problem;
use super::request::CheckRequest;

/// Reads the body of a check and shows it to `judge`; the status of the refusal otherwise.
pub fn check(body: &[u8], judge: impl FnOnce(&Check<'_>)) -> Result<(), u16> {
    let request = CheckRequest::parse(body).map_err(status)?;
    judge(&request.check());
    Ok(())
}

/// Reads the body of a batch and shows each of its checks to `judge`; the status of the refusal otherwise.
pub fn batch(body: &[u8], mut judge: impl FnMut(&Check<'_>)) -> Result<(), u16> {
    let requests = CheckRequest::parse_batch(body).map_err(status)?;
    for request in &requests {
        judge(&request.check());
    }
    Ok(())
}

fn status(problem: Problem) -> u16 {
    problem.into_response().status().as_u16()
}
