//! The direct events of one invocation, which share their groups: their way through the stages, and what
//! became of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Pipeline,
    deadline::Deadline,
    failure::Origin,
    groups::Groups,
    outcome::{JobOutcome, add_sent},
    plan::{DirectAction, PlannedEvent},
    publisher::SendContext,
    record_source::LogStore,
    sender::SentGroups,
    sink::AlertSink,
    triage::{Decision, Triaged},
};
use crate::{alert::GroupKey, envelope::Failure, ledger::LedgerStore, report::Report};

impl<S: LogStore, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Pipeline<S, A, L, C> {
    /// Takes the direct events of an invocation through the stages together.
    pub(super) async fn handle_direct_events(
        &self,
        events: &[PlannedEvent<'_>],
        invocation: &str,
        deadline: &Deadline<'_, C>,
    ) -> DirectEnd {
        if events.is_empty() {
            return DirectEnd::default();
        }
        // On the heap: most invocations have none.
        Box::pin(self.take_direct_events(events, invocation, deadline)).await
    }

    async fn take_direct_events(
        &self,
        events: &[PlannedEvent<'_>],
        invocation: &str,
        deadline: &Deadline<'_, C>,
    ) -> DirectEnd {
        let mut groups = Groups::new(None);
        let mut sender = self.sender(
            SendContext {
                origin: Origin::DirectEvents,
                file_account: None,
                backfill: false,
                style: &self.style,
                invocation,
            },
            deadline,
        );
        let mut outcome = DirectOutcome::default();
        for event in events {
            match &event.action {
                DirectAction::Skip(reason) => outcome.skip(reason),
                DirectAction::Refuse(failure) => outcome.refuse(event, failure),
                DirectAction::Take => {
                    let record = &event.event.record;
                    // The canary is expected in a log file.
                    let is_candidate =
                        self.candidates.include(record) && self.canary_nonce(record).is_none();
                    let triaged = is_candidate
                        .then(|| self.triage.decide(record.clone(), false, deadline.now()))
                        .flatten();
                    let Some(triaged) = triaged else {
                        outcome.done();
                        continue;
                    };
                    outcome.count(&triaged);
                    let Decision::Alert(finding) = triaged.decision else {
                        outcome.done();
                        continue;
                    };
                    outcome.join(GroupKey::of(record, None), event);
                    if let Some(group) = groups.add(finding) {
                        outcome.add(sender.send(vec![group]).await);
                    }
                }
            }
        }
        outcome.add(sender.send(groups.into_rest()).await);
        outcome.add(sender.finish().await);
        outcome.finish(events.len() as u64)
    }
}

/// What became of the direct events so far.
#[derive(Default)]
struct DirectOutcome<'a> {
    report: Report,
    /// Counts decisions, and logs each kind of failure once.
    tally: JobOutcome,
    /// The events that had a part in each group.
    parts: BTreeMap<GroupKey, Vec<&'a PlannedEvent<'a>>>,
    failed: BTreeMap<GroupKey, Vec<Failure>>,
    /// Failures by delivery.
    failures: BTreeMap<usize, Vec<Failure>>,
}

/// What became of all of them.
#[derive(Default)]
pub(super) struct DirectEnd {
    pub(super) report: Report,
    /// Failures by delivery.
    pub(super) failures: BTreeMap<usize, Vec<Failure>>,
}

impl<'a> DirectOutcome<'a> {
    fn skip(&mut self, reason: &'static str) {
        self.report.direct_skipped += 1;
        *self.report.skipped_because.entry(reason).or_default() += 1;
    }

    /// Notes an event that is not taken, in each delivery that it came in.
    fn refuse(&mut self, event: &PlannedEvent<'_>, failure: &Failure) {
        self.report.direct_failed += 1;
        self.tally.fail(failure.clone());
        for delivery in &event.deliveries {
            self.failures
                .entry(*delivery)
                .or_default()
                .push(failure.clone());
        }
    }

    /// Notes an event that does not alert.
    fn done(&mut self) {
        self.report.direct_scanned += 1;
    }

    fn count(&mut self, triaged: &Triaged) {
        self.tally.count(triaged, false);
    }

    /// Notes that an event has a part in a group.
    fn join(&mut self, key: GroupKey, event: &'a PlannedEvent<'a>) {
        self.parts.entry(key).or_default().push(event);
    }

    /// Adds what the sender did.
    fn add(&mut self, groups: SentGroups) {
        for (key, sent) in groups {
            add_sent(&mut self.report, &sent);
            for failure in sent.failures {
                self.tally.fail(failure.clone());
                let failures = self.failed.entry(key.clone()).or_default();
                if !failures
                    .iter()
                    .any(|other| other.error_type == failure.error_type)
                {
                    failures.push(failure);
                }
            }
        }
    }

    /// Ends the events: a failed group fails each delivery that had a part in it.
    fn finish(mut self, events: u64) -> DirectEnd {
        self.tally.log_warnings();
        for (key, events) in &self.parts {
            let Some(failures) = self.failed.get(key) else {
                self.report.direct_scanned += events.len() as u64;
                continue;
            };
            self.report.direct_failed += events.len() as u64;
            let deliveries = events.iter().flat_map(|event| &event.deliveries);
            for delivery in deliveries.collect::<BTreeSet<_>>() {
                let failed = self.failures.entry(*delivery).or_default();
                failed.extend(failures.iter().cloned());
            }
        }
        self.report.add(&self.tally.report);
        self.report.direct_events = events;
        DirectEnd {
            report: self.report,
            failures: self.failures,
        }
    }
}
