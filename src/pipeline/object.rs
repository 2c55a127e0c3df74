//! The work on one object: read it, judge its records, and send the alerts of each group.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    AlertSink, LogBody, LogStore, Pipeline, failure,
    job::{Job, skip_reason, warn_of_removal},
    send::{Sender, Sent},
    time::{TimeLeft, before},
    told::Told,
};
use crate::{
    alert::{GroupKey, escape::clean},
    cloudtrail::{Record, Scan, ScanError, Step},
    envelope::{ErrorType, Failure, ObjectRef},
    ledger::LedgerStore,
    report::Report,
    rules::Finding,
};

/// Groups of one object that are sent at the same time.
const CONCURRENT_GROUPS: usize = 8;
/// Bytes of records that one scan holds back before it sends the largest group.
const HELD_BYTES: usize = 1 << 20;
/// Groups whose parts are numbered on from one message to the next; past them numbers start anew.
const NUMBERED_GROUPS: usize = 1024;
/// How long another's claim is left alone before each further look at it, in milliseconds.
const BUSY_WAITS: [u64; 4] = [200, 400, 800, 1600];
/// Most unwatched events that a log names of one object.
const NAMED_UNWATCHED: usize = 20;

/// What became of one object.
#[derive(Default)]
pub(super) struct ObjectOutcome {
    pub(super) report: Report,
    pub(super) failure: Option<Failure>,
    pub(super) told: Told,
}

/// Handles one object to its end, whatever that is.
pub(super) async fn handle<S, A, L, C>(
    pipeline: &Pipeline<S, A, L, C>,
    job: &Job,
    invocation: &str,
    time: &TimeLeft,
) -> ObjectOutcome
where
    S: LogStore,
    A: AlertSink,
    L: LedgerStore,
    C: Fn() -> Timestamp,
{
    let mention = &job.mention;
    let mut outcome = ObjectOutcome::default();
    outcome.report.objects = 1;
    let file_account = match skip_reason(mention) {
        Err(reason) => {
            outcome.report.skip(reason);
            warn_of_removal(mention);
            return outcome;
        }
        Ok(account) => account,
    };
    let mut work = ObjectWork {
        pipeline,
        job,
        invocation,
        time,
        known_shape: file_account.is_some(),
        file_account,
        groups: HashMap::new(),
        held_bytes: 0,
        sent_parts: HashMap::new(),
        busy: Vec::new(),
        busy_bytes: 0,
        met_duplicates: false,
        unwatched: BTreeMap::new(),
        expired_filters: BTreeSet::new(),
        failed_with: BTreeSet::new(),
        outcome,
    };
    let read = work.read().await;
    work.send_all().await;
    work.send_busy().await;
    work.finish(read);
    work.outcome
}

/// The work on one object, with the findings that wait for their alert.
struct ObjectWork<'a, S, A, L, C> {
    pipeline: &'a Pipeline<S, A, L, C>,
    job: &'a Job,
    invocation: &'a str,
    time: &'a TimeLeft,
    known_shape: bool,
    file_account: Option<String>,
    groups: HashMap<GroupKey, Group>,
    held_bytes: usize,
    /// Messages that went out for groups which memory could not hold whole.
    sent_parts: HashMap<GroupKey, usize>,
    /// Findings on whose records another claim lives: they are looked at again when all others
    /// are sent, so that no two objects wait for each other.
    busy: Vec<Finding>,
    busy_bytes: usize,
    /// Whether the ledger knew some of the records.
    met_duplicates: bool,
    /// Events that nobody watches, and how often each came.
    unwatched: BTreeMap<String, u64>,
    /// Filters that would have suppressed a finding, had they not expired.
    expired_filters: BTreeSet<String>,
    /// Kinds of failures that are logged already.
    failed_with: BTreeSet<ErrorType>,
    outcome: ObjectOutcome,
}

#[derive(Default)]
struct Group {
    findings: Vec<Finding>,
    bytes: usize,
}

/// How reading an object ended.
enum ReadEnd {
    /// Read whole.
    Scanned,
    /// Not a log file, which its key left open: it has no records at all.
    NotALogFile(ScanError),
    Failed(Failure),
}

