//! Findings as people read them: one message for the findings of a group, in numbered parts where one
//! message cannot hold them.

mod body;
pub(crate) mod escape;
mod evidence;
mod fields;
mod summary;
mod text;
mod time;
mod withhold;

use std::{cmp::Reverse, collections::BTreeSet};

use jiff::Timestamp;

use crate::{
    cloudtrail::{Actor, Outcome, Record},
    envelope::ObjectRef,
    rules::{Finding, Level, PackIdentity},
};
use escape::ascii;
pub use summary::Summary;

/// SNS refuses more than 262,144 bytes for body and attributes together; this leaves room for the
/// names and types of the attributes.
const MESSAGE_BYTES: usize = 250_000;
/// SNS wants subjects of ASCII text with fewer than 100 characters
/// (<https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>).
const SUBJECT_CHARACTERS: usize = 99;
/// The room in a subject that a long event name leaves for the actor.
const SUBJECT_ACTOR_CHARACTERS: usize = 16;
/// Most bytes of one array attribute.
const ATTRIBUTE_BYTES: usize = 8_000;

/// One SNS message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Printable ASCII, at most 99 characters.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// For the filter policies of subscriptions.
    pub attributes: Vec<Attribute>,
}

/// One SNS message attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribute {
    /// Name, of letters and underscores.
    pub name: &'static str,
    /// A `String`, or with several possible values a `String.Array`.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AttributeValue {
    /// One value, not empty.
    One(String),
    /// Several, any of which satisfies a filter policy.
    Many(Vec<String>),
}

/// What findings have in common that share an alert.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupKey {
    affected_account: Option<String>,
    /// Type of the actor; its ARN or the next best identifier; its session.
    actor: (String, Option<String>, Option<String>),
}

/// What an alert needs to know beside its findings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The log file.
    pub object: &'a ObjectRef,
    /// The account in the log file's key, for records that name none.
    pub file_account: Option<&'a str>,
    /// The time, for ages.
    pub now: Timestamp,
    /// Whether personal values are withheld.
    pub withhold_values: bool,
}

/// The place of a message among those of one group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// Counted from 1.
    pub number: usize,
    /// Whether it is the only one.
    pub only: bool,
}

impl GroupKey {
    /// The group of a record.
    pub fn of(record: &Record, file_account: Option<&str>) -> Self {
        let actor = record.actor();
        let identity = actor
            .arn
            .or(actor.principal_id)
            .or(actor.name)
            .or(actor.access_key_id)
            .or(actor.account.as_deref())
            .or(actor.invoked_by);
        Self {
            affected_account: affected_account(record, file_account),
            actor: (
                actor.actor_type.to_owned(),
                identity.map(str::to_owned),
                actor.session.map(str::to_owned),
            ),
        }
    }
}

impl AttributeValue {
    fn bytes(&self) -> usize {
        match self {
            Self::One(value) => value.len(),
            // Quotes, a comma, and room for escapes.
            Self::Many(values) => values.iter().map(|value| value.len() * 2 + 3).sum(),
        }
    }
}

/// The order in which alerts name findings, whatever order the file had.
pub(crate) fn order(first: &Finding, second: &Finding) -> std::cmp::Ordering {
    let key = |finding: &'_ Finding| {
        let text = |name| finding.record.text(name).map(str::to_owned);
        (
            Reverse(finding.level()),
            finding.record.outcome() != Outcome::Succeeded,
            text("eventTime"),
            text("eventName"),
            text("eventID"),
        )
    };
    // Records without an id may differ in nothing else.
    let content = |finding: &Finding| finding.record.as_value().to_string();
    key(first)
        .cmp(&key(second))
        .then_with(|| content(first).cmp(&content(second)))
}

/// The messages for the sorted findings of one group, and how many findings each holds.
///
/// `sent_parts` messages of the group went out before, because memory could not hold it whole;
/// `last` says that no more will come.
pub fn compose(
    findings: &[Finding],
    context: &Context<'_>,
    sent_parts: usize,
    last: bool,
) -> Vec<(Message, usize)> {
    let only = Part {
        number: 1,
        only: true,
    };
    if sent_parts == 0 && last {
        let alert = render(findings, context, only);
        if fits(&alert) {
            return vec![(alert, findings.len())];
        }
        if let [finding] = findings {
            return vec![(render_bare(finding, context, only), 1)];
        }
    }
    let mut parts = Vec::new();
    let mut rest = findings;
    while !rest.is_empty() {
        let part = Part {
            number: sent_parts + parts.len() + 1,
            only: false,
        };
        let mut count = rest.len();
        let alert = loop {
            let alert = render(&rest[..count], context, part);
            if fits(&alert) {
                break alert;
            }
            if count == 1 {
                break render_bare(&rest[0], context, part);
            }
            count = count.div_ceil(2);
        };
        parts.push((alert, count));
        rest = &rest[count..];
    }
    parts
}

/// A clearly marked alert that shows whether alerts arrive.
///
/// Its `level` is all of them, so that it passes every filter policy on levels.
pub fn self_test(rules: &PackIdentity, now: Timestamp) -> Message {
    Message {
        subject: "[TEST] billing-watch self-test: nothing has happened".to_owned(),
        text: format!(
            "This is a test of billing-watch, asked for at {}.\n\nIf you can read this, alerts \
             reach you on this subscription. Nothing has happened in any\naccount, and there is \
             nothing to do.\n\nRules: version {}, digest {}\nBundled \
             rules that yours replace: {}\nFilters that suppress a critical rule: {}\n",
            time::utc(now),
            rules.version,
            rules.digest,
            rules.rules_replaced,
            rules.critical_filters,
        ),
        attributes: vec![Attribute {
            name: "level",
            value: AttributeValue::Many(Level::ALL.iter().map(ToString::to_string).collect()),
        }],
    }
}

