//! Alert once: the durable memory of which records have alerted on which topics.
//!
//! The sender claims a record before it publishes the alert, and records each publication after SNS
//! has accepted it. Anybody may take over a claim that has expired. ARCHITECTURE.md draws the states
//! and lists what happens after a crash at each point.
//!
//! A record may come twice: as a direct event, and later in a log file, which is the truth. An entry is
//! about one content. A record of the same id and other content has an entry of its own, so that a
//! forged direct event can't silence the true record.

mod canary;
mod entry;
mod memory;
mod record_id;
mod unconfirmed;

use std::{
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Semaphore;

pub use self::{
    canary::{Canary, CanaryMeeting, CanaryRun},
    entry::{Archive, ArchivedMessage, Entry, Lease, Publication, SentMessage},
    memory::MemoryLedgerStore,
    record_id::RecordId,
    unconfirmed::Unconfirmed,
};
use crate::alert::Escaped;

/// How often a conditional write is attempted while others write the same entry.
const WRITE_ATTEMPTS: u32 = 4;
/// Wait before the second attempt; each further attempt waits this much longer.
const WRITE_BACKOFF: Duration = Duration::from_millis(30);
/// Concurrent requests for claims and releases; recording has as many of its own.
const CONCURRENT_REQUESTS: usize = 32;

/// An entry and the `ETag` of its version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VersionedEntry {
    /// The entry.
    pub entry: Entry,
    /// Changes with every write.
    pub etag: String,
}

/// What a conditional write did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WriteOutcome {
    /// The entry was written; holds the `ETag` of the new version.
    Written(String),
    /// The condition did not hold. The store may have retried the request by itself, so the entry may
    /// be what this request wrote.
    PreconditionFailed,
}

/// The ledger's store failed, or an object in it is not an entry.
#[derive(Debug, thiserror::Error)]
#[error("ledger: {message}")]
pub struct LedgerError {
    /// What failed, with the entry's name.
    pub message: String,
    /// What the operator can do; empty where only another try can help.
    pub remedy: &'static str,
    /// The cause, where there is one.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl LedgerError {
    /// An error that has neither a cause nor a remedy.
    pub fn new(message: String) -> Self {
        Self {
            message,
            remedy: "",
            source: None,
        }
    }
}

/// Where entries are stored: objects in S3, or this process's memory.
///
/// A write may take effect although its caller got an error, and it may take effect late.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LedgerStore {
    /// Returns the entry under `key`.
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError>;
    /// Writes an entry if there is none under `key` (`If-None-Match: *`).
    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError>;
    /// Replaces the version `etag` (`If-Match`).
    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError>;
    /// Returns the keys that begin with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError>;
}

/// Who wants to claim which record, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// The record.
    pub record: &'a RecordId,
    /// The topics that its alert is for.
    pub topics: &'a [&'a str],
    /// The log file that the record is in; `None` for a direct event.
    pub log_file: Option<&'a Escaped>,
    /// The invocation, as people see it in the entry.
    pub invocation: &'a str,
    /// Whether to read the entry before the first write: cheaper where it probably exists.
    pub read_first: bool,
    /// The time.
    pub now: Timestamp,
    /// When the claim expires.
    pub expires_at: Timestamp,
}

/// What the ledger says of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimAnswer {
    /// Whether the caller may alert.
    pub outcome: ClaimOutcome,
    /// For the record of a log file, the first time that one is seen: whether it had come as a direct
    /// event before.
    pub came_directly: Option<bool>,
}

/// Whether the caller of [`Ledger::claim`] may alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimOutcome {
    /// The caller may alert on the record.
    Acquired(Box<Claim>),
    /// The record has alerted on each of the topics.
    AlreadyAlerted,
    /// Another invocation holds a claim that has not expired.
    ClaimedElsewhere,
}

/// A lease on one record: its holder may publish the record's alert on the topics that have not accepted
/// it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    key: String,
    etag: String,
    lease: Lease,
    /// The entry as it was last written or read.
    entry: Entry,
    /// Whether an entry of the same event id is about a record that says something else.
    differs: bool,
}

