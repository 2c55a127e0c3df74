//! What the ledger keeps of one record: who holds it, and the alerts that were accepted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, AttributeValue, Summary};

/// The state of one record.
///
/// With a claim it is *claimed*; without one it is *published* on the topics that it lists and
/// free to claim for any other. What is not understood is refused, for it must not pass as free.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Who is about to send the alert, or was until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Holder>,
    /// What was accepted, once a topic.
    pub published: Vec<Publication>,
}

impl Entry {
    /// What `topic` has accepted.
    pub fn on(&self, topic: &str) -> Option<&Publication> {
        self.published
            .iter()
            .find(|publication| publication.topic == topic)
    }
}

/// Who holds a claim.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// Tells this claim from any other, so that one's own write is known as one's own.
    pub nonce: String,
    /// When the claim runs out; one that was given up did so in 1970.
    pub until: Timestamp,
}

/// An alert that a topic has accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Publication {
    /// ARN of the topic.
    pub topic: String,
    /// SNS's id of the message.
    pub message_id: String,
    /// When the answer of SNS came.
    pub at: Timestamp,
    /// The alert itself; the in-memory ledger does without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Box<Archive>>,
}

/// What is kept of an alert for those who ask later.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The log file that held the record, as `s3://bucket/key`.
    pub log_file: String,
    /// The finding in short.
    pub finding: Summary,
    /// What was sent.
    pub alert: Kept,
}

/// Where the alert as sent is kept: once, however many records it is about. Where the ledger took
/// every entry but that one, the text is lost; the summary of each finding is not.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// In this entry.
    AsSent(AlertAsSent),
    /// In the entry of that name, for the same topic.
    InEntry(String),
}

/// An alert as SNS accepted it, withheld values withheld.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlertAsSent {
    /// The message's subject.
    pub subject: String,
    /// The message's body.
    pub text: String,
    /// The message's attributes; one of several values is a list.
    pub attributes: BTreeMap<String, Vec<String>>,
}

impl From<&Alert> for AlertAsSent {
    fn from(alert: &Alert) -> Self {
        let attributes = alert.attributes.iter().map(|attribute| {
            let values = match &attribute.value {
                AttributeValue::One(value) => vec![value.clone()],
                AttributeValue::Many(values) => values.clone(),
            };
            (attribute.name.to_owned(), values)
        });
        Self {
            subject: alert.subject.clone(),
            text: alert.text.clone(),
            attributes: attributes.collect(),
        }
    }
}
