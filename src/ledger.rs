//! The memory of which records have alerted, so that each does so once, however often it is
//! delivered.
//!
//! An entry is claimed before its alert is sent and marked published after SNS has accepted it. A
//! claim that runs out is anybody's to take over; one that was released likewise.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Write as _,
    sync::Mutex,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cloudtrail::Record;

/// Longest event id that is used as it is.
const EVENT_ID_CHARACTERS: usize = 64;
/// How often a claim is tried again when others write between read and write.
const CLAIM_TRIES: usize = 4;
/// Entries that the in-memory ledger remembers; the oldest are forgotten first.
const REMEMBERED_ENTRIES: usize = 10_000;

/// What the ledger keeps of one record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Entry {
    /// Somebody is about to send the alert.
    Claimed {
        /// Who, so that one's own write is known as one's own.
        nonce: String,
        /// Until when.
        until: Timestamp,
    },
    /// A claim given up: SNS refused the alert.
    Released,
    /// The alert was accepted.
    Published {
        /// SNS's id of the message.
        message_id: String,
        /// When.
        at: Timestamp,
    },
}

/// An entry with the tag of its version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tagged {
    /// The entry.
    pub entry: Entry,
    /// Changes with every write.
    pub tag: String,
}

/// What became of a conditional write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Written {
    /// Done; the new version's tag.
    Yes(String),
    /// The condition does not hold.
    Conflict,
}

/// The ledger's store failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ledger: {message}")]
pub struct LedgerError {
    /// What failed, with its causes.
    pub message: String,
}

/// Where entries are kept: objects in S3, or this process's memory.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LedgerStore {
    /// The entry under `key`.
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError>;
    /// Writes an entry if there is none.
    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError>;
    /// Replaces the version `tag`.
    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError>;
}

/// The answer to a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The record is the claimant's to alert on.
    Ours(Ticket),
    /// It has alerted.
    Duplicate,
    /// Another claim lives: neither duplicate nor done.
    Busy,
}

/// Proof of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ticket {
    key: String,
    tag: String,
}

/// The ledger's rules over some store.
#[derive(Debug)]
pub struct Ledger<S> {
    store: S,
    lease: SignedDuration,
}

impl<S: LedgerStore> Ledger<S> {
    /// A ledger whose claims run out after `lease`.
    pub fn new(store: S, lease: SignedDuration) -> Self {
        Self { store, lease }
    }

    /// Claims the record under `key` for the claimant `nonce`.
    pub async fn claim(
        &self,
        key: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Claim, LedgerError> {
        let claimed = Entry::Claimed {
            nonce: nonce.to_owned(),
            until: now + self.lease,
        };
        let ours = |tag| {
            Claim::Ours(Ticket {
                key: key.to_owned(),
                tag,
            })
        };
        for _ in 0..CLAIM_TRIES {
            if let Written::Yes(tag) = self.store.create(key, &claimed).await? {
                return Ok(ours(tag));
            }
            // Gone again between the two requests: try anew.
            let Some(Tagged { entry, tag }) = self.store.read(key).await? else {
                continue;
            };
            match entry {
                Entry::Published { .. } => return Ok(Claim::Duplicate),
                Entry::Claimed { nonce: owner, .. } if owner == nonce => return Ok(ours(tag)),
                Entry::Claimed { until, .. } if until > now => return Ok(Claim::Busy),
                Entry::Claimed { .. } | Entry::Released => {
                    if let Written::Yes(tag) = self.store.replace(key, &tag, &claimed).await? {
                        return Ok(ours(tag));
                    }
                }
            }
        }
        Ok(Claim::Busy)
    }

    /// Marks a claimed record as alerted.
    pub async fn publish(
        &self,
        ticket: &Ticket,
        message_id: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let entry = Entry::Published {
            message_id: message_id.to_owned(),
            at: now,
        };
        match self.store.replace(&ticket.key, &ticket.tag, &entry).await? {
            Written::Yes(_) => Ok(()),
            Written::Conflict => Err(LedgerError {
                message: format!(
                    "the claim on {} ran out before its alert was sent",
                    ticket.key
                ),
            }),
        }
    }

    /// Gives a claim up, for another try may succeed.
    pub async fn release(&self, ticket: &Ticket) -> Result<(), LedgerError> {
        // A conflict means that somebody else has taken over: then it is theirs.
        self.store
            .replace(&ticket.key, &ticket.tag, &Entry::Released)
            .await
            .map(|_| ())
    }
}

/// The ledger's key of a record: its date and event id, or a hash where that id can't be a name.
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
        Some(id) => format!("{date}/{id}"),
        None => format!("{date}/hash-{}", content_hash(record)),
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

/// A ledger store that serves one warm instance and forgets with it.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Tagged>,
    oldest_first: VecDeque<String>,
    writes: u64,
}

impl Entries {
    fn write(&mut self, key: &str, entry: &Entry) -> Written {
        self.writes += 1;
        let tag = self.writes.to_string();
        let tagged = Tagged {
            entry: entry.clone(),
            tag: tag.clone(),
        };
        if self.by_key.insert(key.to_owned(), tagged).is_none() {
            self.oldest_first.push_back(key.to_owned());
            if self.oldest_first.len() > REMEMBERED_ENTRIES
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.by_key.remove(&oldest);
            }
        }
        Written::Yes(tag)
    }
}

impl MemoryLedger {
    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code that holds the lock can panic.
        self.entries
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl LedgerStore for MemoryLedger {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        Ok(self.entries().by_key.get(key).cloned())
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        let mut entries = self.entries();
        if entries.by_key.contains_key(key) {
            return Ok(Written::Conflict);
        }
        Ok(entries.write(key, entry))
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        let mut entries = self.entries();
        match entries.by_key.get(key) {
            Some(current) if current.tag == tag => Ok(entries.write(key, entry)),
            _ => Ok(Written::Conflict),
        }
    }
}
