//! A finding in short, for the archive.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Escaped, content::FindingContent};

/// A finding in short: what, where, who and which rules.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Summary {
    /// `eventID` of the record.
    pub event_id: Option<Escaped>,
    /// When it happened.
    pub event_time: Option<Timestamp>,
    /// `eventSource` of the record.
    pub event_source: Option<Escaped>,
    /// `eventName` of the record.
    pub event_name: Option<Escaped>,
    /// `awsRegion` of the record.
    pub region: Option<Escaped>,
    /// The account that the action is about.
    pub affected_account: Option<Escaped>,
    /// Type of the actor.
    pub actor_type: Escaped,
    /// ARN of the actor, or what else names it.
    pub actor: Option<Escaped>,
    /// Whether the action took effect: `succeeded` or `failed`.
    pub outcome: String,
    /// The level that the alert shows.
    pub level: String,
    /// Ids of the rules, the highest level first.
    pub rules: Vec<Escaped>,
}

impl Summary {
    /// The summary of a finding.
    pub fn of(finding: &FindingContent) -> Self {
        let (event, actor) = (&finding.event, &finding.actor);
        let named = [
            &actor.arn,
            &actor.principal_id,
            &actor.name,
            &actor.invoked_by,
        ];
        Self {
            event_id: event.id.clone(),
            event_time: event.time,
            event_source: event.source.clone(),
            event_name: event.name.clone(),
            region: event.region.clone(),
            affected_account: finding.affected.as_ref().map(|account| account.id.clone()),
            actor_type: actor.actor_type.clone(),
            actor: named.into_iter().flatten().next().cloned(),
            outcome: finding.outcome.word().to_owned(),
            level: finding.level.to_string(),
            rules: finding.rules.iter().map(|rule| rule.id.clone()).collect(),
        }
    }
}
