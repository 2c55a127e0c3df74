//! Publisher: claims the records of one group, composes its messages, publishes them, and records in
//! the ledger what SNS has accepted.

use std::{
    cell::Cell,
    collections::{BTreeMap, btree_map},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{
    deadline::Deadline,
    failure,
    groups::Group,
    sink::{AlertSink, SinkError},
};
use crate::{
    alert::{self, Context, Message, Summary},
    envelope::{Failure, ObjectRef},
    ledger::{
        Archive, ArchivedMessage, Claim, ClaimOutcome, ClaimRequest, Ledger, LedgerError,
        LedgerStore, PublicationOutcome, SentMessage, record_key,
    },
    rules::Finding,
};

/// Entries of one group that are written at the same time.
const CONCURRENT_ENTRIES: usize = 32;
/// Waits after each failure to record an accepted alert.
const PUBLICATION_BACKOFF: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Sends single groups.
pub(super) struct Publisher<'a, A, L, C> {
    pub(super) ledger: &'a Ledger<L>,
    pub(super) sink: &'a A,
    /// Has a permit for each message that may be published at the same time.
    pub(super) publishing: &'a Semaphore,
    pub(super) deadline: &'a Deadline<'a, C>,
    pub(super) context: SendContext<'a>,
}

/// What the sender needs to know of its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendContext<'a> {
    pub(super) object: &'a ObjectRef,
    /// The account in the object's key, for records that name none.
    pub(super) file_account: Option<&'a str>,
    pub(super) withhold_values: bool,
    pub(super) invocation: &'a str,
}

/// What became of findings.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Messages that SNS accepted.
    pub(super) messages: u64,
    /// Findings in these messages.
    pub(super) published: u64,
    /// Findings that had alerted before, or that the job holds twice.
    pub(super) duplicate: u64,
    /// Findings that did not alert.
    pub(super) failed: u64,
    /// Why they did not, and why a publication was not recorded. One failure may stand for several
    /// findings.
    pub(super) failures: Vec<Failure>,
    /// When the event of each published finding happened, and when SNS accepted its message.
    pub(super) delays: Vec<(Option<Timestamp>, Timestamp)>,
}

/// What became of one group.
#[derive(Default)]
pub(super) struct SentGroup {
    pub(super) sent: Sent,
    /// Findings whose records another invocation has claimed.
    pub(super) claimed_elsewhere: Vec<Finding>,
    /// Whether the ledger knew one of the records.
    pub(super) met_duplicates: bool,
    /// Messages that the group has come to, with those of earlier parts.
    pub(super) parts: usize,
}

/// One message of a group, its findings, and the claims on their records.
struct ClaimedMessage<'a> {
    message: &'a Message,
    findings: &'a [Finding],
    claims: &'a [Claim],
}

/// A message that SNS has accepted.
struct Accepted {
    message_id: String,
    at: Timestamp,
}

impl Sent {
    pub(super) fn fail(&mut self, findings: usize, failure: Failure) {
        self.failed += findings as u64;
        self.failures.push(failure);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.published += other.published;
        self.duplicate += other.duplicate;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.delays.extend(other.delays);
    }
}

