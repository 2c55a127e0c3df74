//! One entry of the ledger: the state of one record, and the archive of its alerts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Canary;
use crate::alert::{AttributeValue, Message, Summary};

/// The state of one record.
///
/// With a claim the record is *claimed*. Without one it is *published* on the topics listed, and free
/// to claim for any other. A version ignores fields that it does not know, so that it can read what a
/// newer version wrote. Text that lacks a field which it needs is refused, since it must not pass for
/// a free record.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Who is sending the alert, or was until the lease expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Lease>,
    /// The accepted alerts, one for each topic.
    pub published: Vec<Publication>,
    /// The canaries, the last one first, in the one entry that is about them and about no record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
}

impl Entry {
    /// An entry under a claim.
    pub(super) fn claimed(lease: &Lease, published: Vec<Publication>) -> Self {
        Self {
            claim: Some(lease.clone()),
            published,
            ..Self::default()
        }
    }

    /// Returns what `topic` has accepted.
    pub fn publication_on(&self, topic: &str) -> Option<&Publication> {
        self.published
            .iter()
            .find(|publication| publication.topic == topic)
    }
}

/// Who holds a claim, and for how long.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Lease {
    /// Distinguishes this claim from every other, so that its holder recognizes its own write.
    pub nonce: String,
    /// When the claim expires; a released claim expired in 1970.
    pub expires_at: Timestamp,
}

/// An alert that a topic has accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Publication {
    /// ARN of the topic.
    pub topic: String,
    /// SNS's id of the message.
    pub message_id: String,
    /// When SNS accepted the message, by the function's clock.
    pub accepted_at: Timestamp,
    /// The alert itself; the in-memory ledger drops it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Box<Archive>>,
}

/// An alert as it is kept for later questions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Archive {
    /// The log file that held the record: `s3://bucket/key`, escaped, with the version if there is one.
    pub log_file: String,
    /// The finding in short.
    pub finding: Summary,
    /// What was sent.
    pub message: ArchivedMessage,
}

/// Where the sent message is kept: in one entry, however many records it is about. If that entry could
/// not be written, the text is lost; the summary of each finding is not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchivedMessage {
    /// In this entry.
    Here(SentMessage),
    /// In the entry of that name, under the same topic.
    InEntry(String),
}

/// A message as SNS accepted it. What the alert withheld is withheld here, too.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SentMessage {
    /// The message's subject.
    pub subject: String,
    /// The message's body.
    pub text: String,
    /// The message's attributes, each with all its values.
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl From<&Message> for SentMessage {
    fn from(message: &Message) -> Self {
        let attributes = message.attributes.iter().map(|attribute| {
            let values = match &attribute.value {
                AttributeValue::One(value) => vec![value.clone()],
                AttributeValue::Many(values) => values.clone(),
            };
            (attribute.name.to_owned(), values)
        });
        Self {
            subject: message.subject.clone(),
            text: message.text.clone(),
            attributes: attributes.collect(),
        }
    }
}
