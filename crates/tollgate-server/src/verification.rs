//! `tollgate verify`, with the admin token of `serve`.

use tokio::runtime::Builder;
use tollgate_verify::{TOKEN_VARIABLE, Verified, VerifyArgs, VerifyError, admin_token};

use crate::signals::Signals;

/// Verifies the servers of `args`, until SIGINT or SIGTERM. A second signal ends it at once.
pub(crate) fn run(args: &VerifyArgs) -> Verified {
    let ended = |error| Verified { result: Err(error), failures: Vec::new() };
    let failed = |error| ended(VerifyError::System(error));
    let token = std::env::var_os(TOKEN_VARIABLE).map(admin_token).transpose();
    let token = match token {
        Ok(token) => token,
        Err(error) => return ended(error),
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(error),
    };
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
