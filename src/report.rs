//! What one invocation did, in numbers: the source of the response and of the metrics.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::rules::Level;

/// CloudWatch takes at most this many values of one metric in one line.
const DELAY_VALUES: usize = 100;

/// Counters of one invocation; its names are those of the metrics.
///
/// `objects = scanned + skipped + failed`, and `findings = below_level + suppressed + unwatched +
/// told_only + duplicate + published + failed_findings`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// Objects that the envelope named, each once.
    pub objects: u64,
    /// Log files read to their end, all alerts sent.
    pub scanned: u64,
    /// Objects that are no log files, or events that are no creations.
    pub skipped: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Parts of the envelope that were not understood.
    pub envelope_problems: u64,
    /// Bytes fetched.
    pub fetched_bytes: u64,
    /// Bytes after inflating.
    pub expanded_bytes: u64,
    /// Records that matched a rule.
    pub findings: u64,
    /// Findings by level.
    pub findings_critical: u64,
    /// Findings by level.
    pub findings_high: u64,
    /// Findings by level.
    pub findings_medium: u64,
    /// Findings by level.
    pub findings_low: u64,
    /// Findings by level.
    pub findings_informational: u64,
    /// Findings below the minimum level.
    pub below_level: u64,
    /// Findings that a filter suppressed.
    pub suppressed: u64,
    /// Findings of sources that are not watched.
    pub unwatched: u64,
    /// Findings of S3 Batch tasks, told in the completion report and nowhere else.
    pub told_only: u64,
    /// Findings that had alerted before.
    pub duplicate: u64,
    /// Findings whose alert was accepted.
    pub published: u64,
    /// Findings whose alert was not accepted.
    pub failed_findings: u64,
    /// Messages that were accepted.
    pub alerts: u64,
    /// The user's rule files that were left out when the rules were loaded.
    pub rules_rejected: u64,
    /// Why objects were skipped.
    pub skipped_because: BTreeMap<&'static str, u64>,
    /// Filters and how many findings each suppressed.
    pub suppressed_by: BTreeMap<String, u64>,
    /// Seconds from event to accepted alert, one value a finding, as many as a line may hold.
    #[serde(skip)]
    pub alert_delay_seconds: Vec<f64>,
    /// Seconds from an object's creation to the end of its handling.
    #[serde(skip)]
    pub handling_delay_seconds: Vec<f64>,
}

impl Report {
    /// Adds another report's numbers.
    pub fn add(&mut self, other: &Self) {
        for (sum, number) in self.counters_mut().into_iter().zip(other.counters()) {
            *sum += number.1;
        }
        for (reason, count) in &other.skipped_because {
            *self.skipped_because.entry(reason).or_default() += count;
        }
        for (filter, count) in &other.suppressed_by {
            *self.suppressed_by.entry(filter.clone()).or_default() += count;
        }
        extend_bounded(&mut self.alert_delay_seconds, &other.alert_delay_seconds);
        extend_bounded(
            &mut self.handling_delay_seconds,
            &other.handling_delay_seconds,
        );
    }

    /// Every counter with its name, in a fixed order.
    pub fn counters(&self) -> [(&'static str, u64); 22] {
        [
            ("Objects", self.objects),
            ("Scanned", self.scanned),
            ("Skipped", self.skipped),
            ("Failed", self.failed),
            ("EnvelopeProblems", self.envelope_problems),
            ("FetchedBytes", self.fetched_bytes),
            ("ExpandedBytes", self.expanded_bytes),
            ("Findings", self.findings),
            ("FindingsCritical", self.findings_critical),
            ("FindingsHigh", self.findings_high),
            ("FindingsMedium", self.findings_medium),
            ("FindingsLow", self.findings_low),
            ("FindingsInformational", self.findings_informational),
            ("BelowLevel", self.below_level),
            ("Suppressed", self.suppressed),
            ("Unwatched", self.unwatched),
            ("ToldOnly", self.told_only),
            ("Duplicate", self.duplicate),
            ("Published", self.published),
            ("FailedFindings", self.failed_findings),
            ("Alerts", self.alerts),
            ("RulesRejected", self.rules_rejected),
        ]
    }

    fn counters_mut(&mut self) -> [&mut u64; 22] {
        [
            &mut self.objects,
            &mut self.scanned,
            &mut self.skipped,
            &mut self.failed,
            &mut self.envelope_problems,
            &mut self.fetched_bytes,
            &mut self.expanded_bytes,
            &mut self.findings,
            &mut self.findings_critical,
            &mut self.findings_high,
            &mut self.findings_medium,
            &mut self.findings_low,
            &mut self.findings_informational,
            &mut self.below_level,
            &mut self.suppressed,
            &mut self.unwatched,
            &mut self.told_only,
            &mut self.duplicate,
            &mut self.published,
            &mut self.failed_findings,
            &mut self.alerts,
            &mut self.rules_rejected,
        ]
    }

    pub(crate) fn skip(&mut self, reason: &'static str) {
        self.skipped += 1;
        *self.skipped_because.entry(reason).or_default() += 1;
    }

    pub(crate) fn count_level(&mut self, level: Level) {
        *match level {
            Level::Critical => &mut self.findings_critical,
            Level::High => &mut self.findings_high,
            Level::Medium => &mut self.findings_medium,
            Level::Low => &mut self.findings_low,
            Level::Informational => &mut self.findings_informational,
        } += 1;
    }

    pub(crate) fn note_alert_delay(&mut self, event: Option<Timestamp>, now: Timestamp) {
        if let Some(event) = event {
            note_delay(&mut self.alert_delay_seconds, event, now);
        }
    }

    pub(crate) fn note_handling_delay(&mut self, created: Timestamp, now: Timestamp) {
        note_delay(&mut self.handling_delay_seconds, created, now);
    }
}

fn note_delay(delays: &mut Vec<f64>, from: Timestamp, to: Timestamp) {
    // A clock that is behind must not make a negative delay.
    let seconds = to.duration_since(from).as_secs_f64().max(0.0);
    extend_bounded(delays, &[seconds]);
}

fn extend_bounded(delays: &mut Vec<f64>, more: &[f64]) {
    let room = DELAY_VALUES.saturating_sub(delays.len());
    delays.extend(more.iter().take(room));
}
