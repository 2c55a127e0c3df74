//! What tells records apart in the ledger: their event ids, and what they say.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::cloudtrail::{Outcome, Record};

/// Longest event id that is used in a key.
const EVENT_ID_CHARACTERS: usize = 64;
/// Bytes of a SHA-256 that a key or a digest has.
const HASH_BYTES: usize = 16;

/// The identity of a record.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RecordId {
    key: String,
    key_of_content: String,
    digest: String,
}

impl RecordId {
    /// The identity of a record.
    pub fn of(record: &Record) -> Self {
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
        let name = match record.event_id().filter(is_name) {
            Some(id) => id.to_owned(),
            // The underscore keeps it apart from event ids. serde_json keeps members sorted, so equal
            // records have equal texts.
            None => format!("hash_{}", hash([record.as_value().to_string().as_str()])),
        };
        let digest = digest(record);
        Self {
            key: format!("{date}/{name}.json"),
            key_of_content: format!("{date}/{name}_{digest}.json"),
            digest,
        }
    }

    /// The name of the record's entry: its date and event id, or a hash where the event id is missing or
    /// cannot be part of a key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name of its entry where the first one is about a record that says something else.
    pub fn key_of_content(&self) -> &str {
        &self.key_of_content
    }

    /// A hash of what the record says that matters: source, name, time, account, actor and outcome.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

fn digest(record: &Record) -> String {
    let actor = record.actor();
    let text = |name| record.text(name).unwrap_or_default();
    let (outcome, code) = match record.outcome() {
        Outcome::Succeeded => ("succeeded", ""),
        Outcome::Failed { code } => ("failed", code.unwrap_or_default()),
    };
    let identity = actor
        .arn
        .or(actor.principal_id)
        .or(actor.name)
        .or(actor.invoked_by);
    hash([
        text("eventSource"),
        text("eventName"),
        text("eventTime"),
        &record.recipient_account().unwrap_or_default(),
        &record.affected_account().unwrap_or_default(),
        actor.actor_type,
        identity.unwrap_or_default(),
        outcome,
        code,
    ])
}

/// Half of the SHA-256 of some texts.
fn hash<const N: usize>(texts: [&str; N]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        if N > 1 {
            // Its length keeps a text apart from the next one.
            hasher.update((text.len() as u64).to_le_bytes());
        }
        hasher.update(text);
    }
    let digest = hasher.finalize();
    digest[..HASH_BYTES]
        .iter()
        .fold(String::new(), |mut hash, byte| {
            // Writing to a string can't fail.
            let _ = write!(hash, "{byte:02x}");
            hash
        })
}
