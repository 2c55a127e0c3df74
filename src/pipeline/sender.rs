//! Sender: claims the records of a group, composes its messages, publishes them, and records in the
//! ledger what SNS has accepted.
//!
//! It knows ledger, sink and deadline, and nothing of where findings come from. One sender serves one
//! source of records from its first group to [`Sender::finish`].

use std::{
    collections::{BTreeMap, HashMap, btree_map},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    deadline::Deadline,
    failure,
    groups::Group,
    sink::{AlertSink, SinkError},
};
use crate::{
    alert::{self, Context, GroupKey, Message, Summary},
    envelope::{Failure, ObjectRef},
    ledger::{
        Archive, ArchivedMessage, Claim, ClaimOutcome, ClaimRequest, Ledger, LedgerError,
        LedgerStore, RecordOutcome, SentMessage, record_key,
    },
    rules::Finding,
};

/// Groups that are sent at the same time.
const CONCURRENT_GROUPS: usize = 8;
/// Entries of one group that are written at the same time.
const CONCURRENT_ENTRIES: usize = 32;
/// Groups whose parts are numbered on from one message to the next; past them numbers start anew.
const NUMBERED_GROUPS: usize = 1024;
/// Most bytes of records that wait for the claims of other invocations.
const WAITING_BYTES: usize = 1 << 20;
/// Waits before each further look at the claims of other invocations.
const CLAIM_BACKOFF: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];
/// Waits after each failure to record an accepted alert.
const RECORD_BACKOFF: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Sends the alerts of one source of records.
pub(super) struct Sender<'a, A, L, C> {
    ledger: &'a Ledger<L>,
    sink: &'a A,
    deadline: &'a Deadline<'a, C>,
    origin: Origin<'a>,
    /// Whether records of this source have alerted before. Then others probably have, too.
    met_duplicates: bool,
    /// How many messages each group has come to, for groups of more than one.
    parts: HashMap<GroupKey, usize>,
    /// Findings whose records another invocation holds. They are looked at again after all others
    /// were sent, so that no two invocations wait for each other.
    held_elsewhere: BTreeMap<GroupKey, Vec<Finding>>,
    held_elsewhere_bytes: usize,
    sent: Sent,
}

/// Where findings come from, as their alert shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'a> {
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
    /// Findings that had alerted before.
    pub(super) duplicate: u64,
    /// Findings that did not alert. Each has a failure below.
    pub(super) failed: u64,
    pub(super) failures: Vec<Failure>,
    /// When the event of each published finding happened and when SNS accepted its message.
    pub(super) delays: Vec<(Option<Timestamp>, Timestamp)>,
}

/// What became of one group.
#[derive(Default)]
struct SentGroup {
    sent: Sent,
    /// Findings whose records another invocation holds.
    held_elsewhere: Vec<Finding>,
    met_duplicates: bool,
    /// Messages that the group has come to, with those of earlier parts.
    parts: usize,
}

/// One message of a group, its findings, and the claims on their records.
struct Part<'a> {
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
    fn fail(&mut self, findings: usize, failure: Failure) {
        self.failed += findings as u64;
        self.failures.push(failure);
    }

    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.published += other.published;
        self.duplicate += other.duplicate;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.delays.extend(other.delays);
    }
}

impl<'a, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Sender<'a, A, L, C> {
    pub(super) fn new(
        ledger: &'a Ledger<L>,
        sink: &'a A,
        deadline: &'a Deadline<'a, C>,
        origin: Origin<'a>,
    ) -> Self {
        Self {
            ledger,
            sink,
            deadline,
            origin,
            met_duplicates: false,
            parts: HashMap::new(),
            held_elsewhere: BTreeMap::new(),
            held_elsewhere_bytes: 0,
            sent: Sent::default(),
        }
    }