impl<S: LogStore, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> ObjectWork<'_, S, A, L, C> {
    fn object(&self) -> &ObjectRef {
        &self.job.mention.object
    }

    /// Reads the object to its end, or to its first fault.
    async fn read(&mut self) -> ReadEnd {
        let mut scan = Scan::new(
            Arc::clone(&self.pipeline.sources),
            self.pipeline.settings.limits,
        );
        let end = self.read_through(&mut scan).await;
        self.outcome.report.expanded_bytes = scan.expanded_bytes();
        end
    }

    async fn read_through(&mut self, scan: &mut Scan) -> ReadEnd {
        let opened = self.in_time(self.pipeline.store.open(self.object())).await;
        let mut body = match opened {
            Some(Ok(body)) => body,
            Some(Err(error)) => return ReadEnd::Failed(failure::of_store(self.object(), &error)),
            None => return ReadEnd::Failed(failure::out_of_time(self.object())),
        };
        loop {
            match scan.next_step() {
                Ok(Step::Record(record)) => self.judge(*record).await,
                Ok(Step::NeedInput) => match self.in_time(body.chunk()).await {
                    Some(Ok(Some(chunk))) => {
                        self.outcome.report.fetched_bytes += chunk.len() as u64;
                        scan.feed(chunk);
                    }
                    Some(Ok(None)) => scan.end_of_input(),
                    Some(Err(error)) => {
                        return ReadEnd::Failed(failure::of_store(self.object(), &error));
                    }
                    None => return ReadEnd::Failed(failure::out_of_time(self.object())),
                },
                Ok(Step::Done) => return ReadEnd::Scanned,
                Err(error) if !self.known_shape && may_be_no_log_file(&error, scan) => {
                    return ReadEnd::NotALogFile(error);
                }
                Err(error) => return ReadEnd::Failed(failure::of_scan(self.object(), &error)),
            }
        }
    }

    /// What a read gives, if it comes before reading has to stop.
    async fn in_time<F: Future>(&self, read: F) -> Option<F::Output> {
        before(self.time.read_until(), (self.pipeline.clock)(), read).await
    }

    /// Decides what a record of interest means, in the order that the design gives.
    async fn judge(&mut self, record: Record) {
        let pipeline = self.pipeline;
        let settings = &pipeline.settings;
        let Some(matched) = pipeline.pack.evaluate(&record, (pipeline.clock)()) else {
            return;
        };
        let report = &mut self.outcome.report;
        report.findings += 1;
        report.count_level(matched.level);
        self.expired_filters.extend(matched.expired_filters);
        if matched.level < settings.minimum_level {
            report.below_level += 1;
            return;
        }
        if matched.rules.is_empty()
            || (!matched.filters.is_empty() && matched.rules[0].level < settings.minimum_level)
        {
            report.suppressed += 1;
            for filter in matched.filters {
                *report.suppressed_by.entry(filter).or_default() += 1;
            }
            return;
        }
        let finding = Finding {
            record,
            rules: matched.rules,
        };
        if !settings.watched.admit(finding.record.get("eventSource")) {
            report.unwatched += 1;
            let name = |name| clean(finding.record.text(name).unwrap_or_default(), 128);
            let event = format!("{} {}", name("eventSource"), name("eventName"));
            if self.unwatched.len() < NAMED_UNWATCHED || self.unwatched.contains_key(&event) {
                *self.unwatched.entry(event).or_default() += 1;
            }
            return;
        }
        if self.job.batch_task {
            self.outcome.told.add(&finding);
            if !settings.batch_alerts {
                self.outcome.report.told_only += 1;
                return;
            }
        }
        self.hold(finding).await;
    }

    /// Keeps a finding for its group's alert; sends the largest group when too much is held.
    async fn hold(&mut self, finding: Finding) {
        let key = GroupKey::of(&finding.record, self.file_account.as_deref());
        let bytes = finding.record.memory_bytes();
        let group = self.groups.entry(key).or_default();
        group.findings.push(finding);
        group.bytes += bytes;
        self.held_bytes += bytes;
        if self.held_bytes > HELD_BYTES
            && let Some(largest) = self
                .groups
                .iter()
                .max_by(|(a, larger), (b, smaller)| {
                    larger.bytes.cmp(&smaller.bytes).then_with(|| b.cmp(a))
                })
                .map(|(key, _)| key.clone())
        {
            let (group, sent_parts) = self.take(&largest);
            let sent = self.sender().send(group.findings, sent_parts, false).await;
            self.note_parts(largest, sent.parts);
            self.add(sent);
        }
    }

    /// Takes a group out, with the number of its messages that went out before.
    fn take(&mut self, key: &GroupKey) -> (Group, usize) {
        let group = self.groups.remove(key).unwrap_or_default();
        self.held_bytes -= group.bytes;
        (group, self.sent_parts.get(key).copied().unwrap_or(0))
    }

    fn note_parts(&mut self, key: GroupKey, parts: usize) {
        if self.sent_parts.len() >= NUMBERED_GROUPS {
            self.sent_parts.clear();
        }
        self.sent_parts.insert(key, parts);
    }

    fn sender(&self) -> Sender<'_, S, A, L, C> {
        Sender {
            pipeline: self.pipeline,
            object: self.object(),
            file_account: self.file_account.as_deref(),
            invocation: self.invocation,
            time: self.time,
            met_duplicates: self.met_duplicates,
        }
    }

    fn add(&mut self, sent: Sent) {
        self.outcome.report.add(&sent.report);
        for failure in sent.failures {
            self.fail(failure);
        }
        self.met_duplicates |= sent.met_duplicates;
        for finding in sent.busy {
            let bytes = finding.record.memory_bytes();
            if self.busy_bytes + bytes > HELD_BYTES {
                // Too many to wait for: they come again with the object.
                self.outcome.report.failed_findings += 1;
                self.fail(failure::ledger_busy(self.object()));
            } else {
                self.busy_bytes += bytes;
                self.busy.push(finding);
            }
        }
    }

    /// Sends every group that is held.
    async fn send_all(&mut self) {
        let mut keys: Vec<GroupKey> = self.groups.keys().cloned().collect();
        keys.sort();
        let groups: Vec<_> = keys.iter().map(|key| self.take(key)).collect();
        let sender = &self.sender();
        let all: Vec<Sent> = stream::iter(groups)
            .map(|(group, sent_parts)| sender.send(group.findings, sent_parts, true))
            .buffered(CONCURRENT_GROUPS)
            .collect()
            .await;
        for (key, sent) in keys.into_iter().zip(all) {
            // A busy finding that follows a lone message is a message of its own.
            if sent.parts > 1 {
                self.note_parts(key, sent.parts);
            }
            self.add(sent);
        }
    }

    /// Waits a while for the claims of others, then fails what they still hold.
    async fn send_busy(&mut self) {
        for wait in BUSY_WAITS {
            let wait = tokio::time::sleep(Duration::from_millis(wait));
            let now = (self.pipeline.clock)();
            if self.busy.is_empty() || before(self.time.send_until(), now, wait).await.is_none() {
                break;
            }
            self.busy_bytes = 0;
            for finding in std::mem::take(&mut self.busy) {
                self.hold(finding).await;
            }
            self.send_all().await;
        }
        if !self.busy.is_empty() {
            self.outcome.report.failed_findings += self.busy.len() as u64;
            self.fail(failure::ledger_busy(self.object()));
        }
    }

    /// Notes a failure: one is told, and the first of each kind is logged.
    fn fail(&mut self, failure: Failure) {
        if self.failed_with.insert(failure.error_type) {
            tracing::error!(
                error_type = %failure.error_type,
                retryable = failure.error_type.is_retryable(),
                error = %failure.message,
                "object failed"
            );
        }
        // One that another try may mend must not hide behind one that it can't.
        let told = self.outcome.failure.as_ref();
        if told
            .is_none_or(|told| failure.error_type.is_retryable() && !told.error_type.is_retryable())
        {
            self.outcome.failure = Some(failure);
        }
    }

    fn finish(&mut self, read: ReadEnd) {
        for filter in &self.expired_filters {
            tracing::warn!(filter, "filter has expired and suppresses no more");
        }
        for (event, count) in &self.unwatched {
            tracing::warn!(
                event,
                count,
                "findings of a source that EVENT_SOURCES does not watch"
            );
        }
        match read {
            ReadEnd::Scanned => {}
            ReadEnd::NotALogFile(error) => {
                tracing::warn!(object = %failure::shown(self.object()), %error, "skipped: holds no records");
                self.outcome.report.skip("holds no records");
                return;
            }
            ReadEnd::Failed(failure) => self.fail(failure),
        }
        if self.outcome.failure.is_some() {
            self.outcome.report.failed += 1;
        } else {
            self.outcome.report.scanned += 1;
            if let Some(created) = self.job.mention.created {
                let now = (self.pipeline.clock)();
                self.outcome.report.note_handling_delay(created, now);
            }
        }
    }
}

/// Whether an object of a key that promised nothing is simply something else.
fn may_be_no_log_file(error: &ScanError, scan: &Scan) -> bool {
    match error {
        ScanError::Empty => true,
        ScanError::NoRecords | ScanError::NotJson { .. } | ScanError::TruncatedJson { .. } => {
            !scan.records_seen()
        }
        _ => false,
    }
}
