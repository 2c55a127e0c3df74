//! Publisher: composes the messages of one group for each topic, publishes them, and records in the ledger
//! what SNS has accepted.

use std::{cell::Cell, time::Duration};

use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use jiff::Timestamp;
use tokio::{
    sync::{Mutex, Semaphore},
    time::sleep,
};

use super::{
    claimed_finding::ClaimedFinding,
    deadline::Deadline,
    failure::{self, Origin},
    groups::Group,
    sink::{AlertSink, SinkError, Topic},
};
use crate::{
    alert::{self, Audience, Context, FindingContent, Message, Style, Summary},
    cloudtrail::CameBy,
    envelope::Failure,
    ledger::{
        Archive, ArchivedMessage, Claim, Ledger, LedgerError, LedgerStore, Publication,
        PublicationOutcome, SentMessage,
    },
    rules::Finding,
};

/// Entries of one group that are written at the same time, and messages to machines that are sent.
pub(super) const CONCURRENT_ENTRIES: usize = 32;
/// How long an accepted alert waits for other topics to accept theirs, so that one write records all.
const ANSWERS_TOGETHER: Duration = Duration::from_millis(250);
/// Between two messages of a backfill. With at most ten instances, that is what a mailbox takes.
const BACKFILL_PAUSE: Duration = Duration::from_secs(1);
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
    pub(super) topics: &'a [Topic],
    /// Has a permit for each message that may be published at the same time.
    pub(super) publishing: &'a Semaphore,
    /// Held by the alert of a backfill that is being published.
    pub(super) backfill_turn: &'a Mutex<()>,
    pub(super) deadline: &'a Deadline<'a, C>,
    pub(super) context: SendContext<'a>,
}

/// What the sender needs to know of its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendContext<'a> {
    pub(super) origin: Origin<'a>,
    /// The account in the object's key, for records that name none.
    pub(super) file_account: Option<&'a str>,
    /// Whether a job over old log files asked for it.
    pub(super) backfill: bool,
    pub(super) style: &'a Style,
    pub(super) invocation: &'a str,
}

/// What became of the findings of a group.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Messages that SNS accepted.
    pub(super) messages: u64,
    /// Findings whose message each of their topics has accepted, at least one of them now.
    pub(super) published: u64,
    /// Findings that had alerted before, or that the job holds twice.
    pub(super) duplicate: u64,
    /// Findings that did not alert on some topic.
    pub(super) failed: u64,
    /// Findings of a log file that had come as direct events before.
    pub(super) came_directly: u64,
    /// Findings of a log file that had not.
    pub(super) not_directly: u64,
    /// Why findings failed, and why a publication was not recorded. One failure may stand for several
    /// findings.
    pub(super) failures: Vec<Failure>,
    /// How long the alert on each published finding took.
    pub(super) delays: Vec<AlertDelay>,
}

/// When an event happened, by which way its record came, and when SNS first accepted an alert on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertDelay {
    pub(super) came_by: CameBy,
    pub(super) event_time: Timestamp,
    pub(super) accepted_at: Timestamp,
}

/// What became of one group.
#[derive(Default)]
pub(super) struct SentGroup {
    pub(super) sent: Sent,
    /// Findings whose records another invocation has claimed.
    pub(super) claimed_elsewhere: Vec<Finding>,
    /// Whether the ledger knew one of the records.
    pub(super) met_duplicates: bool,
    /// Messages that the group has come to on each topic, with those of earlier parts.
    pub(super) parts: Vec<usize>,
}

/// A message that SNS has accepted.
struct Accepted<'a> {
    topic: &'a Topic,
    message: &'a Message,
    message_id: String,
    at: Timestamp,
}

impl Sent {
    pub(super) fn fail(&mut self, findings: usize, failure: Failure) {
        self.failed += findings as u64;
        self.failures.push(failure);
    }
}

