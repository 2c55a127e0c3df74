//! A finding in short, for the archive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Context, affected_account, escape::clean};
use crate::rules::Finding;

/// Most characters of one value.
const VALUE_CHARACTERS: usize = 256;

/// A finding in short: what, where, who and which rules. Every text is escaped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// `eventID` of the record.
    pub event_id: Option<String>,
    /// When it happened.
    pub event_time: Option<Timestamp>,
    /// `eventSource` of the record.
    pub event_source: Option<String>,
    /// `eventName` of the record.
    pub event_name: Option<String>,
    /// `awsRegion` of the record.
    pub region: Option<String>,
    /// The account that the action is about.
    pub affected_account: Option<String>,
    /// Type of the actor.
    pub actor_type: String,
    /// ARN of the actor, or what else names it.
    pub actor: Option<String>,
    /// Whether the action took effect.
    pub outcome: String,
    /// The level that the alert shows.
    pub level: String,
    /// Ids of the rules, the highest level first.
    pub rules: Vec<String>,
}

impl Summary {
    /// The summary of a finding.
    pub fn of(finding: &Finding, context: &Context<'_>) -> Self {
        let record = &finding.record;
        let actor = record.actor();
        let escaped = |text: &str| clean(text, VALUE_CHARACTERS);
        let text = |name| record.text(name).map(escaped);
        Self {
            event_id: record.event_id().map(escaped),
            event_time: record.event_time(),
            event_source: text("eventSource"),
            event_name: text("eventName"),
            region: text("awsRegion"),
            affected_account: affected_account(record, context.file_account)
                .map(|account| escaped(&account)),
            actor_type: escaped(actor.actor_type),
            actor: actor
                .arn
                .or(actor.principal_id)
                .or(actor.name)
                .or(actor.invoked_by)
                .map(escaped),
            outcome: record.outcome().to_string(),
            level: finding.level().to_string(),
            rules: finding.rules.iter().map(|rule| rule.id.clone()).collect(),
        }
    }
}
