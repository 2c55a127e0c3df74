//! What the command line accepts.

use std::{path::PathBuf, thread};

use billing_watch::{
    cloudtrail::{Sources, is_account_id},
    rules::{Level, OptionalRules},
};
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use jiff::{Span, Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

use crate::Stop;

/// What ends a help text.
const EXIT_STATUS: &str = "Exit status: 0 done, 1 findings with --fail-on, 2 rules that can't be loaded, 3 wrong \
     arguments or an output that can't be written, 4 some files could not be read.";

/// Finds sensitive changes to the billing, the ownership and the contacts of AWS accounts in CloudTrail's
/// log files.
#[derive(Debug, Parser)]
#[command(name = "billing-watch", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// Colour levels in tables. By default on a terminal, unless `NO_COLOR` is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one for each run of the program"
)]
pub(crate) enum Command {
    /// Look for findings in log files.
    Scan(ScanArguments),
    /// List, show, check and explain rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Show the alerts that records would cause.
    Preview(PreviewArguments),
    /// Look through years of log files on S3 Batch Operations.
    #[command(subcommand)]
    Backfill(BackfillCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Write the man pages, one for each command, into a folder.
    Man {
        /// The folder, which exists.
        folder: PathBuf,
    },
}

#[derive(Args, Debug)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct ScanArguments {
    /// Files, folders of any depth, tar archives (.tar, .tar.gz, .tgz), `s3://bucket/prefix`, or - for
    /// standard input.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Note in this file how far the scan has come, and go on from there if the file exists. It is removed
    /// when the scan is complete.
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) result: ResultArguments,
}

/// What is looked for, and what becomes of it.
#[derive(Args, Debug)]
pub(crate) struct ResultArguments {
    #[command(flatten)]
    pub(crate) dates: DateArguments,
    /// Only this account. May be given several times.
    #[arg(long, value_parser = account)]
    pub(crate) account: Vec<String>,
    /// Only this Region. May be given several times.
    #[arg(long)]
    pub(crate) region: Vec<String>,
    /// Watched event sources, separated by commas. billing-family means all that the rules name.
    #[arg(long, value_name = "SOURCES", default_value = "billing-family")]
    pub(crate) event_source: String,
    /// Lowest level of the rules that count: informational, low, medium, high or critical. A failed attempt is
    /// shown one level lower than its rule.
    #[arg(long, value_name = "LEVEL", default_value = "medium", value_parser = level)]
    pub(crate) minimum_level: Level,
    #[command(flatten)]
    pub(crate) rules: RuleArguments,
    /// Format of the result.
    #[arg(long, default_value = "table")]
    pub(crate) format: Format,
    /// Write the result to this file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write a report to this HTML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Overwrite files that exist.
    #[arg(long)]
    pub(crate) force: bool,
    /// Files that are read at the same time. By default as many as there are processors.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) jobs: Option<u16>,
    /// End with status 1 if there is a finding that is shown with this level or a higher one.
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) fail_on: Option<Level>,
    /// File with names of accounts, as JSON or YAML.
    #[arg(long, value_name = "FILE")]
    pub(crate) account_names: Option<PathBuf>,
    /// Show personal values, such as addresses and names, which are withheld otherwise.
    #[arg(long)]
    pub(crate) show_values: bool,
    /// Print only errors on standard error.
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Largest expanded size of one file, in bytes.
    #[arg(long, default_value_t = 1 << 30)]
    pub(crate) max_expanded_bytes: u64,
}

/// When the events happened.
#[derive(Args, Debug)]
pub(crate) struct DateArguments {
    /// First moment of the events: a date such as 2026-03-02, in UTC, or a time in RFC 3339.
    #[arg(long, value_parser = first_moment)]
    pub(crate) from: Option<Timestamp>,
    /// End of the events, likewise. A date includes its day, a time is the first moment that does not count.
    #[arg(long, value_parser = last_moment)]
    pub(crate) to: Option<Timestamp>,
    /// Only events of the last hours, days or weeks: a number with h, d or w, such as 90d. Not with --from.
    #[arg(long, conflicts_with = "from", value_parser = age)]
    pub(crate) since: Option<Span>,
}

