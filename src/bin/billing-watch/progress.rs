//! How far a scan has come, on standard error.

use std::{
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// Between two lines where standard error is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// Draws a second on a terminal.
const DRAWS_A_SECOND: u8 = 10;

/// Shows a bar on a terminal, else a line now and then.
pub(crate) struct Progress {
    /// `None` where nothing is to be said.
    bar: Option<ProgressBar>,
    is_terminal: bool,
    last_line: Instant,
    files: u64,
    bytes: u64,
}

impl Progress {
    /// `total_files` are known beforehand where somebody looks at a bar.
    pub(crate) fn new(quiet: bool, total_files: Option<u64>) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = (!quiet).then(|| {
            let target = if is_terminal {
                ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND)
            } else {
                ProgressDrawTarget::hidden()
            };
            let bar = ProgressBar::with_draw_target(total_files, target);
            let template = "{bar:30} {human_pos}/{human_len} files, {eta} left  {msg}";
            // The template is checked by a test.
            bar.with_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            )
        });
        Self {
            bar,
            is_terminal,
            last_line: Instant::now(),
            files: 0,
            bytes: 0,
        }
    }

    /// Whether a bar is shown, for which a total is worth counting.
    pub(crate) fn is_shown(quiet: bool) -> bool {
        !quiet && std::io::stderr().is_terminal()
    }

    pub(crate) fn add(&mut self, name: &str, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
        let Some(bar) = &self.bar else { return };
        if self.is_terminal {
            bar.set_message(format!("{} {}", HumanBytes(self.bytes), shortened(name)));
            bar.inc(1);
        } else if self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            eprintln!("{} files, {} so far", self.files, HumanBytes(self.bytes));
        }
    }

    /// Says something that must not be lost in a bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) if self.is_terminal => bar.suspend(|| eprintln!("{line}")),
            _ => eprintln!("{line}"),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The end of a name, which tells files apart, without what a terminal would execute.
fn shortened(name: &str) -> String {
    let name = output::without_controls(name).replace('\n', "?");
    let visible: Vec<char> = name.chars().collect();
    let start = visible.len().saturating_sub(40);
    visible[start..].iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_by_its_end_and_without_controls() {
        assert_eq!(shortened("a\u{1b}[31mb"), "a?[31mb");
        assert_eq!(shortened(&"x".repeat(100)).len(), 40);
    }
}
