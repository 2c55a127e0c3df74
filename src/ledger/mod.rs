//! Alert once: the durable memory of which records have alerted on which topic.
//!
//! The sender claims a record before it publishes the alert, and records the publication after SNS
//! has accepted it. Anybody may take over a claim that has expired. ARCHITECTURE.md draws the states
//! and lists what happens after a crash at each point.

mod canary;
mod entry;
mod memory;

use std::{
    error::Error,
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

pub use self::{
    canary::{Canary, CanaryMeeting, CanaryRun},
    entry::{Archive, ArchivedMessage, Entry, Lease, Publication, SentMessage},
    memory::MemoryLedgerStore,
};
use crate::cloudtrail::Record;

/// Longest event id that is used in a key.
const EVENT_ID_CHARACTERS: usize = 64;
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
}

/// Who wants to claim which record, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// The record's key, from [`record_key`].
    pub key: &'a str,
    /// The invocation, as people see it in the entry.
    pub invocation: &'a str,
    /// Whether to read the entry before the first write: cheaper where it probably exists.
    pub read_first: bool,
    /// The time.
    pub now: Timestamp,
    /// When the claim expires.
    pub expires_at: Timestamp,
}

/// The answer to a [`ClaimRequest`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClaimOutcome {
    /// The caller may alert on the record.
    Acquired(Claim),
    /// The record has alerted on this topic.
    AlreadyAlerted,
    /// Another invocation holds a claim that has not expired.
    ClaimedElsewhere,
}

/// A lease on one record: its holder may publish the record's alert.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    key: String,
    etag: String,
    lease: Lease,
    /// Publications on other topics.
    published: Vec<Publication>,
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
}

/// How an accepted alert was recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicationOutcome {
    /// As the record's alert.
    Recorded,
    /// Not recorded: the ledger holds an earlier alert on the record, so this one was the second.
    SecondAlert,
}

/// The ledger's rules over a store, for one topic.
#[derive(Debug)]
pub struct Ledger<S> {
    store: S,
    topic: String,
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
    /// A ledger of what `topic` has accepted.
    pub fn new(store: S, topic: &str) -> Self {
        Self {
            store,
            topic: topic.to_owned(),
            claiming: Semaphore::new(CONCURRENT_REQUESTS),
            recording: Semaphore::new(CONCURRENT_REQUESTS),
            claims: AtomicU64::new(0),
        }
    }

