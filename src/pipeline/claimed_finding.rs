//! Findings whose records are claimed, on their way to the topics.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, btree_map},
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::{Mutex, Notify};

use super::{
    failure,
    publisher::{CONCURRENT_ENTRIES, Publisher, SentGroup},
    sink::AlertSink,
};
use crate::{
    alert::{self, FindingContent, RuleContents},
    cloudtrail::CameBy,
    ledger::{Claim, ClaimOutcome, ClaimRequest, LedgerStore, Publication, RecordId},
    rules::Finding,
};

/// A finding on its way to the topics, and the claim on its record.
pub(super) struct ClaimedFinding {
    pub(super) content: FindingContent,
    pub(super) came_by: CameBy,
    pub(super) event_time: Option<Timestamp>,
    /// Indexes of the topics that have to accept its alert.
    pub(super) topics: Vec<usize>,
    pub(super) claim: Mutex<Claim>,
    pub(super) claim_key: String,
    pub(super) claim_expires_at: Timestamp,
    /// What topics have accepted.
    pub(super) accepted: RefCell<Vec<Publication>>,
    /// How many of these the ledger holds.
    pub(super) recorded: Cell<usize>,
    /// Topics that have not answered.
    pub(super) unanswered: Cell<usize>,
    /// Wakes those who wait until each topic has answered.
    pub(super) all_answered: Notify,
    pub(super) failed: Cell<bool>,
}

impl<A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Publisher<'_, A, L, C> {
    /// Claims each finding's record, and returns what may alert now, in the order of the alert.
    pub(super) async fn claim(
        &self,
        findings: Vec<Finding>,
        read_first: bool,
        sent: &mut SentGroup,
    ) -> Vec<ClaimedFinding> {
        let (distinct, copies) = distinct(findings);
        sent.sent.duplicate += copies;
        let log_file = self.context.origin.log_file();
        let outcomes: Vec<_> = stream::iter(distinct)
            .map(|(record, finding)| {
                let log_file = log_file.as_ref();
                async move {
                    let now = self.deadline.now();
                    let topics = self.topics_of(&finding);
                    let arns: Vec<&str> = topics
                        .iter()
                        .map(|topic| &*self.topics[*topic].arn)
                        .collect();
                    let request = ClaimRequest {
                        record: &record,
                        topics: &arns,
                        log_file,
                        invocation: self.context.invocation,
                        read_first,
                        now,
                        expires_at: self.deadline.claim_expiry(now),
                    };
                    let claim = self.ledger.claim(&request);
                    (finding, topics, self.deadline.while_sending(claim).await)
                }
            })
            .buffer_unordered(CONCURRENT_ENTRIES)
            .collect()
            .await;
        let mut claimed = Vec::with_capacity(outcomes.len());
        let origin = self.context.origin;
        for (finding, topics, answer) in outcomes {
            let answer = match answer {
                Some(Ok(answer)) => answer,
                Some(Err(error)) => {
                    sent.sent.fail(1, failure::ledger(origin, &error));
                    continue;
                }
                None => {
                    sent.sent.fail(1, failure::deadline_exceeded(origin));
                    continue;
                }
            };
            match answer.came_directly {
                Some(true) => sent.sent.came_directly += 1,
                Some(false) => sent.sent.not_directly += 1,
                None => {}
            }
            match answer.outcome {
                ClaimOutcome::Acquired(claim) => claimed.push((finding, topics, *claim)),
                ClaimOutcome::AlreadyAlerted => {
                    sent.sent.duplicate += 1;
                    sent.met_duplicates = true;
                }
                ClaimOutcome::ClaimedElsewhere => sent.claimed_elsewhere.push(finding),
            }
        }
        claimed.sort_by(|(a, ..), (b, ..)| alert::order(a, b));
        let context = self.alert_context();
        let mut rules = RuleContents::default();
        let claimed = claimed.into_iter();
        claimed
            .map(|(finding, topics, claim)| {
                let is_missing = |topic: &usize| !claim.is_published_on(&self.topics[*topic].arn);
                let topics: Vec<usize> = topics.into_iter().filter(is_missing).collect();
                ClaimedFinding {
                    content: FindingContent::of(&finding, &context, &mut rules, claim.differs()),
                    came_by: finding.record.came_by(),
                    event_time: finding.record.event_time(),
                    unanswered: Cell::new(topics.len()),
                    all_answered: Notify::new(),
                    topics,
                    claim_expires_at: claim.expires_at(),
                    claim_key: claim.key().to_owned(),
                    claim: Mutex::new(claim),
                    accepted: RefCell::default(),
                    recorded: Cell::default(),
                    failed: Cell::default(),
                }
            })
            .collect()
    }

    /// Indexes of the topics that a finding is for. The rule's own level decides, not the lower one that
    /// is shown of a failed attempt.
    fn topics_of(&self, finding: &Finding) -> Vec<usize> {
        let topics = self.topics.iter().enumerate();
        topics
            .filter(|(_, topic)| finding.rule().level >= topic.minimum_level)
            .map(|(index, _)| index)
            .collect()
    }
}

impl ClaimedFinding {
    /// Notes what a topic has accepted. Returns how many have accepted something by now.
    pub(super) fn accept(&self, publication: Publication) -> usize {
        let mut accepted = self.accepted.borrow_mut();
        accepted.push(publication);
        accepted.len()
    }

    /// When the first topic accepted an alert.
    pub(super) fn first_accepted_at(&self) -> Option<Timestamp> {
        let accepted = self.accepted.borrow();
        accepted.first().map(|publication| publication.accepted_at)
    }

    /// Whether the ledger holds everything that topics have accepted.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded.get() == self.accepted.borrow().len()
    }

    /// Whether each topic has answered.
    pub(super) fn is_answered(&self) -> bool {
        self.unanswered.get() == 0
    }

    /// Counts an answer of one of its topics.
    pub(super) fn count_answer(&self) {
        self.unanswered.set(self.unanswered.get().saturating_sub(1));
        if self.is_answered() {
            self.all_answered.notify_waiters();
        }
    }

    /// Waits until each topic has answered.
    pub(super) async fn answered(&self) {
        if !self.is_answered() {
            self.all_answered.notified().await;
        }
    }
}

/// Returns each record once, and how many copies were dropped. Of two findings on the same record, the one
/// of the higher level stays.
///
/// Records of a log file with one event id are one record. Direct events with one event id may be forged,
/// so they are one record only if they say the same.
fn distinct(findings: Vec<Finding>) -> (Vec<(RecordId, Finding)>, u64) {
    let mut by_key: BTreeMap<String, (RecordId, Finding)> = BTreeMap::new();
    let mut copies = 0;
    for finding in findings {
        let record = RecordId::of(&finding.record);
        let key = if finding.record.came_by().is_direct() {
            record.key_of_content()
        } else {
            record.key()
        };
        match by_key.entry(key.to_owned()) {
            btree_map::Entry::Vacant(place) => {
                place.insert((record, finding));
            }
            btree_map::Entry::Occupied(mut place) => {
                copies += 1;
                if alert::order(&finding, &place.get().1).is_lt() {
                    place.insert((record, finding));
                }
            }
        }
    }
    (by_key.into_values().collect(), copies)
}
