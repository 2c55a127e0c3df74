//! One file from its bytes to its findings.

use std::{io::Read, path::Path, sync::Arc};

use billing_watch::{
    alert::{
        Audience, Context, Escaped, FindingContent, Listing, RuleAdvice, RuleContents, Style,
        compose,
    },
    cloudtrail::{Candidates, LogFileName, Record, Scan, ScanError, ScanLimits, Step},
    envelope::ObjectRef,
    ledger::RecordId,
    pipeline::{Decision, Triage},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{arguments::Format, resume::Ticket, selection::Selection};

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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Found {
    /// What tells its record from others: the same in each copy.
    pub(crate) record: String,
    pub(crate) listing: Listing,
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
    /// The advice of their rules, each once.
    pub(crate) advice: Vec<RuleAdvice>,
    pub(crate) below_level: u64,
    pub(crate) suppressed: u64,
    pub(crate) unwatched: u64,
    /// Findings outside of the selection.
    pub(crate) unselected: u64,
    pub(crate) end: FileEnd,
    /// The input that ends with this file, for a scan that may be resumed.
    pub(crate) ticket: Option<Ticket>,
}

impl FileResult {
    /// A file that ended without being read.
    pub(crate) fn ended(name: impl Into<String>, end: FileEnd) -> Self {
        Self {
            name: name.into(),
            end,
            ..Self::default()
        }
    }
}

/// How reading a file ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum FileEnd {
    #[default]
    Read,
    /// Not read, or not a log file: the reason.
    Skipped(&'static str),
    /// Not read to its end, because it is damaged: the problem.
    Failed(String),
    /// Not read to its end, because storage failed: the problem.
    Unread(String),
    /// No file but a listing, which did not come to its end: the problem.
    NotListed(String),
}

/// One file on its way from chunks to findings. Feed it whenever it wants input.
pub(crate) struct FileScan<'a> {
    engine: &'a Engine,
    scan: Scan,
    contents: RuleContents,
    /// The file in S3, for the commands in an alert.
    object: Option<&'a ObjectRef>,
    result: FileResult,
}

impl Engine {
    /// Reads one file. `name` is shown to people.
    pub(crate) fn read(&self, name: &Path, mut reader: impl Read) -> FileResult {
        let mut file = FileScan::new(self, name.to_string_lossy().into_owned(), None);
        let mut is_read = false;
        loop {
            match file.wants_input() {
                Ok(true) => {}
                Ok(false) => return file.finish(Ok(())),
                Err(error) => return file.finish(Err(error)),
            }
            if is_read {
                file.feed(Bytes::new());
                continue;
            }
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let mut limited = reader.by_ref().take(CHUNK_BYTES as u64);
            match limited.read_to_end(&mut chunk) {
                Ok(read) => {
                    is_read = read < CHUNK_BYTES;
                    file.feed(Bytes::from(chunk));
                }
                Err(error) => return file.finish(Err(Problem::Read(error.to_string()))),
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

impl<'a> FileScan<'a> {
    pub(crate) fn new(engine: &'a Engine, name: String, object: Option<&'a ObjectRef>) -> Self {
        Self {
            engine,
            scan: Scan::new(Arc::clone(&engine.candidates), engine.limits),
            contents: RuleContents::default(),
            object,
            result: FileResult {
                log_file: LogFileName::parse(&name),
                name,
                ..FileResult::default()
            },
        }
    }

    /// Reads what was fed. Returns whether it wants more.
    pub(crate) fn wants_input(&mut self) -> Result<bool, Problem> {
        loop {
            match self.scan.next_step() {
                Ok(Step::Record(record)) => self.record(*record),
                Ok(Step::NeedInput) => return Ok(true),
                Ok(Step::Done) => return Ok(false),
                Err(error) => return Err(Problem::Scan(error)),
            }
        }
    }

    /// Gives the next chunk. An empty one is the end.
    pub(crate) fn feed(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            self.scan.end_of_input();
        } else {
            self.result.bytes += chunk.len() as u64;
            self.scan.feed(chunk);
        }
    }

    /// What became of the file.
    pub(crate) fn finish(mut self, end: Result<(), Problem>) -> FileResult {
        self.result.expanded_bytes = self.scan.expanded_bytes();
        let is_named = self.result.log_file.is_some();
        self.result.end = match end {
            Ok(()) => FileEnd::Read,
            Err(Problem::Scan(error)) if !is_named && self.scan.holds_no_records(&error) => {
                FileEnd::Skipped(match error {
                    ScanError::Empty => "empty",
                    _ => "no CloudTrail records",
                })
            }
            Err(Problem::Scan(error)) => FileEnd::Failed(remedied(&error)),
            Err(Problem::Read(error)) => FileEnd::Unread(error),
        };
        self.result
    }

    fn record(&mut self, record: Record) {
        let (engine, result) = (self.engine, &mut self.result);
        let account = result.log_file.as_ref().map(|name| name.account.as_str());
        let is_wanted = engine.selection.wants_record(&record, account);
        let Some(triaged) = engine.triage.decide(record, false, engine.now) else {
            return;
        };
        match triaged.decision {
            _ if !is_wanted => result.unselected += 1,
            Decision::BelowLevel => result.below_level += 1,
            Decision::Suppressed(_) => result.suppressed += 1,
            Decision::Unwatched(_) => result.unwatched += 1,
            Decision::Alert(finding) | Decision::ResultOnly(finding) => {
                let context = Context {
                    object: self.object,
                    file_account: account,
                    backfill: false,
                    style: &engine.style,
                    now: engine.now,
                };
                let words = FindingContent::of(&finding, &context, &mut self.contents, false);
                let mut listing = words.listing();
                if self.object.is_none() {
                    listing.log_file = Some(Escaped::untrusted(&result.name, NAME_CHARACTERS));
                }
                if !result
                    .advice
                    .iter()
                    .any(|known| known.id == listing.rule_id)
                {
                    result.advice.push(words.advice());
                }
                result.found.push(Found {
                    record: RecordId::of(&finding.record).key().to_owned(),
                    listing,
                    rendered: engine.rendered(&words, &context),
                });
            }
        }
    }
}

/// Why a file was not read to its end.
pub(crate) enum Problem {
    Scan(ScanError),
    /// Storage failed, in its own words.
    Read(String),
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
