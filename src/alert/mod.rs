//! Alerts: what the findings of a group say, as one content, laid out for each audience.
//!
//! `content` makes the words: every text escaped, every personal value withheld. `text`, `chat` and `ocsf`
//! only lay them out. None of them sees a record.

mod actor;
mod attack;
mod body;
mod chat;
mod content;
mod escaped;
mod fields;
mod group_key;
mod header;
mod listing;
mod names;
mod ocsf;
mod summary;
mod text;
mod withhold;
mod words;

use jiff::{Timestamp, tz::TimeZone};

use crate::rules::{Level, PackIdentity};

pub use self::{
    content::{Context, FindingContent, RuleContents, Style},
    escaped::Escaped,
    group_key::{GroupKey, order},
    listing::{Listing, RuleAdvice},
    names::{AccountNames, AccountNamesError},
    summary::Summary,
};

/// SNS refuses more than 262,144 bytes for body and attributes together; this leaves room for the
/// names and types of the attributes.
const MESSAGE_BYTES: usize = 250_000;

/// Who reads, and so in which format.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Audience {
    /// People, by mail: plain text.
    People,
    /// People in Slack or Teams: the schema of Amazon Q Developer in chat applications.
    Chat,
    /// Machines: one OCSF Detection Finding for each finding.
    Machines,
}

/// One SNS message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Printable ASCII, at most 99 characters.
    pub subject: String,
    /// In the format of its audience.
    pub body: String,
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

/// What one message says: sorted findings that share affected account and actor, at least one.
#[derive(Clone, Copy, Debug)]
struct Alert<'a> {
    findings: &'a [&'a FindingContent],
    part: Part,
    now: Timestamp,
    time_zone: Option<&'a TimeZone>,
}

/// The place of a message among those of one group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Part {
    /// Counted from 1.
    number: usize,
    /// Whether it is the only one.
    only: bool,
}

/// What a self-test tells beside that it is one.
#[derive(Clone, Debug)]
struct TestContent<'a> {
    now: Timestamp,
    rules: &'a PackIdentity,
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

impl<'a> Alert<'a> {
    /// The finding that the message is named after.
    fn top(&self) -> &'a FindingContent {
        self.findings[0]
    }

    /// A time in the operator's time zone.
    fn local(&self, time: Timestamp) -> Option<String> {
        let local = time.to_zoned(self.time_zone?.clone());
        let name = local.time_zone().iana_name().unwrap_or_default().to_owned();
        Some(format!("{} {name}", local.strftime("%Y-%m-%d %H:%M:%S")))
    }
}

impl TestContent<'_> {
    /// What identifies the rules, a line each.
    fn lines(&self) -> [String; 3] {
        [
            format!(
                "Rules: version {}, digest {}",
                self.rules.version, self.rules.digest
            ),
            format!(
                "Bundled rules that yours replace: {}",
                self.rules.rules_replaced
            ),
            format!(
                "Filters that suppress a critical rule: {}",
                self.rules.critical_filters
            ),
        ]
    }
}

/// The messages for the sorted findings of one group, and how many findings each holds.
///
/// `sent_parts` messages of the group went out before, because memory could not hold it whole;
/// `last` says that no more will come. A message for machines holds one finding and has no number.
pub fn compose(
    audience: Audience,
    findings: &[&FindingContent],
    context: &Context<'_>,
    sent_parts: usize,
    last: bool,
) -> Vec<(Message, usize)> {
    let alert = |findings, part| Alert {
        findings,
        part,
        now: context.now,
        time_zone: context.style.time_zone.as_ref(),
    };
    let only = Part {
        number: 1,
        only: true,
    };
    if audience == Audience::Machines {
        let alerts = findings.chunks(1).map(|finding| alert(finding, only));
        return alerts
            .map(|alert| (message(&alert, ocsf::detection_finding(&alert)), 1))
            .collect();
    }
    if sent_parts == 0 && last {
        let whole = alert(findings, only);
        if let Some(message) = render(audience, &whole) {
            return vec![(message, findings.len())];
        }
        if findings.len() == 1 {
            return vec![(render_bare(audience, &whole), 1)];
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
        let message = loop {
            let alert = alert(&rest[..count], part);
            if let Some(message) = render(audience, &alert) {
                break message;
            }
            if count == 1 {
                break render_bare(audience, &alert);
            }
            count = count.div_ceil(2);
        };
        parts.push((message, count));
        rest = &rest[count..];
    }
    parts
}

/// A clearly marked alert that shows whether alerts arrive.
///
/// Its `level` is all of them, so that it passes every filter policy on levels.
pub fn self_test(audience: Audience, rules: &PackIdentity, now: Timestamp) -> Message {
    let test = TestContent { now, rules };
    Message {
        subject: "[TEST] billing-watch self-test: nothing has happened".to_owned(),
        body: match audience {
            Audience::People => text::self_test(&test),
            Audience::Chat => chat::self_test(&test),
            Audience::Machines => ocsf::self_test(&test),
        },
        attributes: vec![Attribute {
            name: "level",
            value: AttributeValue::Many(Level::ALL.iter().map(ToString::to_string).collect()),
        }],
    }
}

/// The message, or `None` if its findings are too many for one.
fn render(audience: Audience, alert: &Alert<'_>) -> Option<Message> {
    let body = match audience {
        Audience::People => text::text(alert),
        Audience::Chat => chat::message(alert)?,
        Audience::Machines => ocsf::detection_finding(alert),
    };
    let message = message(alert, body);
    let attributes = message.attributes.iter();
    let attributes: usize = attributes
        .map(|attribute| attribute.name.len() + attribute.value.bytes())
        .sum();
    (message.body.len() + attributes <= MESSAGE_BYTES).then_some(message)
}

/// The message on one finding, without what made it too long.
fn render_bare(audience: Audience, alert: &Alert<'_>) -> Message {
    let body = match audience {
        Audience::People => text::bare(alert),
        Audience::Chat => chat::bare(alert),
        Audience::Machines => ocsf::detection_finding(alert),
    };
    message(alert, body)
}

fn message(alert: &Alert<'_>, body: String) -> Message {
    Message {
        subject: header::subject(alert),
        body,
        attributes: header::attributes(alert),
    }
}