impl<A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Publisher<'_, A, L, C> {
    /// Claims, composes, publishes and records the findings of one group.
    ///
    /// `parts_before` messages of the group were sent before. With `read_first` the ledger's entries are
    /// read before they are claimed, which is cheaper for records that have probably alerted.
    pub(super) async fn send(
        &self,
        group: Group,
        parts_before: usize,
        read_first: bool,
    ) -> SentGroup {
        let mut sent = SentGroup {
            parts: parts_before,
            ..SentGroup::default()
        };
        let (findings, claims) = self.claim(group.findings, read_first, &mut sent).await;
        if findings.is_empty() {
            return sent;
        }
        let messages = alert::compose(
            &findings,
            &self.alert_context(),
            parts_before,
            group.complete,
        );
        sent.parts += messages.len();
        let (mut findings, mut claims) = (&findings[..], &claims[..]);
        for (message, count) in &messages {
            let part = ClaimedMessage {
                message,
                findings: findings.split_off(..*count).unwrap_or_default(),
                claims: claims.split_off(..*count).unwrap_or_default(),
            };
            self.publish(&part, &mut sent.sent).await;
        }
        sent
    }

    fn alert_context(&self) -> Context<'_> {
        Context {
            object: self.context.object,
            file_account: self.context.file_account,
            now: self.deadline.now(),
            withhold_values: self.context.withhold_values,
        }
    }

    /// Claims each finding's record, and returns what may alert now, in the order of the alert.
    async fn claim(
        &self,
        findings: Vec<Finding>,
        read_first: bool,
        sent: &mut SentGroup,
    ) -> (Vec<Finding>, Vec<Claim>) {
        let (by_key, copies) = distinct(findings);
        sent.sent.duplicate += copies;
        let outcomes: Vec<_> = stream::iter(by_key)
            .map(|(key, finding)| async move {
                let now = self.deadline.now();
                let request = ClaimRequest {
                    key: &key,
                    invocation: self.context.invocation,
                    read_first,
                    now,
                    expires_at: self.deadline.claim_expiry(now),
                };
                let claim = self.ledger.claim(&request);
                (finding, self.deadline.while_sending(claim).await)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let mut claimed = Vec::with_capacity(outcomes.len());
        let object = self.context.object;
        for (finding, outcome) in outcomes {
            match outcome {
                Some(Ok(ClaimOutcome::Acquired(claim))) => claimed.push((finding, claim)),
                Some(Ok(ClaimOutcome::AlreadyAlerted)) => {
                    sent.sent.duplicate += 1;
                    sent.met_duplicates = true;
                }
                Some(Ok(ClaimOutcome::ClaimedElsewhere)) => sent.claimed_elsewhere.push(finding),
                Some(Err(error)) => sent.sent.fail(1, failure::ledger(object, &error)),
                None => sent.sent.fail(1, failure::deadline_exceeded(object)),
            }
        }
        claimed.sort_by(|(a, _), (b, _)| alert::order(a, b));
        claimed.into_iter().unzip()
    }

    async fn publish(&self, part: &ClaimedMessage<'_>, sent: &mut Sent) {
        let permit = self.deadline.while_sending(self.publishing.acquire()).await;
        let mut claims = part.claims.iter();
        if permit.is_none() || !claims.all(|claim| self.deadline.may_send(claim.expires_at())) {
            drop(permit);
            let failure = failure::deadline_exceeded(self.context.object);
            sent.fail(part.findings.len(), failure);
            return self.release(part.claims, sent).await;
        }
        let answer = self.deadline.before_reply(self.sink.publish(part.message));
        let answer = answer.await.unwrap_or_else(|| Err(SinkError::no_answer()));
        drop(permit);
        match answer {
            Ok(message_id) => {
                let at = self.deadline.now();
                sent.messages += 1;
                sent.published += part.findings.len() as u64;
                let event_times = part.findings.iter();
                let event_times = event_times.map(|finding| finding.record.event_time());
                sent.delays.extend(event_times.map(|time| (time, at)));
                let accepted = Accepted { message_id, at };
                self.record_publications(part, &accepted, sent).await;
            }
            Err(error) => {
                let failure = failure::publish(self.context.object, &error);
                sent.fail(part.findings.len(), failure);
                // Nobody may know whether SNS accepted it. Waiting until the claim expires would only
                // delay the next try, which has to send the alert again in any case.
                self.release(part.claims, sent).await;
            }
        }
    }

    /// Records in the ledger that SNS has accepted the message. The first record's entry holds its
    /// text; the others name that entry.
    async fn record_publications(
        &self,
        part: &ClaimedMessage<'_>,
        accepted: &Accepted,
        sent: &mut Sent,
    ) {
        let context = &self.alert_context();
        let log_file = &failure::object_name(self.context.object);
        let lead = part.claims.first();
        let records = part.findings.iter().zip(part.claims).enumerate();
        let recorded: Vec<_> = stream::iter(records)
            .map(|(index, (finding, claim))| {
                let message = match lead {
                    Some(lead) if index > 0 => ArchivedMessage::InEntry(lead.key().to_owned()),
                    _ => ArchivedMessage::Here(SentMessage::from(part.message)),
                };
                let archive = Archive {
                    log_file: log_file.clone(),
                    finding: Summary::of(finding, context),
                    message,
                };
                self.record_publication(claim, accepted, archive)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        for outcome in recorded {
            match outcome {
                Ok(PublicationOutcome::Recorded) => {}
                Ok(PublicationOutcome::SecondAlert) => {
                    let object = failure::object_name(self.context.object);
                    tracing::warn!(object, "a record alerted twice: its claim had expired");
                }
                Err(error) => sent
                    .failures
                    .push(failure::ledger(self.context.object, &error)),
            }
        }
    }

    /// Writes one entry. To give up would mean a second alert later, so a failure is tried again.
    async fn record_publication(
        &self,
        claim: &Claim,
        accepted: &Accepted,
        archive: Archive,
    ) -> Result<PublicationOutcome, LedgerError> {
        let Accepted { message_id, at } = accepted;
        let record = || {
            self.ledger
                .record_publication(claim, message_id, *at, &archive)
        };
        let last_error = Cell::new(None);
        let recorded = async {
            for wait in PUBLICATION_BACKOFF {
                match record().await {
                    Ok(recorded) => return Ok(recorded),
                    Err(error) => last_error.set(Some(error)),
                }
                tokio::time::sleep(wait).await;
            }
            record().await
        };
        let recorded = self.deadline.before_reply(recorded).await;
        recorded.unwrap_or_else(|| {
            let key = claim.key();
            let message = format!("{key} was not written before the invocation's deadline");
            Err(LedgerError {
                source: last_error.take().map(Into::into),
                ..LedgerError::new(message)
            })
        })
    }

    /// Releases claims whose alert was not accepted. One that cannot be released expires by itself.
    async fn release(&self, claims: &[Claim], sent: &mut Sent) {
        let released: Vec<_> = stream::iter(claims)
            .map(|claim| self.deadline.before_reply(self.ledger.release(claim)))
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let errors = released.into_iter().flatten().filter_map(Result::err);
        let failures = errors.map(|error| failure::ledger(self.context.object, &error));
        sent.failures.extend(failures);
    }
}

/// Returns each record once, by its key in the ledger, and how many copies were dropped. Of two findings
/// on the same record, the one of the higher level stays.
fn distinct(findings: Vec<Finding>) -> (BTreeMap<String, Finding>, u64) {
    let mut by_key: BTreeMap<String, Finding> = BTreeMap::new();
    let mut copies = 0;
    for finding in findings {
        match by_key.entry(record_key(&finding.record)) {
            btree_map::Entry::Vacant(place) => {
                place.insert(finding);
            }
            btree_map::Entry::Occupied(mut place) => {
                copies += 1;
                if alert::order(&finding, place.get()).is_lt() {
                    place.insert(finding);
                }
            }
        }
    }
    (by_key, copies)
}