impl Claim {
    /// The name of the entry.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When the claim expires.
    pub fn expires_at(&self) -> Timestamp {
        self.lease.expires_at
    }

    /// Returns whether a topic has accepted the record's alert.
    pub fn is_published_on(&self, topic: &str) -> bool {
        self.entry.publication_on(topic).is_some()
    }

    /// Returns whether a record of the same event id says something else.
    pub fn differs(&self) -> bool {
        self.differs
    }
}

/// How an accepted alert was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicationOutcome {
    /// As the record's alert.
    Recorded,
    /// Not recorded: the ledger holds an earlier alert on the record, so this one was the second.
    SecondAlert,
}

/// The ledger's rules over a store.
#[derive(Debug)]
pub struct Ledger<S> {
    store: S,
    claiming: Semaphore,
    /// Separate, so that recording an accepted alert never waits for a claim.
    recording: Semaphore,
    claims: AtomicU64,
}

/// What an entry means to somebody who wants to claim its record.
enum EntryState {
    AlreadyAlerted,
    /// The caller's own claim: an earlier attempt wrote it, and its answer was lost.
    OwnClaim,
    ClaimedElsewhere,
    Claimable,
}

impl<S: LedgerStore> Ledger<S> {
    /// A ledger over a store.
    pub fn new(store: S) -> Self {
        Self {
            store,
            claiming: Semaphore::new(CONCURRENT_REQUESTS),
            recording: Semaphore::new(CONCURRENT_REQUESTS),
            claims: AtomicU64::new(0),
        }
    }

    /// Claims a record for its topics, and notes the log file that it is in.
    ///
    /// # Errors
    ///
    /// The store failed. The claim may exist all the same; it expires by itself.
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<ClaimAnswer, LedgerError> {
        let _permit = self.claiming.acquire().await;
        let lease = self.new_lease(request);
        let keys = [request.record.key(), request.record.key_of_content()];
        for (key, differs) in keys.into_iter().zip([false, true]) {
            if let Some(answer) = self.claim_entry(key, differs, request, &lease).await? {
                return Ok(answer);
            }
        }
        // The second key has the content in its name.
        Err(LedgerError::new(format!(
            "{} is about another record than its name says",
            request.record.key_of_content()
        )))
    }

