//! The memory of which records have alerted, so that each does so once on each topic, however
//! often it is delivered.
//!
//! A record is claimed before its alert is sent, and marked published after SNS has accepted it.
//! A claim that ran out is anybody's to take over. ARCHITECTURE.md draws the states and says what
//! follows from a crash at each point.

mod entry;
mod memory;

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

pub use self::{
    entry::{AlertAsSent, Archive, Entry, Holder, Kept, Publication},
    memory::MemoryLedger,
};
use crate::cloudtrail::Record;

/// Longest event id that is used as it is.
const EVENT_ID_CHARACTERS: usize = 64;
/// How often a write is tried in all, when others write between read and write.
const WRITE_TRIES: usize = 4;
/// How much longer each of these tries waits than the one before.
const WRITE_WAIT: Duration = Duration::from_millis(30);
/// Entries that are being claimed or given up, and beside them entries that are being marked
/// published, at the same time.
const CONCURRENT_REQUESTS: usize = 32;

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
    /// The condition does not hold, or did not when the store tried again by itself.
    Conflict,
}

/// The ledger's store failed, or what it holds is not an entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("ledger: {message}")]
pub struct LedgerError {
    /// What failed, with its causes and the remedy.
    pub message: String,
}

/// Where entries are kept: objects in S3, or this process's memory.
///
/// A write may have taken place though its caller got an error, and its effect may come late.
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
    holder: Holder,
    /// What other topics have accepted.
    published: Vec<Publication>,
}

impl Ticket {
    /// The name of the entry.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When the claim runs out.
    pub fn until(&self) -> Timestamp {
        self.holder.until
    }
}

/// How an accepted alert stands in the ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Recorded {
    /// As the record's alert.
    Yes,
    /// Not at all: another alert on the record was accepted before this one.
    Second,
}

/// The ledger's rules over some store, for one topic.
#[derive(Debug)]
pub struct Ledger<S> {
    store: S,
    topic: String,
    claiming: Semaphore,
    /// Apart, so that what has alerted never waits for what has not.
    publishing: Semaphore,
    claims: AtomicU64,
}

impl<S: LedgerStore> Ledger<S> {
    /// A ledger of what `topic` has accepted.
    pub fn new(store: S, topic: &str) -> Self {
        Self {
            store,
            topic: topic.to_owned(),
            claiming: Semaphore::new(CONCURRENT_REQUESTS),
            publishing: Semaphore::new(CONCURRENT_REQUESTS),
            claims: AtomicU64::new(0),
        }
    }

    /// Claims the record under `key` until then; `invocation` names the claimant for people. Where
    /// the record is `likely_known`, a look comes before the first write.
    pub async fn claim(
        &self,
        key: &str,
        invocation: &str,
        likely_known: bool,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Claim, LedgerError> {
        let _request = self.claiming.acquire().await;
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let holder = Holder {
            nonce: format!("{invocation}/{number}"),
            until,
        };
        let ours = |tag, published| {
            Claim::Ours(Ticket {
                key: key.to_owned(),
                tag,
                holder: holder.clone(),
                published,
            })
        };
        let claimed = |published| Entry {
            claim: Some(holder.clone()),
            published,
        };
        let mut known = if likely_known {
            self.store.read(key).await?
        } else {
            None
        };
        for attempt in 0..WRITE_TRIES {
            wait_for_others(attempt).await;
            if known.is_none() {
                if let Written::Yes(tag) = self.store.create(key, &claimed(Vec::new())).await? {
                    return Ok(ours(tag, Vec::new()));
                }
                known = self.store.read(key).await?;
            }
            // Else gone again between the two requests.
            let Some(Tagged { entry, tag }) = known.take() else {
                continue;
            };
            if entry.on(&self.topic).is_some() {
                return Ok(Claim::Duplicate);
            }
            match &entry.claim {
                // Written by an earlier try, whose answer was lost.
                Some(owner) if *owner == holder => return Ok(ours(tag, entry.published)),
                Some(owner) if owner.until > now => return Ok(Claim::Busy),
                _ => {}
            }
            let taken = claimed(entry.published);
            if let Written::Yes(tag) = self.store.replace(key, &tag, &taken).await? {
                return Ok(ours(tag, taken.published));
            }
        }
        Ok(Claim::Busy)
    }

    /// Records that the topic has accepted the alert on a claimed record.
    ///
    /// The record has alerted whatever became of the claim meanwhile, so this writes over whatever
    /// stands there by now, but for somebody else's alert.
    pub async fn publish(
        &self,
        ticket: &Ticket,
        message_id: &str,
        at: Timestamp,
        archive: &Archive,
    ) -> Result<Recorded, LedgerError> {
        let _request = self.publishing.acquire().await;
        let mut entry = Entry {
            claim: None,
            published: ticket.published.clone(),
        };
        entry.published.push(Publication {
            topic: self.topic.clone(),
            message_id: message_id.to_owned(),
            at,
            archive: Some(Box::new(archive.clone())),
        });
        let mut tag = ticket.tag.clone();
        for attempt in 0..WRITE_TRIES {
            wait_for_others(attempt).await;
            if let Written::Yes(_) = self.store.replace(&ticket.key, &tag, &entry).await? {
                return Ok(Recorded::Yes);
            }
            let Some(current) = self.store.read(&ticket.key).await? else {
                // Somebody has deleted it.
                if let Written::Yes(_) = self.store.create(&ticket.key, &entry).await? {
                    return Ok(Recorded::Yes);
                }
                continue;
            };
            match current.entry.on(&self.topic) {
                // Written by an earlier try, whose answer was lost.
                Some(written) if written.message_id == message_id => {
                    return Ok(Recorded::Yes);
                }
                Some(_) => return Ok(Recorded::Second),
                None => {}
            }
            let ours = entry.published.pop();
            entry.published = current.entry.published;
            entry.published.extend(ours);
            tag = current.tag;
        }
        Err(LedgerError {
            message: format!("others keep writing {}", ticket.key),
        })
    }

    /// Gives a claim up, for another try may succeed: it runs out at once.
    pub async fn release(&self, ticket: &Ticket) -> Result<(), LedgerError> {
        let _request = self.claiming.acquire().await;
        // With its nonce it is a version that never was before.
        let released = Entry {
            claim: Some(Holder {
                nonce: ticket.holder.nonce.clone(),
                until: Timestamp::UNIX_EPOCH,
            }),
            published: ticket.published.clone(),
        };
        // A conflict means that somebody else has taken over: then it is theirs.
        self.store
            .replace(&ticket.key, &ticket.tag, &released)
            .await
            .map(|_| ())
    }
}

/// Waits a little before a further attempt, while others write.
async fn wait_for_others(attempt: usize) {
    if attempt > 0 {
        tokio::time::sleep(WRITE_WAIT * u32::try_from(attempt).unwrap_or(1)).await;
    }
}

/// The name of a record's entry: its date and event id, or a hash where that id can't be a name.
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
        // An underscore, which no usable event id has.
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
