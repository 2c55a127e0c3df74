//! One file from its bytes to its findings.

use std::{io::Read, path::Path, sync::Arc};

use billing_watch::{
    alert::{
        Audience, Context, Escaped, FindingContent, Listing, RuleAdvice, RuleContents, Style,
        compose,
    },
    cloudtrail::{Candidates, LogFileName, Record, Scan, ScanError, ScanLimits, Step},
    ledger::RecordId,
    pipeline::{Decision, Triage},
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::{arguments::Format, selection::Selection};

/// Bytes that are read from a file at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Most characters of a file's name in a result.
const NAME_CHARACTERS: usize = 2_048;

/// Reads files. Each thread shares it.
pub(crate) struct Engine {
    pub(crate) triage: Triage,
    pub(crate) candidates: Arc<Candidates>,
    pub(crate) limits: ScanLimits,
    pub(crate) selection: Selection,
    pub(crate) style: Style,
    pub(crate) format: Format,
    pub(crate) now: Timestamp,
}

/// A finding, ready to be shown.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What tells its record from others: the same in each copy.
    pub(crate) record: String,
    pub(crate) listing: Listing,
    pub(crate) advice: Arc<RuleAdvice>,
    /// The finding in the format of the output, where that is an alert's.
    pub(crate) rendered: Option<String>,
}

/// What became of one file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileResult {
    /// Its name, as far as it can be shown.
    pub(crate) name: String,
    /// What its name says.
    pub(crate) log_file: Option<LogFileName>,
    pub(crate) bytes: u64,
    pub(crate) expanded_bytes: u64,
    pub(crate) found: Vec<Found>,
    pub(crate) below_level: u64,
    pub(crate) suppressed: u64,
    pub(crate) unwatched: u64,
    /// Findings outside of the selection.
    pub(crate) unselected: u64,
    pub(crate) end: FileEnd,
}

/// How reading a file ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum FileEnd {
    #[default]
    Read,
    /// Not read, or not a log file: the reason.
    Skipped(&'static str),
    /// Not read to its end: the problem.
    Failed(String),
}

impl Engine {
    /// Reads one file. `name` is shown to people.
    pub(crate) fn read(&self, name: &Path, mut reader: impl Read) -> FileResult {
        let shown = name.to_string_lossy();
        let mut result = FileResult {
            log_file: LogFileName::parse(&shown),
            name: shown.into_owned(),
            ..FileResult::default()
        };
        result.end = match self.records(&mut reader, &mut result) {
            Ok(()) => FileEnd::Read,
            Err(Problem::Scan(ScanError::Empty)) if result.log_file.is_none() => {
                FileEnd::Skipped("empty")
            }
            Err(Problem::Scan(error))
                if result.log_file.is_none() && !error_of_log_file(&error) =>
            {
                FileEnd::Skipped("no CloudTrail records")
            }
            Err(Problem::Scan(error)) => FileEnd::Failed(remedied(&error)),
            Err(Problem::Read(error)) => FileEnd::Failed(error.to_string()),
        };
        result
    }

    fn records(&self, reader: &mut impl Read, result: &mut FileResult) -> Result<(), Problem> {
        let mut scan = Scan::new(Arc::clone(&self.candidates), self.limits);
        let mut contents = RuleContents::default();
        let end = loop {
            match scan.next_step() {
                Ok(Step::Record(record)) => self.record(*record, &mut contents, result),
                Ok(Step::NeedInput) => {
                    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                    let mut limited = reader.by_ref().take(CHUNK_BYTES as u64);
                    match limited.read_to_end(&mut chunk) {
                        Ok(0) => scan.end_of_input(),
                        Ok(length) => {
                            result.bytes += length as u64;
                            scan.feed(Bytes::from(chunk));
                        }
                        Err(error) => break Err(Problem::Read(error)),
                    }
                }
                Ok(Step::Done) => break Ok(()),
                Err(error) => break Err(Problem::Scan(error)),
            }
        };
        result.expanded_bytes = scan.expanded_bytes();
        end
    }

    fn record(&self, record: Record, contents: &mut RuleContents, result: &mut FileResult) {
        let account = result.log_file.as_ref().map(|name| name.account.as_str());
        let is_wanted = self.selection.wants_record(&record, account);
        let Some(triaged) = self.triage.decide(record, false, self.now) else {
            return;
        };
        match triaged.decision {
            Decision::BelowLevel => result.below_level += u64::from(is_wanted),
            Decision::Suppressed(_) => result.suppressed += u64::from(is_wanted),
            Decision::Unwatched(_) => result.unwatched += u64::from(is_wanted),
            _ if !is_wanted => result.unselected += 1,
            Decision::Alert(finding) | Decision::ResultOnly(finding) => {
                let context = Context {
                    // A local file: the alert shows how to look the event up in CloudTrail.
                    object: None,
                    file_account: account,
                    style: &self.style,
                    now: self.now,
                };
                let words = FindingContent::of(&finding, &context, contents, false);
                let log_file = Escaped::untrusted(&result.name, NAME_CHARACTERS);
                result.found.push(Found {
                    record: RecordId::of(&finding.record).key().to_owned(),
                    listing: Listing {
                        log_file: Some(log_file),
                        ..words.listing()
                    },
                    advice: Arc::new(words.advice()),
                    rendered: self.rendered(&words, &context),
                });
            }
        }
    }

    fn rendered(&self, words: &FindingContent, context: &Context<'_>) -> Option<String> {
        let audience = match self.format {
            Format::Text => Audience::People,
            Format::Ocsf => Audience::Machines,
            _ => return None,
        };
        let messages = compose(audience, &[words], context, 0, true);
        messages.into_iter().next().map(|(message, _)| message.body)
    }
}

enum Problem {
    Scan(ScanError),
    Read(std::io::Error),
}

/// Whether an error says that a file of any name is a log file all the same.
fn error_of_log_file(error: &ScanError) -> bool {
    !matches!(
        error,
        ScanError::Empty | ScanError::NotJson { .. } | ScanError::NoRecords
    )
}

fn remedied(error: &ScanError) -> String {
    match error {
        ScanError::OverCap { cap } => {
            format!(
                "expands to more than {cap} bytes; raise --max-expanded-bytes if this is a log file"
            )
        }
        error => error.to_string(),
    }
}
