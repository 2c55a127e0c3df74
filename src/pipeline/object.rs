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
    told::Told,
};
use crate::{
    alert::{self, Alert, Context, GroupKey, escape::clean},
    cloudtrail::{Record, Scan, ScanError, Step},
    envelope::{Failure, ObjectRef},
    ledger::{Claim, LedgerStore, Ticket, record_key},
    report::Report,
    rules::Finding,
};

/// Claims of one group that are made at the same time.
const CONCURRENT_CLAIMS: usize = 16;
/// Bytes of records that one scan holds back before it sends the largest group.
const HELD_BYTES: usize = 1 << 20;
/// Groups whose parts are numbered on from one message to the next; past them numbers start anew.
const NUMBERED_GROUPS: usize = 1024;
/// How often another's claim is looked at again, and how long between looks.
const BUSY_LOOKS: usize = 15;
const BUSY_WAIT: Duration = Duration::from_millis(200);
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
    claimant: &str,
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
        claimant,
        known_shape: file_account.is_some(),
        file_account,
        groups: HashMap::new(),
        held_bytes: 0,
        sent_parts: HashMap::new(),
        busy: Vec::new(),
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
    claimant: &'a str,
    known_shape: bool,
    file_account: Option<String>,
    groups: HashMap<GroupKey, Group>,
    held_bytes: usize,
    /// Messages that went out for groups which memory could not hold whole.
    sent_parts: HashMap<GroupKey, usize>,
    /// Findings on whose records another claim lives: they are looked at again when all others
    /// are sent, so that no two objects wait for each other.
    busy: Vec<Finding>,
    /// Events that nobody watches, and how often each came.
    unwatched: BTreeMap<String, u64>,
    /// Filters that would have suppressed a finding, had they not expired.
    expired_filters: BTreeSet<String>,
    /// Kinds of failures that are logged already.
    failed_with: BTreeSet<&'static str>,
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
    /// Not a log file, which its key left open.
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
        let mut body = match self.pipeline.store.open(self.object()).await {
            Ok(body) => body,
            Err(error) => return ReadEnd::Failed(failure::of_store(self.object(), &error)),
        };
        loop {
            match scan.next_step() {
                Ok(Step::Record(record)) => self.judge(*record).await,
                Ok(Step::NeedInput) => match body.chunk().await {
                    Ok(Some(chunk)) => {
                        self.outcome.report.fetched_bytes += chunk.len() as u64;
                        scan.feed(chunk);
                    }
                    Ok(None) => scan.end_of_input(),
                    Err(error) => return ReadEnd::Failed(failure::of_store(self.object(), &error)),
                },
                Ok(Step::Done) => return ReadEnd::Scanned,
                Err(error) if !self.known_shape && may_be_no_log_file(&error, scan) => {
                    return ReadEnd::NotALogFile(error);
                }
                Err(error) => return ReadEnd::Failed(failure::of_scan(self.object(), &error)),
            }
        }
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
            self.send(&largest, false).await;
        }
    }

    async fn send_all(&mut self) {
        let mut keys: Vec<GroupKey> = self.groups.keys().cloned().collect();
        keys.sort();
        for key in keys {
            self.send(&key, true).await;
        }
    }

    /// Sends what is held of a group, in as many messages as it takes.
    async fn send(&mut self, key: &GroupKey, last: bool) {
        let Some(group) = self.groups.remove(key) else {
            return;
        };
        self.held_bytes -= group.bytes;
        let sent_parts = self.sent_parts.get(key).copied().unwrap_or(0);
        let mut claimed = self.claim(group.findings).await;
        if claimed.is_empty() {
            return;
        }
        claimed.sort_by(|(a, _), (b, _)| alert::order(a, b));
        let (findings, tickets): (Vec<Finding>, Vec<Ticket>) = claimed.into_iter().unzip();
        let file_account = self.file_account.clone();
        let context = Context {
            object: &self.job.mention.object,
            file_account: file_account.as_deref(),
            now: (self.pipeline.clock)(),
            withhold_values: self.pipeline.settings.withhold_values,
        };
        let parts = alert::compose(&findings, &context, sent_parts, last);
        if !last {
            if self.sent_parts.len() >= NUMBERED_GROUPS {
                self.sent_parts.clear();
            }
            self.sent_parts
                .insert(key.clone(), sent_parts + parts.len());
        }
        let mut start = 0;
        for (alert, count) in parts {
            let range = start..start + count;
            start += count;
            self.publish(&alert, &findings[range.clone()], &tickets[range])
                .await;
        }
    }

    /// Waits a while for the claims of others, then fails what they still hold.
    async fn send_busy(&mut self) {
        for _ in 0..BUSY_LOOKS {
            if self.busy.is_empty() {
                return;
            }
            tokio::time::sleep(BUSY_WAIT).await;
            for finding in std::mem::take(&mut self.busy) {
                self.hold(finding).await;
            }
            self.send_all().await;
        }
        if !self.busy.is_empty() {
            self.outcome.report.failed_findings += self.busy.len() as u64;
            self.fail(Failure {
                error_type: "LedgerBusy",
                message: format!(
                    "{}: others are alerting on {} of its records",
                    failure::shown(self.object()),
                    self.busy.len()
                ),
                retryable: true,
            });
        }
    }

    /// Claims each finding's record, the same record once; what others have alerted drops out.
    async fn claim(&mut self, findings: Vec<Finding>) -> Vec<(Finding, Ticket)> {
        let mut by_key: HashMap<String, Finding> = HashMap::new();
        for finding in findings {
            if by_key
                .insert(record_key(&finding.record), finding)
                .is_some()
            {
                self.outcome.report.duplicate += 1;
            }
        }
        let (pipeline, claimant) = (self.pipeline, self.claimant);
        let claims: Vec<_> = stream::iter(by_key)
            .map(|(key, finding)| async move {
                let now = (pipeline.clock)();
                (finding, pipeline.ledger.claim(&key, claimant, now).await)
            })
            .buffer_unordered(CONCURRENT_CLAIMS)
            .collect()
            .await;
        let mut claimed = Vec::with_capacity(claims.len());
        for (finding, claim) in claims {
            match claim {
                Ok(Claim::Ours(ticket)) => claimed.push((finding, ticket)),
                Ok(Claim::Duplicate) => self.outcome.report.duplicate += 1,
                Ok(Claim::Busy) => self.busy.push(finding),
                Err(error) => {
                    self.outcome.report.failed_findings += 1;
                    self.fail(failure::of_ledger(self.object(), &error));
                }
            }
        }
        claimed
    }

    async fn publish(&mut self, alert: &Alert, findings: &[Finding], tickets: &[Ticket]) {
        let ledger = &self.pipeline.ledger;
        match self.pipeline.sink.publish(alert).await {
            Ok(message_id) => {
                let now = (self.pipeline.clock)();
                let report = &mut self.outcome.report;
                report.alerts += 1;
                report.published += findings.len() as u64;
                for finding in findings {
                    report.note_alert_delay(finding.record.event_time(), now);
                }
                for ticket in tickets {
                    if let Err(error) = ledger.publish(ticket, &message_id, now).await {
                        self.fail(failure::of_ledger(self.object(), &error));
                    }
                }
            }
            Err(error) => {
                self.outcome.report.failed_findings += findings.len() as u64;
                let what = format!("an alert on {}", failure::shown(self.object()));
                self.fail(failure::of_sink(&what, &error));
                for ticket in tickets {
                    if let Err(error) = ledger.release(ticket).await {
                        self.fail(failure::of_ledger(self.object(), &error));
                    }
                }
            }
        }
    }

    /// Notes a failure: the first one is told, and the first of each kind is logged.
    fn fail(&mut self, failure: Failure) {
        if self.failed_with.insert(failure.error_type) {
            tracing::error!(
                error_type = failure.error_type,
                retryable = failure.retryable,
                error = %failure.message,
                "object failed"
            );
        }
        self.outcome.failure.get_or_insert(failure);
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
            ReadEnd::NotALogFile(error) if self.outcome.failure.is_none() => {
                tracing::warn!(object = %failure::shown(self.object()), %error, "skipped: holds no records");
                self.outcome.report.skip("holds no records");
                return;
            }
            ReadEnd::Scanned | ReadEnd::NotALogFile(_) => {}
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
