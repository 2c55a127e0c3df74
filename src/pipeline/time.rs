//! How an invocation spends the time it has: reading stops early enough for what was read to alert,
//! and no alert is begun without time for one slow answer of SNS and then one of the ledger.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::REQUEST_TIME;

/// The longest timeout that the function may have; an invocation without a deadline claims records
/// for as long.
const LONGEST_INVOCATION: SignedDuration = SignedDuration::from_secs(60);
/// How much longer than its claimant a claim lives, for clocks that differ.
const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// What is kept for claims and the composing of alerts once reading has stopped.
const CLAIM_TIME: Duration = Duration::from_secs(4);
/// What is kept for the reply.
const REPLY_TIME: Duration = Duration::from_secs(1);

/// The points in time at which an invocation stops reading, sending, and everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLeft {
    deadline: Option<Timestamp>,
    read_reserve: SignedDuration,
    send_reserve: SignedDuration,
    reply_reserve: SignedDuration,
}

impl TimeLeft {
    pub(super) fn new(deadline: Option<Timestamp>, now: Timestamp) -> Self {
        let total = deadline.map_or(LONGEST_INVOCATION, |deadline| deadline.duration_since(now));
        // A function with less time than these reserves gets the same parts of what it has.
        let reserve = |time: Duration, most: i32| {
            let wanted = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
            wanted.min(total * most / 100)
        };
        let send = 2 * REQUEST_TIME + REPLY_TIME;
        Self {
            deadline,
            read_reserve: reserve(send + CLAIM_TIME, 50),
            send_reserve: reserve(send, 35),
            reply_reserve: reserve(REPLY_TIME, 5),
        }
    }

    /// When a claim made now runs out: no sooner than its claimant ends.
    pub(super) fn claim_until(&self, now: Timestamp) -> Timestamp {
        self.deadline.unwrap_or(now + LONGEST_INVOCATION) + LEASE_MARGIN
    }

    /// When reading stops.
    pub(super) fn read_until(&self) -> Option<Timestamp> {
        self.deadline.map(|deadline| deadline - self.read_reserve)
    }

    /// When no alert is begun any more.
    pub(super) fn send_until(&self) -> Option<Timestamp> {
        self.deadline.map(|deadline| deadline - self.send_reserve)
    }

    /// Whether an alert on a record claimed until then may be begun: while claim and claimant live,
    /// there is time for a slow answer of SNS and then one of the ledger.
    pub(super) fn may_send(&self, now: Timestamp, claimed_until: Timestamp) -> bool {
        now < claimed_until - LEASE_MARGIN - self.send_reserve
    }

    /// When everything stops, so that the invocation still answers.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.deadline.map(|deadline| deadline - self.reply_reserve)
    }
}

/// The outcome of `work`, if there is one before `until`; else it is dropped.
pub(super) async fn before<F: Future>(
    until: Option<Timestamp>,
    now: Timestamp,
    work: F,
) -> Option<F::Output> {
    let Some(until) = until else {
        return Some(work.await);
    };
    let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        return None;
    }
    tokio::time::timeout(left, work).await.ok()
}
