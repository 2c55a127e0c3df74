//! Subject and attributes of a message: what a mail program lists, and what filter policies see.

use std::collections::BTreeSet;

use super::{Alert, Attribute, AttributeValue, Escaped, content::FindingContent};

/// SNS wants subjects of ASCII text with fewer than 100 characters
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).
const SUBJECT_CHARACTERS: usize = 99;
/// The room in a subject that a long event name leaves for the actor.
const SUBJECT_ACTOR_CHARACTERS: usize = 16;
/// Most bytes of one array attribute.
const ATTRIBUTE_BYTES: usize = 8_000;

/// Printable ASCII, at most 99 characters.
pub(super) fn subject(alert: &Alert<'_>) -> String {
    let top = alert.top();
    let failed = if top.outcome.failed { "failed " } else { "" };
    let more = match alert.findings.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let account = match &top.affected {
        Some(account) => account.id.as_str(),
        None => "an unknown account",
    };
    let place = if alert.part.only {
        String::new()
    } else {
        format!(" (part {})", alert.part.number)
    };
    let mut level = top.level.as_str().to_uppercase();
    if top.evidence.backfill {
        level.push_str(", BACKFILL");
    }
    let actor = top.actor.who.as_str();
    let event = top
        .event
        .name
        .as_ref()
        .map_or("unnamed event", Escaped::as_str);
    let others = format!("[{level}] {failed}{more} in {account} by {place}").len();
    let room = SUBJECT_CHARACTERS.saturating_sub(others);
    let event = ascii(
        event,
        room.saturating_sub(actor.len().min(SUBJECT_ACTOR_CHARACTERS)),
    );
    let actor = ascii(actor, room.saturating_sub(event.len()));
    let subject = format!("[{level}] {failed}{event}{more} in {account} by {actor}{place}");
    ascii(&subject, SUBJECT_CHARACTERS)
}

/// `text` as printable ASCII, other characters as `?`, cut to `limit` characters.
pub(super) fn ascii(text: &str, limit: usize) -> String {
    let all: Vec<char> = text
        .chars()
        .map(|character| match character {
            ' '..='~' => character,
            _ => '?',
        })
        .collect();
    if all.len() <= limit {
        return all.into_iter().collect();
    }
    let mut cut: String = all.into_iter().take(limit.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

/// The same attributes on every topic.
pub(super) fn attributes(alert: &Alert<'_>) -> Vec<Attribute> {
    let top = alert.top();
    let one = |name, value: Option<&str>| {
        let value = value.filter(|value| !value.is_empty())?;
        Some(Attribute {
            name,
            value: AttributeValue::One(value.to_owned()),
        })
    };
    let account = top.affected.as_ref().map(|account| account.id.as_str());
    let all_failed = alert.findings.iter().all(|finding| finding.outcome.failed);
    let outcome = if all_failed { "failed" } else { "succeeded" };
    [
        one("level", Some(top.level.as_str())),
        one("account", account),
        one("actor_type", Some(top.actor.actor_type.as_str())),
        one("outcome", Some(outcome)),
        one("backfill", top.evidence.backfill.then_some("true")),
        one("region", top.event.region.as_ref().map(Escaped::as_str)),
        each("rule", alert, |finding| Some(&finding.rule().id)),
        each("event_name", alert, |finding| finding.event.name.as_ref()),
        each("event_source", alert, |finding| {
            finding.event.source.as_ref()
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An attribute of every finding: one value for one finding, else the distinct values.
fn each<'a>(
    name: &'static str,
    alert: &Alert<'a>,
    value: impl Fn(&'a FindingContent) -> Option<&'a Escaped>,
) -> Option<Attribute> {
    let values = alert.findings.iter().filter_map(|finding| value(finding));
    let distinct: BTreeSet<&Escaped> = values.collect();
    let mut bytes = 0;
    let mut values: Vec<String> = distinct
        .into_iter()
        .map(Escaped::to_string)
        .filter(|value| {
            bytes += value.len();
            bytes <= ATTRIBUTE_BYTES
        })
        .collect();
    let value = match (alert.findings.len(), values.pop()?) {
        (1, value) => AttributeValue::One(value),
        (_, value) => {
            values.push(value);
            AttributeValue::Many(values)
        }
    };
    Some(Attribute { name, value })
}
