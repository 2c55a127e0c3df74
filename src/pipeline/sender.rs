//! Sender: sends the groups of one job, numbers the messages of large ones, and tries again what another
//! invocation has claimed. The [`Publisher`] does the work on each group.
//!
//! It does not know the log store, the scan or the rules. One sender serves one job, from its first
//! group to [`Sender::finish`].

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    failure,
    groups::Group,
    publisher::{Publisher, Sent, SentGroup},
    sink::AlertSink,
};
use crate::{alert::GroupKey, envelope::Failure, ledger::LedgerStore, rules::Finding};

/// What became of some groups, each by its key.
pub(super) type SentGroups = Vec<(GroupKey, Sent)>;

/// Groups that are sent at the same time.
const CONCURRENT_GROUPS: usize = 8;
/// Most groups whose numbers of parts are remembered; with more, all are forgotten.
const NUMBERED_GROUPS: usize = 1024;
/// Most bytes of records that are kept while another invocation has claimed them.
const CLAIMED_ELSEWHERE_BYTES: usize = 1 << 20;
/// Waits before each further look at the claims of other invocations.
const CLAIM_BACKOFF: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];
/// Sends the alerts of one job.
pub(super) struct Sender<'a, A, L, C> {
    publisher: Publisher<'a, A, L, C>,
    /// Whether records of this job have alerted before. Then others probably have, too.
    met_duplicates: bool,
    /// How many messages each group has come to on each topic, for groups of more than one.
    parts: HashMap<GroupKey, Vec<usize>>,
    /// Findings whose records another invocation has claimed. They are tried again after all others
    /// were sent, so that no two invocations wait for each other.
    claimed_elsewhere: BTreeMap<GroupKey, Vec<Finding>>,
    claimed_elsewhere_bytes: usize,
}

impl<'a, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Sender<'a, A, L, C> {
    pub(super) fn new(publisher: Publisher<'a, A, L, C>) -> Self {
        Self {
            publisher,
            met_duplicates: false,
            parts: HashMap::new(),
            claimed_elsewhere: BTreeMap::new(),
            claimed_elsewhere_bytes: 0,
        }
    }

    /// Sends groups, several at a time. Findings whose records another invocation has claimed are left
    /// for [`Sender::finish`], as far as memory allows.
    pub(super) async fn send(&mut self, groups: Vec<Group>) -> SentGroups {
        let (publisher, parts) = (&self.publisher, &self.parts);
        let read_first = self.met_duplicates;
        let groups: Vec<(GroupKey, bool, SentGroup)> = stream::iter(groups)
            .map(|group| async move {
                let (key, complete) = (group.key.clone(), group.complete);
                let parts_before = parts.get(&key).map_or(&[][..], Vec::as_slice);
                let sent = publisher.send(group, parts_before, read_first).await;
                (key, complete, sent)
            })
            .buffered(CONCURRENT_GROUPS)
            .collect()
            .await;
        let mut all = Vec::with_capacity(groups.len());
        for (key, complete, group) in groups {
            let mut sent = group.sent;
            self.met_duplicates |= group.met_duplicates;
            let not_kept = self.retry_later(&key, group.claimed_elsewhere);
            if not_kept > 0 {
                sent.fail(not_kept, self.failed_claims());
            }
            // A group of one complete message has no numbers, so what follows it begins without, too.
            if !complete || group.parts.iter().any(|parts| *parts > 1) {
                self.remember_parts(key.clone(), group.parts);
            }
            all.push((key, sent));
        }
        all
    }

    /// Waits some seconds for the claims of other invocations, and sends what they release.
    pub(super) async fn finish(mut self) -> SentGroups {
        let mut all = Vec::new();
        for wait in CLAIM_BACKOFF {
            if self.claimed_elsewhere.is_empty() {
                break;
            }
            let waited = self
                .publisher
                .deadline
                .while_sending(tokio::time::sleep(wait));
            if waited.await.is_none() {
                break;
            }
            self.claimed_elsewhere_bytes = 0;
            let groups = std::mem::take(&mut self.claimed_elsewhere).into_iter();
            let groups = groups.map(|(key, findings)| Group {
                key,
                findings,
                complete: true,
            });
            all.extend(self.send(groups.collect()).await);
        }
        for (key, findings) in std::mem::take(&mut self.claimed_elsewhere) {
            let mut sent = Sent::default();
            sent.fail(findings.len(), self.failed_claims());
            all.push((key, sent));
        }
        all
    }

