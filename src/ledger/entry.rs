//! One entry of the ledger: the state of one record, and the archive of its alerts.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Canary, ClaimRequest, PublicationOutcome};
use crate::alert::{AttributeValue, Escaped, Message, Summary};

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
    /// A hash of what the record says that matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// When the record came first as a direct event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_at: Option<Timestamp>,
    /// The first log file that the record was found in: `s3://bucket/key`, with the version if there is
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_file: Option<Escaped>,
    /// The canaries, the last one first, in the one entry that is about them and about no record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Canary>,
}

impl Entry {
    /// The entry under a claim.
    #[must_use]
    pub(super) fn claimed(self, lease: &Lease) -> Self {
        Self {
            claim: Some(lease.clone()),
            ..self
        }
    }

    /// The entry after the record of a request has come.
    #[must_use]
    pub(super) fn seen(mut self, request: &ClaimRequest<'_>) -> Self {
        if self.digest.is_none() {
            self.digest = Some(request.record.digest().to_owned());
        }
        if self.log_file.is_none() {
            match request.log_file {
                Some(log_file) => self.log_file = Some(log_file.clone()),
                None => self.direct_at = self.direct_at.or(Some(request.now)),
            }
        }
        self
    }

    /// Whether the entry is about a record that says something else than that of the request.
    ///
    /// Records of two log files with one event id are one record, whatever they say.
    pub(super) fn differs_from(&self, request: &ClaimRequest<'_>) -> bool {
        let both_in_log_files = self.log_file.is_some() && request.log_file.is_some();
        let digest = self.digest.as_deref();
        !both_in_log_files && digest.is_some_and(|digest| digest != request.record.digest())
    }

    /// For the first log file with the record: whether the record had come as a direct event before.
    pub(super) fn came_directly(&self, request: &ClaimRequest<'_>) -> Option<bool> {
        let is_first = request.log_file.is_some() && self.log_file.is_none();
        is_first.then_some(self.direct_at.is_some())
    }

    /// Adds what topics have accepted. A topic that has accepted another alert keeps that one.
    pub(super) fn add(&mut self, publications: &[Publication]) -> PublicationOutcome {
        let mut outcome = PublicationOutcome::Recorded;
        for publication in publications {
            match self.publication_on(&publication.topic) {
                None => self.published.push(publication.clone()),
                Some(recorded) if recorded.message_id == publication.message_id => {}
                Some(_) => outcome = PublicationOutcome::SecondAlert,
            }
        }
        outcome
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
    /// The log file that held the record: `s3://bucket/key`, with the version if there is one. Nothing for
    /// a direct event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_file: Option<Escaped>,
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
            text: message.body.clone(),
            attributes: attributes.collect(),
        }
    }
}
