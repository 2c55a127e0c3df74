//! A finding as one row of a table or a report.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Escaped, content::FindingContent, words::Markup};
use crate::rules::Level;

/// A finding as one row. Every text is escaped, and personal values are withheld.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Listing {
    /// When it happened.
    pub event_time: Option<Timestamp>,
    /// The level that an alert shows: a failed attempt has one level less than its rule.
    pub level: Level,
    /// `eventName` of the record.
    pub event_name: Option<Escaped>,
    /// `eventSource` of the record.
    pub event_source: Option<Escaped>,
    /// `awsRegion` of the record.
    pub region: Option<Escaped>,
    /// The account that the action is about.
    pub account: Option<Escaped>,
    /// The name that the operator gave it.
    pub account_name: Option<Escaped>,
    /// Root, or the kind and name of the actor.
    pub who: Escaped,
    /// The session of a role, which may name a person.
    pub session: Option<Escaped>,
    /// `userIdentity.type` of the record.
    pub actor_type: Escaped,
    /// ARN of the actor, or what else names it.
    pub actor: Option<Escaped>,
    /// `succeeded` or `failed`.
    pub outcome: String,
    /// `errorCode` of the record.
    pub error_code: Option<Escaped>,
    /// `sourceIPAddress` of the record.
    pub address: Option<Escaped>,
    /// `userAgent` of the record.
    pub user_agent: Option<Escaped>,
    /// `eventID` of the record.
    pub event_id: Option<Escaped>,
    /// Id of the rule of the highest level.
    pub rule_id: Escaped,
    /// Its title.
    pub rule_title: Escaped,
    /// Where the record was found.
    pub log_file: Option<Escaped>,
    /// The first sentence of an alert.
    pub headline: String,
    /// What changed: paths in the record, and values as far as they are shown.
    pub fields: Vec<(Escaped, Escaped)>,
    /// A command that prints the record.
    pub command: Option<Escaped>,
}

/// What a rule says to the reader of a report.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RuleAdvice {
    /// Its id.
    pub id: Escaped,
    /// Its title.
    pub title: Escaped,
    /// Its own level.
    pub level: Level,
    /// Why it matters.
    pub description: Escaped,
    /// What to do, step by step.
    pub response: Vec<Escaped>,
    /// Known benign causes.
    pub false_positives: Vec<Escaped>,
}

impl Listing {
    /// Who acted, with the session of a role.
    pub fn who_and_session(&self) -> String {
        match &self.session {
            Some(session) => format!("{} ({session})", self.who),
            None => self.who.to_string(),
        }
    }
}

impl FindingContent {
    /// The finding as one row.
    pub fn listing(&self) -> Listing {
        let (event, actor) = (&self.event, &self.actor);
        let named = [
            &actor.arn,
            &actor.principal_id,
            &actor.name,
            &actor.invoked_by,
        ];
        Listing {
            event_time: event.time,
            level: self.level,
            event_name: event.name.clone(),
            event_source: event.source.clone(),
            region: event.region.clone(),
            account: self.affected.as_ref().map(|account| account.id.clone()),
            account_name: self
                .affected
                .as_ref()
                .and_then(|account| account.name.clone()),
            who: actor.who.clone(),
            session: actor.session.clone(),
            actor_type: actor.actor_type.clone(),
            actor: named.into_iter().flatten().next().cloned(),
            outcome: self.outcome.word().to_owned(),
            error_code: self.outcome.code.clone(),
            address: self.address.clone(),
            user_agent: self.user_agent.clone(),
            event_id: event.id.clone(),
            rule_id: self.rule().id.clone(),
            rule_title: self.rule().title.clone(),
            log_file: self.evidence.log_file.clone(),
            headline: Markup::Plain.headline_of(self),
            fields: self
                .fields
                .iter()
                .map(|field| (field.path.clone(), field.value.clone()))
                .collect(),
            command: self.evidence.lookup.clone(),
        }
    }

    /// What its rule advises.
    pub fn advice(&self) -> RuleAdvice {
        let rule = self.rule();
        RuleAdvice {
            id: rule.id.clone(),
            title: rule.title.clone(),
            level: rule.level,
            description: rule.description.clone(),
            response: rule.response.clone(),
            false_positives: rule.false_positives.clone(),
        }
    }
}