    /// Claims a record for this topic.
    ///
    /// # Errors
    ///
    /// The store failed. The claim may exist all the same; it expires by itself.
    pub async fn claim(&self, request: &ClaimRequest<'_>) -> Result<ClaimOutcome, LedgerError> {
        let _permit = self.claiming.acquire().await;
        let key = request.key;
        let lease = self.new_lease(request);
        let acquired = |etag, published| {
            ClaimOutcome::Acquired(Claim {
                key: key.to_owned(),
                etag,
                lease: lease.clone(),
                published,
            })
        };
        let mut found = if request.read_first {
            self.store.read(key).await?
        } else {
            None
        };
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            if found.is_none() {
                let entry = Entry::claimed(&lease, Vec::new());
                if let WriteOutcome::Written(etag) = self.store.create(key, &entry).await? {
                    return Ok(acquired(etag, Vec::new()));
                }
                found = self.store.read(key).await?;
            }
            // Somebody may have deleted the entry between the two requests.
            let Some(VersionedEntry { entry, etag }) = found.take() else {
                continue;
            };
            match self.state(&entry, &lease, request.now) {
                EntryState::AlreadyAlerted => return Ok(ClaimOutcome::AlreadyAlerted),
                EntryState::OwnClaim => return Ok(acquired(etag, entry.published)),
                EntryState::ClaimedElsewhere => return Ok(ClaimOutcome::ClaimedElsewhere),
                EntryState::Claimable => {}
            }
            let entry = Entry::claimed(&lease, entry.published);
            if let WriteOutcome::Written(etag) = self.store.replace(key, &etag, &entry).await? {
                return Ok(acquired(etag, entry.published));
            }
        }
        Ok(ClaimOutcome::ClaimedElsewhere)
    }

    /// Records that the topic has accepted the alert on a claimed record.
    ///
    /// The record has alerted, whatever became of the claim since. So this replaces any state of the
    /// entry except another alert on the same topic.
    ///
    /// # Errors
    ///
    /// The store failed, or others wrote the entry in each attempt. The publication may be recorded all
    /// the same.
    pub async fn record_publication(
        &self,
        claim: &Claim,
        message_id: &str,
        accepted_at: Timestamp,
        archive: &Archive,
    ) -> Result<PublicationOutcome, LedgerError> {
        let _permit = self.recording.acquire().await;
        let key = &claim.key;
        let mut entry = Entry {
            published: claim.published.clone(),
            ..Entry::default()
        };
        entry.published.push(Publication {
            topic: self.topic.clone(),
            message_id: message_id.to_owned(),
            accepted_at,
            archive: Some(Box::new(archive.clone())),
        });
        let mut etag = claim.etag.clone();
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            if let WriteOutcome::Written(_) = self.store.replace(key, &etag, &entry).await? {
                return Ok(PublicationOutcome::Recorded);
            }
            let Some(current) = self.store.read(key).await? else {
                // Somebody has deleted the entry.
                if let WriteOutcome::Written(_) = self.store.create(key, &entry).await? {
                    return Ok(PublicationOutcome::Recorded);
                }
                continue;
            };
            match current.entry.publication_on(&self.topic) {
                // An earlier attempt wrote it, and its answer was lost.
                Some(recorded) if recorded.message_id == message_id => {
                    return Ok(PublicationOutcome::Recorded);
                }
                Some(_) => return Ok(PublicationOutcome::SecondAlert),
                None => {}
            }
            let own = entry.published.pop();
            entry.published = current.entry.published;
            entry.published.extend(own);
            etag = current.etag;
        }
        Err(LedgerError::new(format!(
            "{key} was written by others in each of {WRITE_ATTEMPTS} attempts"
        )))
    }

    /// Releases a claim whose alert was not accepted: it expires at once.
    ///
    /// # Errors
    ///
    /// The store failed. The claim then expires by itself.
    pub async fn release(&self, claim: &Claim) -> Result<(), LedgerError> {
        let _permit = self.claiming.acquire().await;
        // The nonce makes this a version that never existed before.
        let lease = Lease {
            nonce: claim.lease.nonce.clone(),
            expires_at: Timestamp::UNIX_EPOCH,
        };
        let released = Entry::claimed(&lease, claim.published.clone());
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

    fn state(&self, entry: &Entry, own: &Lease, now: Timestamp) -> EntryState {
        if entry.publication_on(&self.topic).is_some() {
            return EntryState::AlreadyAlerted;
        }
        match &entry.claim {
            Some(lease) if lease == own => EntryState::OwnClaim,
            Some(lease) if lease.expires_at > now => EntryState::ClaimedElsewhere,
            _ => EntryState::Claimable,
        }
    }
}

/// Waits before a further attempt, each time longer.
async fn back_off(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(WRITE_BACKOFF * attempt).await;
    }
}

/// Returns the key of a record's entry: its date and event id, or a hash where the event id is missing
/// or cannot be part of a key.
pub fn record_key(record: &Record) -> String {
    let date = record.event_time().map_or_else(
        || "undated".to_owned(),
        |time| time.strftime("%Y/%m/%d").to_string(),
    );
    let is_name = |id: &&str| {
        id.len() <= EVENT_ID_CHARACTERS
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match record.event_id().filter(is_name) {
        Some(id) => format!("{date}/{id}.json"),
        // The underscore keeps it apart from event ids.
        None => format!("{date}/hash_{}.json", content_hash(record)),
    }
}

/// Half of the SHA-256 of the record's JSON text.
fn content_hash(record: &Record) -> String {
    // serde_json keeps members sorted, so equal records have equal texts.
    let digest = Sha256::digest(record.as_value().to_string());
    digest[..16].iter().fold(String::new(), |mut hash, byte| {
        // Writing to a string can't fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}