/// History on S3 Batch Operations: the function looks through millions of log files.
#[derive(Debug, Subcommand)]
pub(crate) enum BackfillCommand {
    /// Count the log files, and say what a job over them would cost and how long it would take.
    Plan(PlanArguments),
    /// Create a job. It waits until you confirm it: `backfill start --confirm JOB`.
    Start(StartArguments),
    /// Show how far a job has come. Ends with status 4 if the job has failed or was cancelled.
    Status {
        /// The job's id.
        job: String,
    },
    /// Read the completion report of a job, and scan the files with findings once more.
    Report {
        /// The job's id.
        job: String,
        #[command(flatten)]
        result: ResultArguments,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PlanArguments {
    /// Where the log files are: `s3://bucket/prefix`.
    pub(crate) place: PathBuf,
    #[command(flatten)]
    pub(crate) dates: DateArguments,
    /// Invocations of the backfill function at the same time: the stack's parameter `BackfillConcurrency`.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) concurrency: u16,
    /// Print only errors on standard error.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
#[command(
    override_usage = "billing-watch backfill start [OPTIONS] <PLACE> --function <ARN> --role <ARN> --report-bucket <NAME>\n       billing-watch backfill start --confirm <JOB>",
    after_help = "The stack's output BackfillArguments has --function, --role and --report-bucket.\n\nThe dates choose log files by when they were written to the bucket: from a day before --from to 30 days after --to."
)]
pub(crate) struct StartArguments {
    /// Where the log files are: `s3://bucket/prefix`.
    #[arg(required_unless_present = "confirm")]
    pub(crate) place: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) dates: DateArguments,
    /// ARN of the backfill function.
    #[arg(long, value_name = "ARN", required_unless_present = "confirm")]
    pub(crate) function: Option<String>,
    /// ARN of the role of S3 Batch Operations.
    #[arg(long, value_name = "ARN", required_unless_present = "confirm")]
    pub(crate) role: Option<String>,
    /// Bucket for the job's completion report.
    #[arg(long, value_name = "NAME", required_unless_present = "confirm")]
    pub(crate) report_bucket: Option<String>,
    /// Alert on findings as well, marked as a backfill. Without it they are only in the report.
    #[arg(long)]
    pub(crate) alert: bool,
    /// Run a job that `start` has created. No other option is allowed.
    #[arg(long, value_name = "JOB", exclusive = true)]
    pub(crate) confirm: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct RuleArguments {
    /// Folder with rules of your own, beside the bundled ones.
    #[arg(long, value_name = "DIR")]
    pub(crate) rules: Option<PathBuf>,
    /// Folder with filters of your own.
    #[arg(long, value_name = "DIR")]
    pub(crate) filters: Option<PathBuf>,
    /// Bundled rules that apply only on request, separated by commas: purchases.
    #[arg(long, value_name = "NAMES", default_value = "")]
    pub(crate) optional_rules: OptionalRules,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RulesCommand {
    /// List the rules with level, id and title.
    List(RuleArguments),
    /// Show everything about a rule.
    Show {
        /// Id, or the first characters of it.
        id: String,
        #[command(flatten)]
        rules: RuleArguments,
    },
    /// Check the rules and filters of a folder, and run the tests beside them (NAME.tests.json). Ends with
    /// status 1 if something is wrong.
    Check {
        /// The folder.
        dir: PathBuf,
    },
    /// Say for each record of a file which rules match, and why a rule that names its event does not.
    Explain {
        /// Show values of parameters and answers, which may be personal.
        #[arg(long)]
        show_values: bool,
        /// A log file, an event of EventBridge, or one record or several, as JSON. It may be compressed.
        file: PathBuf,
        #[command(flatten)]
        rules: RuleArguments,
    },
}

#[derive(Args, Debug)]
pub(crate) struct PreviewArguments {
    /// A log file, an event of EventBridge, or one record or several, as JSON. It may be compressed.
    pub(crate) file: PathBuf,
    /// Format of the alert.
    #[arg(long, default_value = "text")]
    pub(crate) format: AlertFormat,
    /// Lowest level of the rules that alert.
    #[arg(long, value_name = "LEVEL", default_value = "medium", value_parser = level)]
    pub(crate) minimum_level: Level,
    /// File with names of accounts, as JSON or YAML.
    #[arg(long, value_name = "FILE")]
    pub(crate) account_names: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) rules: RuleArguments,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// One line for each finding.
    Table,
    /// Each finding as a mail shows it.
    Text,
    /// One document with summary and findings.
    Json,
    /// One JSON object on each line.
    Jsonl,
    /// Comma-separated values, for a spreadsheet.
    Csv,
    /// One OCSF Detection Finding on each line.
    Ocsf,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum AlertFormat {
    /// A mail.
    Text,
    /// A message for Amazon Q Developer in chat applications.
    Chat,
    /// OCSF Detection Findings.
    Ocsf,
}

impl DateArguments {
    /// The first moment and the end, as far as the user has set them. `now` is where an age counts from.
    pub(crate) fn span(
        &self,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<Timestamp>), Stop> {
        let since = match self.since {
            Some(age) => Some(
                now.checked_sub(age)
                    .map_err(|error| Stop::usage(format!("--since: {error}")))?,
            ),
            None => None,
        };
        let from = self.from.or(since);
        if let (Some(from), Some(to)) = (from, self.to)
            && from >= to
        {
            return Err(Stop::usage(format!(
                "nothing lies between --from ({from}) and --to ({to})"
            )));
        }
        Ok((from, self.to))
    }
}

impl ResultArguments {
    /// How many files are read at the same time.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.map_or_else(
            || thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        )
    }

