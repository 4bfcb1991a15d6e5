//! A progress bar on the terminal; nothing is shown if standard error is not a terminal.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// The progress of the replay; cleared when dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    checks: u64,
}

/// Updating the terminal costs more than a check.
const CHECKS_PER_LOOK: u64 = 1 << 12;

const TEMPLATE: &str = "{bar:40} {percent:>3} %  {bytes} of {total_bytes}, {eta} left";

impl Progress {
    /// A bar for a trace of `total_bytes`, or a counter if the length is not known.
    pub(crate) fn new(total_bytes: Option<u64>) -> Self {
        let bar = match total_bytes {
            _ if !stderr().is_terminal() => ProgressBar::hidden(),
            Some(total_bytes) => ProgressBar::new(total_bytes).with_style(
                ProgressStyle::with_template(TEMPLATE)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
            None => ProgressBar::new_spinner(),
        };
        Self { bar, checks: 0 }
    }

    /// Counts a check; `bytes_read` of the trace were read so far.
    pub(crate) fn add_check(&mut self, bytes_read: u64) {
        self.checks += 1;
        if self.checks.is_multiple_of(CHECKS_PER_LOOK) {
            self.bar.set_position(bytes_read);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
