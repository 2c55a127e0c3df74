//! The report: what one invocation did, in numbers. The reply and the metrics follow from it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::rules::{Level, PackIdentity};

/// CloudWatch takes at most this many values of one metric in one line.
const DELAY_VALUES: usize = 100;

/// Makes [`Report`] from a list of its counters, so that each is named once.
macro_rules! report {
    ($($(#[doc = $doc:literal])+ $counter:ident: $name:literal,)+) => {
        /// What one invocation did, in numbers. The counters have the names of the metrics.
        ///
        /// `objects = scanned + skipped + failed`, `direct_events = direct_scanned + direct_skipped +
        /// direct_failed`, and `findings = below_level + suppressed + unwatched + result_only + duplicate +
        /// published + failed_findings`.
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        pub struct Report {
            $($(#[doc = $doc])+ #[serde(rename = $name)] pub $counter: u64,)+
            /// Why objects were skipped, and how many for each reason.
            #[serde(rename = "SkippedBecause")]
            pub skipped_because: BTreeMap<&'static str, u64>,
            /// Filters, and how many findings each suppressed.
            #[serde(rename = "SuppressedBy")]
            pub suppressed_by: BTreeMap<String, u64>,
            /// The rules that the invocation applied; `None` if it ended before it had any.
            #[serde(rename = "Rules", skip_serializing_if = "Option::is_none")]
            pub rules: Option<PackIdentity>,
            /// Whether the canary before this one did not arrive in time: 1 or 0; `None` where the
            /// invocation was not about canaries.
            #[serde(rename = "CanaryMissing", skip_serializing_if = "Option::is_none")]
            pub canary_missing: Option<u64>,
            /// Accounts that had log files before and have none now; `None` where the invocation was no
            /// coverage check.
            #[serde(rename = "AccountsWithoutLogs", skip_serializing_if = "Option::is_none")]
            pub accounts_without_logs: Option<u64>,
            /// The ids of the first 100 of these accounts.
            #[serde(rename = "WithoutLogs", skip_serializing_if = "Vec::is_empty")]
            pub without_logs: Vec<String>,
            /// Direct events that came between one and two days ago and that no log file has confirmed;
            /// `None` where the invocation did not look for them.
            #[serde(rename = "UnconfirmedDirectEvents", skip_serializing_if = "Option::is_none")]
            pub unconfirmed_direct_events: Option<u64>,
            /// The ledger's names of the first 100 of these.
            #[serde(rename = "Unconfirmed", skip_serializing_if = "Vec::is_empty")]
            pub unconfirmed: Vec<String>,
            /// Seconds from a canary's call until its record was scanned.
            #[serde(skip)]
            pub canary_delay_seconds: Vec<f64>,
            /// Seconds from the event to its first accepted alert, for as many findings of log files as one
            /// line of metrics may hold.
            #[serde(skip)]
            pub log_file_alert_delay_seconds: Vec<f64>,
            /// The same for direct events.
            #[serde(skip)]
            pub direct_alert_delay_seconds: Vec<f64>,
            /// Seconds from an object's creation until it was handled, likewise.
            #[serde(skip)]
            pub handling_delay_seconds: Vec<f64>,
        }

        impl Report {
            /// Every counter with its name, in the order of the struct.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$counter)),+].into_iter()
            }

            fn add_counters(&mut self, other: &Self) {
                $(self.$counter += other.$counter;)+
            }
        }
    };
}

report! {
    /// Objects that the envelope named, each once.
    objects: "Objects",
    /// Log files that were read to their end and whose alerts were all accepted.
    scanned: "Scanned",
    /// Objects that are not log files, and object events that are not creations.
    skipped: "Skipped",
    /// Objects that failed.
    failed: "Failed",
    /// Direct events that the envelope held, each once.
    direct_events: "DirectEvents",
    /// Direct events that were handled, with their alerts accepted.
    direct_scanned: "DirectScanned",
    /// Direct events that are no records of API calls, console actions, sign-ins or services.
    direct_skipped: "DirectSkipped",
    /// Direct events that were refused, or whose alerts were not accepted.
    direct_failed: "DirectFailed",
    /// Parts of the envelope of an unknown shape.
    envelope_problems: "EnvelopeProblems",
    /// Bytes fetched.
    fetched_bytes: "FetchedBytes",
    /// Bytes after inflating.
    expanded_bytes: "ExpandedBytes",
    /// Records that matched a rule.
    findings: "Findings",
    /// Findings of level critical.
    findings_critical: "FindingsCritical",
    /// Findings of level high.
    findings_high: "FindingsHigh",
    /// Findings of level medium.
    findings_medium: "FindingsMedium",
    /// Findings of level low.
    findings_low: "FindingsLow",
    /// Findings of level informational.
    findings_informational: "FindingsInformational",
    /// Findings below the minimum level.
    below_level: "BelowLevel",
    /// Findings that a filter suppressed.
    suppressed: "Suppressed",
    /// Findings of sources that are not watched.
    unwatched: "Unwatched",
    /// Findings of S3 Batch tasks that stand only in the task's result.
    result_only: "ResultOnly",
    /// Findings that had alerted before on each of their topics, or that are in the object twice.
    duplicate: "Duplicate",
    /// Findings whose alert SNS accepted on each topic that had not accepted it before.
    published: "Published",
    /// Findings without an accepted alert on some topic: SNS or the ledger failed, another invocation has
    /// claimed the record, or time ran out.
    failed_findings: "FailedFindings",
    /// Findings of log files, each counted in the first one, that had come as direct events before.
    came_directly: "CameDirectly",
    /// Findings of log files, likewise, that had not.
    not_directly: "NotDirectly",
    /// SNS messages that were accepted.
    messages: "Messages",
    /// The user's rule files that were left out when the rules were loaded.
    rules_rejected: "RulesRejected",
}

impl Report {
    /// Adds another report's numbers.
    pub fn add(&mut self, other: &Self) {
        self.add_counters(other);
        for (reason, count) in &other.skipped_because {
            *self.skipped_because.entry(reason).or_default() += count;
        }
        for (filter, count) in &other.suppressed_by {
            *self.suppressed_by.entry(filter.clone()).or_default() += count;
        }
        extend_bounded(&mut self.canary_delay_seconds, &other.canary_delay_seconds);
        extend_bounded(
            &mut self.log_file_alert_delay_seconds,
            &other.log_file_alert_delay_seconds,
        );
        extend_bounded(
            &mut self.direct_alert_delay_seconds,
            &other.direct_alert_delay_seconds,
        );
        extend_bounded(
            &mut self.handling_delay_seconds,
            &other.handling_delay_seconds,
        );
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

    pub(crate) fn note_alert_delay(
        &mut self,
        is_direct: bool,
        event_time: Timestamp,
        accepted_at: Timestamp,
    ) {
        let delays = if is_direct {
            &mut self.direct_alert_delay_seconds
        } else {
            &mut self.log_file_alert_delay_seconds
        };
        note_delay(delays, event_time, accepted_at);
    }

    pub(crate) fn note_canary_delay(&mut self, delay: Option<SignedDuration>) {
        if let Some(delay) = delay {
            // A clock that is behind must not make a negative delay.
            let seconds = delay.as_secs_f64().max(0.0);
            extend_bounded(&mut self.canary_delay_seconds, &[seconds]);
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