    /// Keeps findings for [`Sender::finish`]. Returns how many were too many: the object's next
    /// delivery brings them again.
    fn retry_later(&mut self, key: &GroupKey, findings: Vec<Finding>) -> usize {
        let mut not_kept = 0;
        for finding in findings {
            let bytes = finding.record.memory_bytes();
            if self.claimed_elsewhere_bytes + bytes > CLAIMED_ELSEWHERE_BYTES {
                not_kept += 1;
            } else {
                self.claimed_elsewhere_bytes += bytes;
                let kept = self.claimed_elsewhere.entry(key.clone()).or_default();
                kept.push(finding);
            }
        }
        not_kept
    }

    fn remember_parts(&mut self, key: GroupKey, parts: Vec<usize>) {
        if self.parts.len() >= NUMBERED_GROUPS {
            self.parts.clear();
        }
        self.parts.insert(key, parts);
    }

    fn failed_claims(&self) -> Failure {
        failure::claimed_elsewhere(self.publisher.context.origin)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it can't go on")]

    use tokio::sync::{Mutex, Semaphore};

    use super::*;
    use crate::{
        alert::{AccountNames, Audience, Message, Style},
        cloudtrail::Record,
        envelope::ObjectRef,
        ledger::{Ledger, MemoryLedgerStore},
        pipeline::{
            deadline::Deadline,
            failure::Origin,
            publisher::SendContext,
            sink::{SinkError, Subscriptions, Topic},
        },
        rules::{Level, OptionalRules, RulePack},
    };

    struct RefusingSink;

    impl AlertSink for RefusingSink {
        async fn publish(&self, _: &Topic, _: &Message) -> Result<String, SinkError> {
            Err(SinkError::no_answer())
        }

        async fn subscriptions(&self, _: &Topic) -> Result<Subscriptions, SinkError> {
            unreachable!("only a self-test asks")
        }
    }

    fn group(event_id: &str) -> Group {
        let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
        let record = Record::from_value(serde_json::json!({
            "eventSource": "billingconsole.amazonaws.com",
            "eventName": "CloseAccount",
            "eventID": event_id,
        }));
        let rules = pack.evaluate(&record, Timestamp::UNIX_EPOCH).unwrap().rules;
        assert_eq!(rules[0].level, Level::Critical);
        Group {
            key: GroupKey::of(&record, None),
            findings: vec![Finding { record, rules }],
            complete: false,
        }
    }

    #[test]
    fn each_call_of_send_returns_its_own_failures_and_keeps_none() {
        let object = ObjectRef {
            bucket: "logs".to_owned(),
            key: "key".to_owned(),
            version_id: None,
        };
        let context = SendContext {
            origin: Origin::LogFile(&object),
            file_account: None,
            backfill: false,
            style: &Style {
                withhold_values: true,
                account_names: AccountNames::default(),
                time_zone: None,
            },
            invocation: "invocation",
        };
        let clock = || Timestamp::UNIX_EPOCH;
        let ledger = Ledger::new(MemoryLedgerStore::default());
        let topics = [Topic {
            arn: "topic".to_owned(),
            audience: Audience::People,
            minimum_level: Level::Medium,
        }];
        let deadline = Deadline::new(None, &clock);
        let (publishing, backfill_turn) = (Semaphore::new(1), Mutex::new(()));
        let mut sender = Sender::new(Publisher {
            ledger: &ledger,
            sink: &RefusingSink,
            topics: &topics,
            publishing: &publishing,
            backfill_turn: &backfill_turn,
            deadline: &deadline,
            context,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            for event_id in ["a", "b"] {
                let sent = sender.send(vec![group(event_id)]).await;
                let [(_, sent)] = &sent[..] else {
                    panic!("{} groups", sent.len());
                };
                assert_eq!((sent.failed, sent.failures.len()), (1, 1), "{event_id}");
            }
            assert!(sender.finish().await.is_empty());
        });
    }
}
