//! Telemetry of a running server: made from its configuration, sent by a task, and ended after the last answer.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tollgate_otlp::{DatabaseName, MetricsSource, Otlp};

use crate::app::{App, Backend};
use crate::config::ServeConfig;
use crate::start_error::StartError;

/// The version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Traces and metrics as `config` says; `None` if nothing is sent.
pub(crate) fn configured(config: &ServeConfig) -> Result<Option<Arc<Otlp>>, StartError> {
    let Some(config) = &config.otlp else { return Ok(None) };
    Otlp::new(config.clone(), VERSION).map(Some).map_err(StartError::Otlp)
}

/// The task that sends traces and metrics, if there is one.
pub(crate) struct Exporting {
    stops: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Exporting {
    pub(crate) fn begin<S: Backend>(app: &Arc<App<S>>) -> Self {
        let (stops, stopped) = watch::channel(false);
        let task = app.otlp.clone().map(|otlp| {
            let app = Arc::clone(app);
            let metrics: MetricsSource = Box::new(move || app.metrics_text().ok());
            tokio::spawn(async move { otlp.run(metrics, stopped).await })
        });
        Self { stops, task }
    }

    /// Sends what is left, within a bounded time.
    pub(crate) async fn end(self) {
        self.stops.send_replace(true);
        if let Some(task) = self.task {
            // An error means that it panicked, which was reported.
            _ = task.await;
        }
    }
}

/// What spans call the database of a networked store, whose commands write and read; `None` if there are no spans.
pub(crate) fn database(
    config: &ServeConfig,
    system: &'static str,
    [writes, reads]: [&'static str; 2],
    server: Option<(&str, u16)>,
) -> Option<DatabaseName> {
    config.otlp.as_ref()?;
    let address = server.map(|(host, port)| (host.to_owned(), port));
    Some(DatabaseName { system, writes, reads, address })
}
