//! Outcome: what became of one object, in counters, failures and the task's result.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    failure::{self, object_name},
    plan::{Job, Skip},
    publisher::Sent,
    record_source::{ReadEnd, ReadError},
    sender::SentGroups,
    task_result::TaskResult,
    triage::{Decision, Triaged},
};
use crate::{
    alert::Escaped,
    envelope::{ErrorType, Failure, ObjectEventKind, ObjectRef},
    report::Report,
};

/// Most unwatched events that the log names for one object.
const NAMED_UNWATCHED: usize = 20;

/// What became of one object.
#[derive(Default)]
pub(super) struct JobOutcome {
    pub(super) report: Report,
    /// The failure that the delivery reports: the first retryable one, or else the first.
    pub(super) failure: Option<Failure>,
    pub(super) result: TaskResult,
    /// Events of unwatched sources, and how often each occurred.
    unwatched: BTreeMap<String, u64>,
    /// Filters that would have suppressed a finding if they had not expired.
    expired_filters: BTreeSet<String>,
    /// Kinds of failures that are logged already.
    logged: BTreeSet<ErrorType>,
}

impl JobOutcome {
    pub(super) fn new() -> Self {
        let mut outcome = Self::default();
        outcome.report.objects = 1;
        outcome
    }

    /// The outcome of an object that is not fetched.
    pub(super) fn skipped(job: &Job, skip: &Skip) -> Self {
        let mut outcome = Self::new();
        outcome.report.skip(skip.reason);
        if skip.log_file_removed
            && let ObjectEventKind::Removed(event) = &job.object_event.kind
        {
            let object = object_name(&job.object_event.object);
            let event = Escaped::name(event, 128);
            tracing::warn!(%object, %event, "a log file was removed");
        }
        outcome
    }

    /// Counts a decision of triage. The findings of an S3 Batch task stand in its result.
    pub(super) fn count(&mut self, triaged: &Triaged, is_batch_task: bool) {
        let report = &mut self.report;
        report.findings += 1;
        report.count_level(triaged.level);
        self.expired_filters
            .extend(triaged.expired_filters.iter().cloned());
        match &triaged.decision {
            Decision::BelowLevel => report.below_level += 1,
            Decision::Suppressed(filters) => {
                report.suppressed += 1;
                for filter in filters {
                    *report.suppressed_by.entry(filter.clone()).or_default() += 1;
                }
            }
            Decision::Unwatched(event) => {
                report.unwatched += 1;
                if self.unwatched.len() < NAMED_UNWATCHED || self.unwatched.contains_key(event) {
                    *self.unwatched.entry(event.clone()).or_default() += 1;
                }
            }
            Decision::ResultOnly(finding) => {
                report.result_only += 1;
                self.result.add(finding);
            }
            Decision::Alert(finding) if is_batch_task => self.result.add(finding),
            Decision::Alert(_) => {}
        }
    }

    /// Adds what the sender did.
    pub(super) fn add(&mut self, groups: SentGroups) {
        for (_, sent) in groups {
            add_sent(&mut self.report, &sent);
            for failure in sent.failures {
                self.fail(failure);
            }
        }
    }

    /// Ends the object: scanned, skipped or failed.
    pub(super) fn finish(mut self, end: ReadEnd, job: &Job, now: Timestamp) -> Self {
        self.log_warnings();
        self.report.fetched_bytes = end.fetched_bytes;
        self.report.expanded_bytes = end.expanded_bytes;
        let object = &job.object_event.object;
        match end.read {
            Ok(()) => {}
            Err(ReadError::NotALogFile(error)) => {
                self.skip_no_records(object, &error.to_string());
                return self;
            }
            Err(error) => self.fail(failure::read(object, &error)),
        }
        if self.failure.is_some() {
            self.report.failed += 1;
        } else {
            self.report.scanned += 1;
            if let Some(created_at) = job.object_event.created_at {
                self.report.note_handling_delay(created_at, now);
            }
        }
        self
    }

    fn skip_no_records(&mut self, object: &ObjectRef, error: &str) {
        tracing::warn!(
            object = %object_name(object),
            error,
            "skipped: holds no records"
        );
        self.report.skip("holds no records");
    }

    /// Logs the first failure of each kind, and keeps the one that the delivery reports.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.logged.insert(failure.error_type) {
            tracing::error!(
                error_type = %failure.error_type,
                retryable = failure.error_type.is_retryable(),
                error = failure.message,
                "object failed"
            );
        }
        // A retryable failure takes precedence: AWS must deliver the object again.
        let is_better = self.failure.as_ref().is_none_or(|kept| {
            failure.error_type.is_retryable() && !kept.error_type.is_retryable()
        });
        if is_better {
            self.failure = Some(failure);
        }
    }

    pub(super) fn log_warnings(&self) {
        for filter in &self.expired_filters {
            tracing::warn!(filter, "the filter has expired and suppresses nothing");
        }
        for (event, count) in &self.unwatched {
            tracing::warn!(
                event,
                count,
                "findings of a source that EVENT_SOURCES does not watch"
            );
        }
    }
}

/// Adds what became of a group's findings.
pub(super) fn add_sent(report: &mut Report, sent: &Sent) {
    report.messages += sent.messages;
    report.published += sent.published;
    report.duplicate += sent.duplicate;
    report.failed_findings += sent.failed;
    report.came_directly += sent.came_directly;
    report.not_directly += sent.not_directly;
    for delay in &sent.delays {
        report.note_alert_delay(
            delay.came_by.is_direct(),
            delay.event_time,
            delay.accepted_at,
        );
    }
}