fn render(findings: &[Finding], context: &Context<'_>, part: Part) -> Message {
    Message {
        subject: subject(findings, context, part),
        text: text::text(findings, context, part),
        attributes: attributes(findings, context),
    }
}

/// An alert without what made it too long for a message: fields and the rule's prose.
fn render_bare(finding: &Finding, context: &Context<'_>, part: Part) -> Message {
    let findings = std::slice::from_ref(finding);
    Message {
        text: text::bare(findings, context),
        ..render(findings, context, part)
    }
}

fn fits(alert: &Message) -> bool {
    let attributes: usize = alert
        .attributes
        .iter()
        .map(|attribute| attribute.name.len() + attribute.value.bytes())
        .sum();
    alert.text.len() + attributes <= MESSAGE_BYTES
}

fn subject(findings: &[Finding], context: &Context<'_>, part: Part) -> String {
    let top = &findings[0];
    let record = &top.record;
    let failed = match record.outcome() {
        Outcome::Failed { .. } => "failed ",
        Outcome::Succeeded => "",
    };
    let more = match findings.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let account = affected_account(record, context.file_account)
        .unwrap_or_else(|| "an unknown account".to_owned());
    let place = if part.only {
        String::new()
    } else {
        format!(" (part {})", part.number)
    };
    let level = top.level().as_str().to_uppercase();
    let actor = actor_name(&record.actor());
    let event = record.text("eventName").unwrap_or("unnamed event");
    let others = format!("[{level}] {failed}{more} in {account} by {place}").len();
    let room = SUBJECT_CHARACTERS.saturating_sub(others);
    let event = ascii(
        event,
        room.saturating_sub(actor.len().min(SUBJECT_ACTOR_CHARACTERS)),
    );
    let actor = ascii(&actor, room.saturating_sub(event.len()));
    let subject = format!("[{level}] {failed}{event}{more} in {account} by {actor}{place}");
    ascii(&subject, SUBJECT_CHARACTERS)
}

/// Root, or the kind and name of the actor: enough to know whom to call.
fn actor_name(actor: &Actor<'_>) -> String {
    let named = |kind: &str| match actor.name.or(actor.principal_id) {
        Some(name) => format!("{kind} {name}"),
        None => format!("an unnamed {kind}"),
    };
    match actor.actor_type {
        "Root" => "root".to_owned(),
        "IAMUser" => named("user"),
        "AssumedRole" | "Role" => named("role"),
        "FederatedUser" => named("federated user"),
        "IdentityCenterUser" => named("Identity Center user"),
        "SAMLUser" => named("SAML user"),
        "WebIdentityUser" => named("web identity"),
        "AWSService" => actor
            .invoked_by
            .or(actor.name)
            .map_or_else(|| "an AWS service".to_owned(), str::to_owned),
        "AWSAccount" => actor.account.as_ref().map_or_else(
            || "another account".to_owned(),
            |id| format!("account {id}"),
        ),
        "Unknown" => actor.name.or(actor.access_key_id).map_or_else(
            || "an unknown actor".to_owned(),
            |name| format!("unknown ({name})"),
        ),
        other => named(other),
    }
}

fn affected_account(record: &Record, file_account: Option<&str>) -> Option<String> {
    record
        .affected_account()
        .map(std::borrow::Cow::into_owned)
        .or_else(|| file_account.map(str::to_owned))
}

fn attributes(findings: &[Finding], context: &Context<'_>) -> Vec<Attribute> {
    let top = &findings[0];
    let record = &top.record;
    let one = |name, value: Option<&str>| {
        let value = value.map(|value| escape::clean(value, 256));
        value
            .filter(|value| !value.is_empty())
            .map(|value| Attribute {
                name,
                value: AttributeValue::One(value),
            })
    };
    let account = affected_account(record, context.file_account);
    let outcome = findings
        .iter()
        .any(|finding| finding.record.outcome() == Outcome::Succeeded);
    let outcome = if outcome { "succeeded" } else { "failed" };
    [
        one("level", Some(top.level().as_str())),
        one("account", account.as_deref()),
        one("actor_type", Some(record.actor().actor_type)),
        one("outcome", Some(outcome)),
        one("region", record.text("awsRegion")),
        each("rule", findings, |finding| Some(&finding.rule().id)),
        each("event_name", findings, |finding| {
            finding.record.text("eventName")
        }),
        each("event_source", findings, |finding| {
            finding.record.text("eventSource")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An attribute of every finding: one value for one finding, else the distinct values.
fn each<'a>(
    name: &'static str,
    findings: &'a [Finding],
    value: impl Fn(&'a Finding) -> Option<&'a str>,
) -> Option<Attribute> {
    let mut values: Vec<String> = findings
        .iter()
        .filter_map(value)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|value| escape::clean(value, 256))
        .collect();
    let mut bytes = 0;
    values.retain(|value| {
        bytes += value.len();
        bytes <= ATTRIBUTE_BYTES
    });
    let value = match (findings.len(), values.pop()?) {
        (1, value) => AttributeValue::One(value),
        (_, value) => {
            values.push(value);
            AttributeValue::Many(values)
        }
    };
    Some(Attribute { name, value })
}
