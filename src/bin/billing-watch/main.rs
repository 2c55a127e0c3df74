//! `billing-watch`, the command line: looks back over CloudTrail's log files, and helps to write rules.
//!
//! Data goes to standard output, everything else to standard error. [`Status`] has the exit statuses.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line speaks through them"
)]

mod archive;
mod arguments;
mod backfill;
mod collection;
mod coverage;
mod engine;
mod inputs;
mod output;
mod plot;
mod preview;
mod progress;
mod report;
mod result;
mod resume;
mod rule_commands;
mod s3;
mod scan;
mod selection;
mod sheet;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use arguments::{Arguments, Command};

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    /// All done.
    Done = 0,
    /// There are findings of the level of `--fail-on`, or `rules check` has found something.
    Findings = 1,
    /// The rules can't be loaded.
    Rules = 2,
    /// The arguments are wrong, or the output can't be written.
    Usage = 3,
    /// Some files could not be read, so what they hold is not in the result; or AWS has refused something.
    Incomplete = 4,
}

/// Why the program stops early: a sentence with its remedy, and the status.
#[derive(Debug)]
struct Stop {
    message: String,
    status: Status,
}

impl Stop {
    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: Status::Usage,
        }
    }

    fn incomplete(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: Status::Incomplete,
        }
    }

    fn rules(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            status: Status::Rules,
        }
    }

    /// The end of whoever reads the output, which is no failure, or another problem with it.
    fn output(error: &std::io::Error, place: &str) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self {
                message: String::new(),
                status: Status::Done,
            };
        }
        Self::usage(format!("{place} can't be written: {error}"))
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // What clap prints goes where it belongs; help is no failure.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() {
                Status::Usage as u8
            } else {
                Status::Done as u8
            });
        }
    };
    let status = run(arguments).unwrap_or_else(|stop| {
        if !stop.message.is_empty() {
            eprintln!("billing-watch: {}", output::without_controls(&stop.message));
        }
        stop.status
    });
    ExitCode::from(status as u8)
}

fn run(arguments: Arguments) -> Result<Status, Stop> {
    match arguments.command {
        Command::Scan(options) => scan::scan(&options, arguments.color),
        Command::Rules(command) => rule_commands::run(&command),
        Command::Preview(options) => preview::preview(&options),
        Command::Backfill(command) => backfill::run(&command, arguments.color),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "billing-watch", &mut script);
            output::print(&String::from_utf8_lossy(&script))?;
            Ok(Status::Done)
        }
        Command::Man { folder } => {
            clap_mangen::generate_to(Arguments::command(), &folder)
                .map_err(|error| Stop::output(&error, &folder.display().to_string()))?;
            Ok(Status::Done)
        }
    }
}
