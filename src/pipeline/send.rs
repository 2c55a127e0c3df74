//! From the findings of one group to accepted alerts: claim, compose, publish, record.

use std::{
    collections::{BTreeMap, btree_map},
    time::Duration,
};

use futures_util::{StreamExt, stream};

use super::{
    AlertSink, LogStore, Pipeline, SinkError, failure,
    time::{TimeLeft, before},
};
use crate::{
    alert::{self, Alert, Context, Summary},
    envelope::{Failure, ObjectRef},
    ledger::{
        AlertAsSent, Archive, Claim, Kept, LedgerError, LedgerStore, Recorded, Ticket, record_key,
    },
    report::Report,
    rules::Finding,
};
use jiff::Timestamp;

/// Entries of one group that are written at the same time.
const CONCURRENT_ENTRIES: usize = 32;
/// How long the ledger is left alone after each failure to record an accepted alert.
const RECORD_WAITS: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Sends the alerts of one object.
pub(super) struct Sender<'a, S, A, L, C> {
    pub(super) pipeline: &'a Pipeline<S, A, L, C>,
    pub(super) object: &'a ObjectRef,
    pub(super) file_account: Option<&'a str>,
    pub(super) invocation: &'a str,
    pub(super) time: &'a TimeLeft,
    /// Whether records of this object have alerted before: then others probably have, too.
    pub(super) met_duplicates: bool,
}

/// What became of a group's findings.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) report: Report,
    pub(super) failures: Vec<Failure>,
    /// Findings on whose records another claim lives.
    pub(super) busy: Vec<Finding>,
    /// Whether the ledger knew one of the records.
    pub(super) met_duplicates: bool,
    /// Messages that the group has come to, with those that went out before.
    pub(super) parts: usize,
}

impl Sent {
    fn fail(&mut self, findings: usize, failure: Failure) {
        self.report.failed_findings += findings as u64;
        self.failures.push(failure);
    }
}