    /// The watched sources; `family` are those of the rules.
    pub(crate) fn watched(&self, family: impl IntoIterator<Item = String>) -> Sources {
        let named = self.event_source.split(',').map(str::trim);
        let (families, mut sources): (Vec<&str>, Vec<&str>) =
            named.partition(|name| *name == "billing-family");
        let family: Vec<String> = family.into_iter().collect();
        if !families.is_empty() {
            sources.extend(family.iter().map(String::as_str));
        }
        Sources::only(sources)
    }
}

fn level(text: &str) -> Result<Level, String> {
    text.parse()
}

fn account(text: &str) -> Result<String, String> {
    if is_account_id(text) {
        Ok(text.to_owned())
    } else {
        Err("an account id has 12 digits".to_owned())
    }
}

fn first_moment(text: &str) -> Result<Timestamp, String> {
    moment(text, 0.days())
}

fn last_moment(text: &str) -> Result<Timestamp, String> {
    moment(text, 1.day())
}

/// A time, or the midnight (UTC) that begins a date, `after` it.
fn moment(text: &str, after: Span) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "`{}` is neither a date such as 2026-03-02 nor a time such as 2026-03-02T16:44:04Z",
            text.escape_default()
        )
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let date: Date = text.parse().map_err(|_| wrong())?;
    let day = date.checked_add(after).map_err(|_| wrong())?;
    let midnight = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
    Ok(midnight.timestamp())
}

fn age(text: &str) -> Result<Span, String> {
    let wrong = || "an age is a number with h, d or w, such as 90d".to_owned();
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wrong)?;
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 7 * 24,
        _ => return Err(wrong()),
    };
    let hours = number
        .checked_mul(hours)
        .filter(|hours| (1..876_000).contains(hours));
    Ok(hours.ok_or_else(wrong)?.hours())
}
