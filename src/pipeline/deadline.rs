//! The deadline: when an invocation stops reading, stops sending, and must reply.
//!
//! Reading stops early enough for what was read to alert. No alert is begun without time for one slow
//! answer of SNS and then one of the ledger, unless the whole timeout is too short for that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long a sink or a ledger store may take for one request, with all its own retries. Room for two
/// of them is kept before the deadline: the alert, and its entry in the ledger.
pub const REQUEST_TIME: Duration = Duration::from_secs(6);

/// The longest timeout that the function may have; an invocation without a deadline claims records
/// for as long.
const LONGEST_INVOCATION: SignedDuration = SignedDuration::from_secs(60);
/// How much longer than its invocation a claim lives, for clocks that differ.
const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(5);
/// What is kept for claiming records and composing alerts once reading has stopped.
const CLAIM_TIME: Duration = Duration::from_secs(4);
/// What is kept for the reply.
const REPLY_TIME: Duration = Duration::from_secs(1);

/// The time that an invocation has, and the clock that it is measured by.
#[derive(Debug)]
pub(super) struct Deadline<'a, C> {
    clock: &'a C,
    /// When Lambda ends the invocation, if ever.
    at: Option<Timestamp>,
    read_reserve: SignedDuration,
    send_reserve: SignedDuration,
    reply_reserve: SignedDuration,
}

impl<'a, C: Fn() -> Timestamp> Deadline<'a, C> {
    pub(super) fn new(at: Option<Timestamp>, clock: &'a C) -> Self {
        let total = at.map_or(LONGEST_INVOCATION, |at| at.duration_since(clock()));
        // With a timeout under 34 seconds the reserves shrink: reading stops when half of the time is
        // left, sending at 35 percent, everything at 5 percent.
        let reserve = |time: Duration, most: i32| {
            let wanted = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
            wanted.min(total * most / 100)
        };
        let send = 2 * REQUEST_TIME + REPLY_TIME;
        Self {
            clock,
            at,
            read_reserve: reserve(send + CLAIM_TIME, 50),
            send_reserve: reserve(send, 35),
            reply_reserve: reserve(REPLY_TIME, 5),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// When a claim that is made at `now` expires: no sooner than its invocation ends.
    pub(super) fn claim_expiry(&self, now: Timestamp) -> Timestamp {
        self.at.unwrap_or(now + LONGEST_INVOCATION) + LEASE_MARGIN
    }

    /// Returns whether an alert may be begun now on a record whose claim expires at `claim_expiry`:
    /// while claim and invocation live, there must be time for a slow answer of SNS and then one of
    /// the ledger.
    pub(super) fn may_send(&self, claim_expiry: Timestamp) -> bool {
        self.now() < claim_expiry - LEASE_MARGIN - self.send_reserve
    }

    /// Returns the output of `work` unless reading has to stop first.
    pub(super) async fn while_reading<F: Future>(&self, work: F) -> Option<F::Output> {
        self.before(self.read_reserve, work).await
    }

    /// Returns the output of `work` unless it is too late to begin an alert first.
    pub(super) async fn while_sending<F: Future>(&self, work: F) -> Option<F::Output> {
        self.before(self.send_reserve, work).await
    }

    /// Returns the output of `work` unless the invocation has to reply first.
    pub(super) async fn before_reply<F: Future>(&self, work: F) -> Option<F::Output> {
        self.before(self.reply_reserve, work).await
    }

    /// Drops `work` if it is not done when only `reserve` is left.
    async fn before<F: Future>(&self, reserve: SignedDuration, work: F) -> Option<F::Output> {
        let Some(at) = self.at else {
            return Some(work.await);
        };
        let left = (at - reserve).duration_since(self.now());
        let left = Duration::try_from(left).unwrap_or_default();
        if left.is_zero() {
            return None;
        }
        tokio::time::timeout(left, work).await.ok()
    }
}