    /// Sends groups, several at a time.
    pub(super) async fn send(&mut self, groups: Vec<Group>) {
        let sender = &*self;
        let sent: Vec<(GroupKey, bool, SentGroup)> = stream::iter(groups)
            .map(|group| async move {
                let (key, complete) = (group.key.clone(), group.complete);
                (key, complete, sender.send_group(group).await)
            })
            .buffered(CONCURRENT_GROUPS)
            .collect()
            .await;
        for (key, complete, sent) in sent {
            self.note(key, complete, sent);
        }
    }

    /// Waits some seconds for the claims of other invocations, then returns what became of
    /// everything that was sent.
    pub(super) async fn finish(mut self) -> Sent {
        for wait in CLAIM_BACKOFF {
            if self.held_elsewhere.is_empty() {
                break;
            }
            let waited = self.deadline.while_sending(tokio::time::sleep(wait));
            if waited.await.is_none() {
                break;
            }
            self.held_elsewhere_bytes = 0;
            let groups = std::mem::take(&mut self.held_elsewhere).into_iter();
            let groups = groups.map(|(key, findings)| Group {
                key,
                findings,
                complete: true,
            });
            self.send(groups.collect()).await;
        }
        let held: usize = self.held_elsewhere.values().map(Vec::len).sum();
        if held > 0 {
            let failure = failure::claimed_elsewhere(self.origin.object);
            self.sent.fail(held, failure);
        }
        self.sent
    }

    fn note(&mut self, key: GroupKey, complete: bool, group: SentGroup) {
        self.met_duplicates |= group.met_duplicates;
        self.sent.add(group.sent);
        for finding in group.held_elsewhere {
            self.keep_for_later(&key, finding);
        }
        // A finding that is released after a lone message gets a message of its own.
        if group.parts > 1 || !complete {
            if self.parts.len() >= NUMBERED_GROUPS {
                self.parts.clear();
            }
            self.parts.insert(key, group.parts);
        }
    }

    fn keep_for_later(&mut self, key: &GroupKey, finding: Finding) {
        let bytes = finding.record.memory_bytes();
        if self.held_elsewhere_bytes + bytes > WAITING_BYTES {
            // Too many to wait for: the object's next delivery brings them again.
            let failure = failure::claimed_elsewhere(self.origin.object);
            self.sent.fail(1, failure);
        } else {
            self.held_elsewhere_bytes += bytes;
            let held = self.held_elsewhere.entry(key.clone()).or_default();
            held.push(finding);
        }
    }

    /// Claims, composes, publishes and records the findings of one group.
    async fn send_group(&self, group: Group) -> SentGroup {
        let parts_before = self.parts.get(&group.key).copied().unwrap_or(0);
        let mut sent = SentGroup {
            parts: parts_before,
            ..SentGroup::default()
        };
        let (findings, claims) = self.claim(group.findings, &mut sent).await;
        if findings.is_empty() {
            return sent;
        }
        let messages = alert::compose(&findings, &self.context(), parts_before, group.complete);
        sent.parts += messages.len();
        let (mut findings, mut claims) = (&findings[..], &claims[..]);
        for (message, count) in &messages {
            let part = Part {
                message,
                findings: findings.split_off(..*count).unwrap_or_default(),
                claims: claims.split_off(..*count).unwrap_or_default(),
            };
            self.publish(&part, &mut sent.sent).await;
        }
        sent
    }