    /// Claims the record under one key. Returns `None` where that entry is about a record of the same event
    /// id that says something else.
    async fn claim_entry(
        &self,
        key: &str,
        differs: bool,
        request: &ClaimRequest<'_>,
        lease: &Lease,
    ) -> Result<Option<ClaimAnswer>, LedgerError> {
        let answer = |outcome, came_directly| {
            Some(ClaimAnswer {
                outcome,
                came_directly,
            })
        };
        let acquired = |etag, entry| {
            ClaimOutcome::Acquired(Box::new(Claim {
                key: key.to_owned(),
                etag,
                lease: lease.clone(),
                entry,
                differs,
            }))
        };
        if request.log_file.is_none() {
            // Before the entry, so that no crash leaves an entry that nobody will ask after.
            self.expect_log_file(key, request.now).await?;
        }
        let is_first = request.log_file.map(|_| false);
        let mut found = if request.read_first {
            self.store.read(key).await?
        } else {
            None
        };
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            if found.is_none() {
                let entry = Entry::default().seen(request).claimed(lease);
                if let WriteOutcome::Written(etag) = self.store.create(key, &entry).await? {
                    return Ok(answer(acquired(etag, entry), is_first));
                }
                found = self.store.read(key).await?;
            }
            // Somebody may have deleted the entry between the two requests.
            let Some(VersionedEntry { entry, etag }) = found.take() else {
                continue;
            };
            if entry.differs_from(request) {
                return Ok(None);
            }
            let came_directly = entry.came_directly(request);
            let seen = entry.clone().seen(request);
            let (write, outcome) = match state(&entry, request.topics, lease, request.now) {
                EntryState::OwnClaim => {
                    return Ok(answer(acquired(etag, entry), came_directly));
                }
                EntryState::Claimable => (seen.claimed(lease), None),
                EntryState::AlreadyAlerted => (seen, Some(ClaimOutcome::AlreadyAlerted)),
                EntryState::ClaimedElsewhere => {
                    return Ok(answer(ClaimOutcome::ClaimedElsewhere, None));
                }
            };
            if write == entry
                && let Some(outcome) = outcome
            {
                return Ok(answer(outcome, came_directly));
            }
            if let WriteOutcome::Written(etag) = self.store.replace(key, &etag, &write).await? {
                let outcome = outcome.unwrap_or_else(|| acquired(etag, write));
                return Ok(answer(outcome, came_directly));
            }
        }
        Ok(answer(ClaimOutcome::ClaimedElsewhere, None))
    }

    /// Records which topics have accepted the alert on a claimed record. `is_last` says that the claim has
    /// served its purpose.
    ///
    /// The record has alerted, whatever became of the claim since. So this is added to any state of the
    /// entry except another alert on the same topic.
    ///
    /// # Errors
    ///
    /// The store failed, or others wrote the entry in each attempt. The publications may be recorded all
    /// the same.
    pub async fn record_publications(
        &self,
        claim: &mut Claim,
        publications: &[Publication],
        is_last: bool,
    ) -> Result<PublicationOutcome, LedgerError> {
        let _permit = self.recording.acquire().await;
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            let mut entry = claim.entry.clone();
            let outcome = entry.add(publications);
            if is_last && entry.claim.as_ref() == Some(&claim.lease) {
                entry.claim = None;
            }
            // An earlier attempt wrote it, and its answer was lost.
            if entry == claim.entry {
                return Ok(outcome);
            }
            let key = &claim.key;
            if let WriteOutcome::Written(etag) =
                self.store.replace(key, &claim.etag, &entry).await?
            {
                (claim.entry, claim.etag) = (entry, etag);
                return Ok(outcome);
            }
            if let Some(current) = self.store.read(key).await? {
                (claim.entry, claim.etag) = (current.entry, current.etag);
            } else if let WriteOutcome::Written(etag) = self.store.create(key, &entry).await? {
                // Somebody had deleted the entry.
                (claim.entry, claim.etag) = (entry, etag);
                return Ok(outcome);
            }
        }
        Err(LedgerError::new(format!(
            "{} was written by others in each of {WRITE_ATTEMPTS} attempts",
            claim.key
        )))
    }

    /// Releases a claim after an alert that was not accepted: it expires at once.
    ///
    /// # Errors
    ///
    /// The store failed. The claim then expires by itself.
    pub async fn release(&self, claim: &Claim) -> Result<(), LedgerError> {
        // Recording another topic's publication may have shown that somebody has taken the claim over.
        if claim.entry.claim.as_ref() != Some(&claim.lease) {
            return Ok(());
        }
        let _permit = self.claiming.acquire().await;
        // The nonce makes this a version that never existed before.
        let lease = Lease {
            nonce: claim.lease.nonce.clone(),
            expires_at: Timestamp::UNIX_EPOCH,
        };
        let released = claim.entry.clone().claimed(&lease);
        // A failed precondition means that somebody else has taken the claim over.
        self.store
            .replace(&claim.key, &claim.etag, &released)
            .await
            .map(|_| ())
    }

    fn new_lease(&self, request: &ClaimRequest<'_>) -> Lease {
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        Lease {
            nonce: format!("{}/{number}", request.invocation),
            expires_at: request.expires_at,
        }
    }
}

fn state(entry: &Entry, topics: &[&str], own: &Lease, now: Timestamp) -> EntryState {
    if topics
        .iter()
        .all(|topic| entry.publication_on(topic).is_some())
    {
        return EntryState::AlreadyAlerted;
    }
    match &entry.claim {
        Some(lease) if lease == own => EntryState::OwnClaim,
        Some(lease) if lease.expires_at > now => EntryState::ClaimedElsewhere,
        _ => EntryState::Claimable,
    }
}

/// Waits before a further attempt, each time longer.
async fn back_off(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(WRITE_BACKOFF * attempt).await;
    }
}