impl<S: LogStore, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Sender<'_, S, A, L, C> {
    /// Sends findings of one group, in as many messages as it takes; `sent_parts` of them went out
    /// before, and these are the `last` or not.
    pub(super) async fn send(&self, findings: Vec<Finding>, sent_parts: usize, last: bool) -> Sent {
        let mut sent = Sent {
            parts: sent_parts,
            ..Sent::default()
        };
        let mut claimed = self.claim(findings, &mut sent).await;
        if claimed.is_empty() {
            return sent;
        }
        claimed.sort_by(|(a, _), (b, _)| alert::order(a, b));
        let (findings, tickets): (Vec<Finding>, Vec<Ticket>) = claimed.into_iter().unzip();
        let context = self.context();
        let parts = alert::compose(&findings, &context, sent_parts, last);
        sent.parts += parts.len();
        let mut start = 0;
        for (alert, count) in parts {
            let range = start..start + count;
            start += count;
            self.publish(&alert, &findings[range.clone()], &tickets[range], &mut sent)
                .await;
        }
        sent
    }

    fn now(&self) -> Timestamp {
        (self.pipeline.clock)()
    }

    fn context(&self) -> Context<'_> {
        Context {
            object: self.object,
            file_account: self.file_account,
            now: self.now(),
            withhold_values: self.pipeline.settings.withhold_values,
        }
    }

    /// Claims each finding's record, the same record once; what others have alerted drops out.
    async fn claim(&self, findings: Vec<Finding>, sent: &mut Sent) -> Vec<(Finding, Ticket)> {
        let mut by_key: BTreeMap<String, Finding> = BTreeMap::new();
        for finding in findings {
            match by_key.entry(record_key(&finding.record)) {
                btree_map::Entry::Vacant(place) => {
                    place.insert(finding);
                }
                // Of two that claim to be the same, the graver one alerts.
                btree_map::Entry::Occupied(mut place) => {
                    if alert::order(&finding, place.get()).is_lt() {
                        place.insert(finding);
                    }
                    sent.report.duplicate += 1;
                }
            }
        }
        let claims: Vec<_> = stream::iter(by_key)
            .map(|(key, finding)| async move {
                let now = self.now();
                let until = self.time.claim_until(now);
                let ledger = &self.pipeline.ledger;
                let claim = ledger.claim(&key, self.invocation, self.met_duplicates, now, until);
                (finding, before(self.time.send_until(), now, claim).await)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let mut claimed = Vec::with_capacity(claims.len());
        for (finding, claim) in claims {
            match claim {
                Some(Ok(Claim::Ours(ticket))) => claimed.push((finding, ticket)),
                Some(Ok(Claim::Duplicate)) => {
                    sent.report.duplicate += 1;
                    sent.met_duplicates = true;
                }
                Some(Ok(Claim::Busy)) => sent.busy.push(finding),
                Some(Err(error)) => sent.fail(1, failure::of_ledger(self.object, &error)),
                None => sent.fail(1, failure::out_of_time(self.object)),
            }
        }
        claimed
    }

    async fn publish(
        &self,
        alert: &Alert,
        findings: &[Finding],
        tickets: &[Ticket],
        sent: &mut Sent,
    ) {
        let now = self.now();
        if !tickets
            .iter()
            .all(|ticket| self.time.may_send(now, ticket.until()))
        {
            sent.fail(findings.len(), failure::out_of_time(self.object));
            return self.release(tickets, sent).await;
        }
        let answer = before(self.time.end(), now, self.pipeline.sink.publish(alert)).await;
        match answer.unwrap_or_else(|| Err(SinkError::no_answer())) {
            Ok(message_id) => {
                let at = self.now();
                sent.report.alerts += 1;
                sent.report.published += findings.len() as u64;
                for finding in findings {
                    sent.report
                        .note_alert_delay(finding.record.event_time(), at);
                }
                self.record(alert, &message_id, at, findings, tickets, sent)
                    .await;
            }
            Err(error) => {
                let what = format!("an alert on {}", failure::shown(self.object));
                sent.fail(findings.len(), failure::of_sink(&what, &error));
                // Where nobody knows whether SNS took it, waiting for the claim to run out would
                // only delay the next try, which has to send it again in any case.
                self.release(tickets, sent).await;
            }
        }
    }

    /// Writes into the ledger that SNS has accepted the alert. Its text is kept with the first of
    /// its records; the others name that one.
    async fn record(
        &self,
        alert: &Alert,
        message_id: &str,
        at: Timestamp,
        findings: &[Finding],
        tickets: &[Ticket],
        sent: &mut Sent,
    ) {
        let context = &self.context();
        let log_file = &failure::shown(self.object);
        let write = |(index, (finding, ticket))| {
            let archive = Archive {
                log_file: log_file.clone(),
                finding: Summary::of(finding, context),
                alert: match index {
                    0 => Kept::AsSent(AlertAsSent::from(alert)),
                    _ => Kept::InEntry(tickets[0].key().to_owned()),
                },
            };
            async move {
                let written = self.write(ticket, message_id, at, archive);
                before(self.time.end(), self.now(), written)
                    .await
                    .unwrap_or_else(|| Err(cut_off(ticket)))
            }
        };
        let all: Vec<_> = stream::iter(findings.iter().zip(tickets).enumerate())
            .map(write)
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        for recorded in all {
            self.note(recorded, sent);
        }
    }

    /// Writes one entry. To give up would mean a second alert later, so a failure is tried again.
    async fn write(
        &self,
        ticket: &Ticket,
        message_id: &str,
        at: Timestamp,
        archive: Archive,
    ) -> Result<Recorded, LedgerError> {
        let ledger = &self.pipeline.ledger;
        for wait in RECORD_WAITS {
            if let Ok(recorded) = ledger.publish(ticket, message_id, at, &archive).await {
                return Ok(recorded);
            }
            tokio::time::sleep(wait).await;
        }
        ledger.publish(ticket, message_id, at, &archive).await
    }

    fn note(&self, recorded: Result<Recorded, LedgerError>, sent: &mut Sent) {
        match recorded {
            Ok(Recorded::Yes) => {}
            Ok(Recorded::Second) => {
                let object = failure::shown(self.object);
                tracing::warn!(object, "an alert went out twice: its claim had run out");
            }
            Err(error) => sent.failures.push(failure::of_ledger(self.object, &error)),
        }
    }

    async fn release(&self, tickets: &[Ticket], sent: &mut Sent) {
        let released: Vec<_> = stream::iter(tickets)
            .map(|ticket| {
                let release = self.pipeline.ledger.release(ticket);
                before(self.time.end(), self.now(), release)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        // A claim that could not be released runs out by itself.
        for error in released
            .into_iter()
            .flatten()
            .filter_map(std::result::Result::err)
        {
            sent.failures.push(failure::of_ledger(self.object, &error));
        }
    }
}

fn cut_off(ticket: &Ticket) -> LedgerError {
    LedgerError {
        message: format!(
            "{} not written before the invocation's deadline",
            ticket.key()
        ),
    }
}
