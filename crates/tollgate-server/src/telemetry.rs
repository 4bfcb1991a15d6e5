//! The log.
//!
//! No event contains an id, a key or an address of a check, at any level: nothing about such a request is logged. For
//! admin calls, the log says who reset whose usage, and from which address a wrong token came; it never contains a
//! token or an API key. Other crates log only warnings, because HTTP/2's trace shows whole frames.

use std::error::Error;
use std::io;

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::config::LogFormat;

/// Starts logging to standard error, for the whole process. Does nothing if a logger is already set.
pub(crate) fn start(format: LogFormat, level: Level) {
    let own = LevelFilter::from_level(level);
    let targets = Targets::new()
        // The prefix of the names of all crates of the project.
        .with_target("tollgate", own)
        .with_default(own.min(LevelFilter::WARN));
    let lines = fmt::layer().with_writer(io::stderr);
    let _already_started = match format {
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter(targets);
            tracing::subscriber::set_global_default(registry().with(lines))
        }
        LogFormat::Text => {
            let colours = io::IsTerminal::is_terminal(&io::stderr());
            let lines = lines.with_ansi(colours).with_filter(targets);
            tracing::subscriber::set_global_default(registry().with(lines))
        }
    };
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
