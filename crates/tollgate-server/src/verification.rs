//! `tollgate verify`, with the admin token of `serve`.

use tokio::runtime::Builder;
use tollgate_verify::{Report, VerifyArgs, VerifyError};

use crate::signals::Signals;

/// Verifies the servers of `args`, until SIGINT or SIGTERM.
pub(crate) fn run(args: &VerifyArgs) -> Result<Report, VerifyError> {
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(VerifyError::System)?;
    let token = std::env::var("TOLLGATE_ADMIN_TOKEN").ok();
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(VerifyError::System)?;
        let interrupted = async {
            signals.next().await;
        };
        tollgate_verify::run(args, token.as_deref(), interrupted).await
    })
}