impl<A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Publisher<'_, A, L, C> {
    /// Claims, composes, publishes and records the findings of one group.
    ///
    /// `parts_before` messages of the group were sent before on each topic. With `read_first` the ledger's
    /// entries are read before they are claimed, which is cheaper for records that have probably alerted.
    pub(super) async fn send(
        &self,
        group: Group,
        parts_before: &[usize],
        read_first: bool,
    ) -> SentGroup {
        let parts_before = |topic| parts_before.get(topic).copied().unwrap_or(0);
        let mut sent = SentGroup::default();
        let findings = self.claim(group.findings, read_first, &mut sent).await;
        let topics = self.topics.iter().enumerate();
        let sending = topics.map(|(index, topic)| {
            let findings: Vec<&ClaimedFinding> = findings
                .iter()
                .filter(|finding| finding.topics.contains(&index))
                .collect();
            self.send_to(topic, findings, parts_before(index), group.complete)
        });
        for (index, (messages, failures)) in join_all(sending).await.into_iter().enumerate() {
            sent.parts.push(parts_before(index) + messages.composed);
            sent.sent.messages += messages.accepted;
            sent.sent.failures.extend(failures);
        }
        for finding in &findings {
            if finding.failed.get() {
                sent.sent.failed += 1;
            } else {
                sent.sent.published += 1;
            }
            if let (Some(event_time), Some(accepted_at)) =
                (finding.event_time, finding.first_accepted_at())
            {
                sent.sent.delays.push(AlertDelay {
                    came_by: finding.came_by,
                    event_time,
                    accepted_at,
                });
            }
        }
        sent
    }

    pub(super) fn alert_context(&self) -> Context<'_> {
        Context {
            object: self.context.origin.object(),
            file_account: self.context.file_account,
            backfill: self.context.backfill,
            style: self.context.style,
            now: self.deadline.now(),
        }
    }

    /// Composes and publishes the messages for one topic. Returns how many, and what failed.
    async fn send_to(
        &self,
        topic: &Topic,
        findings: Vec<&ClaimedFinding>,
        parts_before: usize,
        last: bool,
    ) -> (Messages, Vec<Failure>) {
        if findings.is_empty() {
            return (Messages::default(), Vec::new());
        }
        let contents: Vec<&FindingContent> =
            findings.iter().map(|finding| &finding.content).collect();
        let context = self.alert_context();
        let composed = alert::compose(topic.audience, &contents, &context, parts_before, last);
        let mut rest = &findings[..];
        let parts: Vec<(&Message, &[&ClaimedFinding])> = composed
            .iter()
            .map(|(message, count)| (message, rest.split_off(..*count).unwrap_or_default()))
            .collect();
        // The numbered parts of a text go out in their order.
        let at_a_time = match topic.audience {
            Audience::People | Audience::Chat => 1,
            Audience::Machines => CONCURRENT_ENTRIES,
        };
        let outcomes: Vec<Result<Vec<Failure>, Vec<Failure>>> = stream::iter(parts)
            .map(|(message, findings)| self.publish(topic, message, findings))
            .buffer_unordered(at_a_time)
            .collect()
            .await;
        let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let failures = outcomes.into_iter().flat_map(|outcome| match outcome {
            Ok(failures) | Err(failures) => failures,
        });
        let messages = Messages {
            composed: composed.len(),
            accepted: accepted as u64,
        };
        (messages, failures.collect())
    }

    /// Publishes one message. Returns the failures to record it if SNS has accepted it, or else why it did
    /// not.
    async fn publish(
        &self,
        topic: &Topic,
        message: &Message,
        findings: &[&ClaimedFinding],
    ) -> Result<Vec<Failure>, Vec<Failure>> {
        let origin = self.context.origin;
        // History can wait, and must not flood the people who read about what happens now.
        let turn = if self.context.backfill && topic.audience != Audience::Machines {
            self.deadline.while_sending(self.backfill_turn.lock()).await
        } else {
            None
        };
        let permit = self.deadline.while_sending(self.publishing.acquire()).await;
        let mut expiries = findings.iter().map(|finding| finding.claim_expires_at);
        if permit.is_none() || !expiries.all(|at| self.deadline.may_send(at)) {
            drop(permit);
            return Err(self
                .fail(findings, failure::deadline_exceeded(origin))
                .await);
        }
        let answer = self
            .deadline
            .before_reply(self.sink.publish(topic, message));
        let answer = answer.await.unwrap_or_else(|| Err(SinkError::no_answer()));
        drop(permit);
        // SNS may have accepted what it did not answer, so the pause follows in any case.
        let pause = async {
            if let Some(turn) = turn {
                self.deadline.while_sending(sleep(BACKFILL_PAUSE)).await;
                drop(turn);
            }
        };
        let record = async {
            match answer {
                Ok(message_id) => {
                    let accepted = Accepted {
                        topic,
                        message,
                        message_id,
                        at: self.deadline.now(),
                    };
                    Ok(self.record_publications(findings, &accepted).await)
                }
                // Nobody may know whether SNS accepted it. Waiting until the claim expires would only delay
                // the next try, which has to send the alert again in any case.
                Err(error) => {
                    let failure = failure::publish(origin, topic, &error);
                    Err(self.fail(findings, failure).await)
                }
            }
        };
        join(record, pause).await.0
    }

    /// Notes that a topic has not accepted the message on these findings. Releases the claims that no other
    /// topic needs. One that cannot be released expires by itself.
    async fn fail(&self, findings: &[&ClaimedFinding], failure: Failure) -> Vec<Failure> {
        let released: Vec<_> = stream::iter(findings)
            .map(|finding| async move {
                finding.failed.set(true);
                finding.count_answer();
                let claim = finding.claim.lock().await;
                // What is still to be recorded gives the claim up itself.
                if finding.is_answered() && finding.is_recorded() {
                    let release = self.deadline.before_reply(self.ledger.release(&claim));
                    return release.await.unwrap_or(Ok(()));
                }
                Ok(())
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let errors = released.into_iter().filter_map(Result::err);
        let failures = errors.map(|error| failure::ledger(self.context.origin, &error));
        [failure].into_iter().chain(failures).collect()
    }

    /// Records in the ledger that SNS has accepted the message. The first record's entry holds its
    /// text; the others name that entry. Returns what could not be recorded.
    async fn record_publications(
        &self,
        findings: &[&ClaimedFinding],
        accepted: &Accepted<'_>,
    ) -> Vec<Failure> {
        // Asking the claim would wait for the other topics' entries.
        let lead = findings.first().map(|lead| &lead.claim_key);
        let recorded: Vec<_> = stream::iter(findings.iter().enumerate())
            .map(|(index, finding)| {
                let message = match lead {
                    Some(lead) if index > 0 => ArchivedMessage::InEntry(lead.clone()),
                    _ => ArchivedMessage::Here(SentMessage::from(accepted.message)),
                };
                self.record_publication(finding, accepted, message)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let mut failures = Vec::new();
        let origin = self.context.origin;
        for outcome in recorded {
            match outcome {
                Ok(PublicationOutcome::Recorded) => {}
                Ok(PublicationOutcome::SecondAlert) => {
                    let object = origin.to_string();
                    tracing::warn!(object, "a record alerted twice: its claim had expired");
                }
                Err(error) => failures.push(failure::ledger(origin, &error)),
            }
        }
        failures
    }

    /// Writes one entry. To give up would mean a second alert later, so a failure is tried again.
    async fn record_publication(
        &self,
        finding: &ClaimedFinding,
        accepted: &Accepted<'_>,
        message: ArchivedMessage,
    ) -> Result<PublicationOutcome, LedgerError> {
        finding.count_answer();
        let number = finding.accept(Publication {
            topic: accepted.topic.arn.clone(),
            message_id: accepted.message_id.clone(),
            accepted_at: accepted.at,
            archive: Some(Box::new(Archive {
                log_file: self.context.origin.log_file(),
                finding: Summary::of(&finding.content),
                message,
            })),
        });
        let last_error = Cell::new(None);
        let recorded = async {
            let _ = tokio::time::timeout(ANSWERS_TOGETHER, finding.answered()).await;
            let claim = &mut *finding.claim.lock().await;
            for wait in PUBLICATION_BACKOFF {
                match self.record_accepted(finding, claim, number).await {
                    Ok(recorded) => return Ok(recorded),
                    Err(error) => last_error.set(Some(error)),
                }
                sleep(wait).await;
            }
            self.record_accepted(finding, claim, number).await
        };
        let recorded = self.deadline.before_reply(recorded).await;
        recorded.unwrap_or_else(|| {
            let key = &finding.claim_key;
            let message = format!("{key} was not written before the invocation's deadline");
            Err(LedgerError {
                source: last_error.take().map(Into::into),
                ..LedgerError::new(message)
            })
        })
    }

    /// Records everything that topics have accepted by now, unless the first `number` of it are recorded.
    async fn record_accepted(
        &self,
        finding: &ClaimedFinding,
        claim: &mut Claim,
        number: usize,
    ) -> Result<PublicationOutcome, LedgerError> {
        if finding.recorded.get() >= number {
            return Ok(PublicationOutcome::Recorded);
        }
        let accepted = finding.accepted.borrow().clone();
        let is_last = finding.is_answered();
        let recorded = self.ledger.record_publications(claim, &accepted, is_last);
        let outcome = recorded.await?;
        finding.recorded.set(accepted.len());
        Ok(outcome)
    }
}

/// How many messages a topic had to get, and how many it accepted.
#[derive(Default)]
struct Messages {
    composed: usize,
    accepted: u64,
}