    fn context(&self) -> Context<'_> {
        Context {
            object: self.origin.object,
            file_account: self.origin.file_account,
            now: self.deadline.now(),
            withhold_values: self.origin.withhold_values,
        }
    }

    /// Claims each finding's record, and returns what may alert now, in the order of the alert.
    async fn claim(
        &self,
        findings: Vec<Finding>,
        sent: &mut SentGroup,
    ) -> (Vec<Finding>, Vec<Claim>) {
        let (by_key, copies) = distinct(findings);
        sent.sent.duplicate += copies;
        let outcomes: Vec<_> = stream::iter(by_key)
            .map(|(key, finding)| async move {
                let now = self.deadline.now();
                let request = ClaimRequest {
                    key: &key,
                    invocation: self.origin.invocation,
                    read_first: self.met_duplicates,
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
        let object = self.origin.object;
        for (finding, outcome) in outcomes {
            match outcome {
                Some(Ok(ClaimOutcome::Acquired(claim))) => claimed.push((finding, claim)),
                Some(Ok(ClaimOutcome::AlreadyAlerted)) => {
                    sent.sent.duplicate += 1;
                    sent.met_duplicates = true;
                }
                Some(Ok(ClaimOutcome::HeldElsewhere)) => sent.held_elsewhere.push(finding),
                Some(Err(error)) => sent.sent.fail(1, failure::ledger(object, &error)),
                None => sent.sent.fail(1, failure::deadline_exceeded(object)),
            }
        }
        claimed.sort_by(|(a, _), (b, _)| alert::order(a, b));
        claimed.into_iter().unzip()
    }

    async fn publish(&self, part: &Part<'_>, sent: &mut Sent) {
        let mut claims = part.claims.iter();
        if !claims.all(|claim| self.deadline.may_send(claim.expires_at())) {
            let failure = failure::deadline_exceeded(self.origin.object);
            sent.fail(part.findings.len(), failure);
            return self.release(part.claims, sent).await;
        }
        let answer = self.deadline.before_reply(self.sink.publish(part.message));
        match answer.await.unwrap_or_else(|| Err(SinkError::no_answer())) {
            Ok(message_id) => {
                let at = self.deadline.now();
                sent.messages += 1;
                sent.published += part.findings.len() as u64;
                let event_times = part.findings.iter();
                let event_times = event_times.map(|finding| finding.record.event_time());
                sent.delays.extend(event_times.map(|time| (time, at)));
                self.record(part, &Accepted { message_id, at }, sent).await;
            }
            Err(error) => {
                let failure = failure::publish(self.origin.object, &error);
                sent.fail(part.findings.len(), failure);
                // Nobody may know whether SNS accepted it. Waiting until the claim expires would only
                // delay the next try, which has to send the alert again in any case.
                self.release(part.claims, sent).await;
            }
        }
    }

    /// Records in the ledger that SNS has accepted the message. The first record's entry holds its
    /// text; the others name that entry.
    async fn record(&self, part: &Part<'_>, accepted: &Accepted, sent: &mut Sent) {
        let context = &self.context();
        let log_file = &failure::object_name(self.origin.object);
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
                self.record_one(claim, accepted, archive)
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        for outcome in recorded {
            match outcome {
                Ok(RecordOutcome::Recorded) => {}
                Ok(RecordOutcome::SecondAlert) => {
                    let object = failure::object_name(self.origin.object);
                    tracing::warn!(object, "a record alerted twice: its claim had expired");
                }
                Err(error) => sent
                    .failures
                    .push(failure::ledger(self.origin.object, &error)),
            }
        }
    }

    /// Writes one entry. To give up would mean a second alert later, so a failure is tried again.
    async fn record_one(
        &self,
        claim: &Claim,
        accepted: &Accepted,
        archive: Archive,
    ) -> Result<RecordOutcome, LedgerError> {
        let record = || {
            let Accepted { message_id, at } = accepted;
            self.ledger.record(claim, message_id, *at, &archive)
        };
        let recorded = async {
            for wait in RECORD_BACKOFF {
                if let Ok(recorded) = record().await {
                    return Ok(recorded);
                }
                tokio::time::sleep(wait).await;
            }
            record().await
        };
        let recorded = self.deadline.before_reply(recorded).await;
        recorded.unwrap_or_else(|| {
            let key = claim.key();
            Err(LedgerError::new(format!(
                "{key} was not written before the invocation's deadline"
            )))
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
        let failures = errors.map(|error| failure::ledger(self.origin.object, &error));
        sent.failures.extend(failures);
    }
}

/// Each record once, by its key in the ledger, and how many copies were dropped. Of two findings on
/// the same record the one of the higher level stays.
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
