//! `tollgate verify`, with the admin token of `serve`.

use tokio::runtime::Builder;
use tollgate_verify::{Verified, VerifyArgs, VerifyError};

use crate::signals::Signals;

/// Verifies the servers of `args`, until SIGINT or SIGTERM. A second signal ends it at once.
pub(crate) fn run(args: &VerifyArgs) -> Verified {
    let failed = |error| Verified { result: Err(VerifyError::System(error)), failures: Vec::new() };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
    let token = std::env::var("TOLLGATE_ADMIN_TOKEN").ok();
    let verified = runtime.block_on(async {
        let mut signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => return failed(error),
        };
        let interrupted = async || {
            signals.next().await;
        };
        tollgate_verify::run(args, token.as_deref(), interrupted).await
    });
    // Do not wait for a name that is being resolved.
    runtime.shutdown_background();
    verified
}
