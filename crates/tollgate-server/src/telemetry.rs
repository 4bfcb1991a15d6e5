//! The log.
//!
//! No event contains an id, a key or an address of a check, at any level: nothing about such a request is logged. For
//! admin calls, the log says who reset whose usage, and from which address a wrong token came; it never contains a
//! token or an API key. Other crates log only warnings, because HTTP/2's trace shows whole frames.

use std::error::Error;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::LogFormat;

/// Starts logging to standard error, for the whole process. Does nothing if a logger is already set.
pub(crate) fn start(format: LogFormat, level: Level) {
    let own = LevelFilter::from_level(level);
    let targets = Targets::new()
        // The prefix of the names of all crates of the project.
        .with_target("tollgate", own)
        // It warns of each connection that a client breaks, so a client could fill the log.
        .with_target("h2", own.min(LevelFilter::ERROR))
        .with_default(own.min(LevelFilter::WARN));
    let lines = fmt::layer().with_writer(io::stderr);
    let _already_started = match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            let lines = lines.map_event_format(|lines| WithTraceId { lines, format });
            let lines = lines.with_filter(targets);
            tracing::subscriber::set_global_default(registry().with(lines))
        }
        LogFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            let lines = lines.with_ansi(colours);
            let lines = lines.map_event_format(|lines| WithTraceId { lines, format });
            let lines = lines.with_filter(targets);
            tracing::subscriber::set_global_default(registry().with(lines))
        }
    };
}

/// Adds `trace_id` to the lines that are written while a request is answered that is traced.
struct WithTraceId<F> {
    lines: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for WithTraceId<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(trace_id) = tollgate_otlp::current_trace_id() else {
            return self.lines.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.lines.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match (self.format, line.strip_suffix('}')) {
            (LogFormat::Json, Some(members)) => {
                writeln!(writer, r#"{members},"trace_id":"{trace_id}"}}"#)
            }
            _ => writeln!(writer, "{line} trace_id={trace_id}"),
        }
    }
}

/// An error with all its causes, on one line: JSON lines would show only the error itself.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use axum::http::HeaderMap;
    use serde_json::Value;
    use tollgate_otlp::{InTrace, Otlp, OtlpConfig, Sampling, ServerSpan};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A line outside a trace, and one within the trace of a caller.
    async fn lines(format: LogFormat) -> Vec<String> {
        let written = Lines::default();
        let writer = written.clone();
        let lines = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let _logging = match format {
            LogFormat::Json => {
                let lines = lines.json().flatten_event(true);
                let lines = lines.map_event_format(|lines| WithTraceId { lines, format });
                tracing::subscriber::set_default(registry().with(lines))
            }
            LogFormat::Text => {
                let lines = lines.map_event_format(|lines| WithTraceId { lines, format });
                tracing::subscriber::set_default(registry().with(lines))
            }
        };
        let mut config = OtlpConfig::new("http://127.0.0.1:1".parse().unwrap());
        config.traces = Some(Sampling::default());
        let otlp = Otlp::new(config, "1").unwrap();
        let mut headers = HeaderMap::new();
        let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert("traceparent", caller.parse().unwrap());
        let trace = otlp.begin(&headers, || ServerSpan::http("POST", None, "1.1"));
        tracing::info!("outside");
        InTrace::new(trace, async { tracing::info!(key = "}", "within") }).await;
        let written = written.0.lock().unwrap().clone();
        String::from_utf8(written).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_line_has_the_trace_within_which_it_is_written() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let json: Vec<Value> = lines(LogFormat::Json)
            .await
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&json[0]["message"], &json[0]["trace_id"]), (&"outside".into(), &Value::Null));
        assert_eq!((&json[1]["message"], &json[1]["trace_id"]), (&"within".into(), &ID.into()));
        let text = lines(LogFormat::Text).await;
        assert!(!text[0].contains("trace_id"), "{text:?}");
        assert!(text[1].ends_with(&format!(" trace_id={ID}")), "{text:?}");
    }
}
