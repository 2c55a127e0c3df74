//! The sentences that mail and chat share. They differ in how they mark what somebody else chose.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Alert, Escaped,
    actor::{ActorContent, ActorKind},
    content::{AccountContent, AddendumContent, FindingContent, UPDATED_DATA},
};
use crate::{cloudtrail::CameBy, rules::Level};

/// The reasons of CloudTrail's addenda on late records.
const DELIVERY_DELAY: &str = "DELIVERY_DELAY";
const SERVICE_OUTAGE: &str = "SERVICE_OUTAGE";

/// How a message marks what somebody else chose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Markup {
    /// Not at all: a mail is plain text.
    Plain,
    /// In code spans, in which Slack and Teams see neither mentions nor links nor emphasis.
    Chat,
}

/// What a level asks of whoever reads the alert.
pub(super) fn urgency(level: Level) -> &'static str {
    match level {
        Level::Critical => "Critical: act now, at any hour",
        Level::High => "High: act within the hour",
        Level::Medium => "Medium: look into it today",
        Level::Low => "Low: look at it this week",
        Level::Informational => "Informational: nothing to do",
    }
}

impl Markup {
    /// A value that somebody else chose.
    pub(super) fn value(self, text: &Escaped) -> String {
        match self {
            Self::Plain => text.to_string(),
            // A code span has no escape for its own end.
            Self::Chat => format!("`{}`", entities(&text.as_str().replace('`', "'"))),
        }
    }

    /// Prose that the operator chose.
    pub(super) fn prose(self, text: &Escaped) -> String {
        match self {
            Self::Plain => text.to_string(),
            Self::Chat => entities(text.as_str()),
        }
    }

    fn or_unknown(self, text: Option<&Escaped>) -> String {
        text.map_or_else(|| "unknown".to_owned(), |text| self.value(text))
    }

    fn values(self, texts: &[Escaped]) -> String {
        let texts: Vec<String> = texts.iter().map(|text| self.value(text)).collect();
        texts.join(", ")
    }

    /// One sentence that says what happened.
    pub(super) fn headline(self, alert: &Alert<'_>) -> String {
        let (top, findings) = (alert.top(), alert.findings);
        let backfill = if top.evidence.backfill { BACKFILL } else { "" };
        if findings.len() == 1 {
            return self.headline_of(top) + backfill;
        }
        let failed = findings.iter().filter(|finding| finding.outcome.failed);
        let outcome = match failed.count() {
            0 => "all succeeded".to_owned(),
            failed if failed == findings.len() => "all failed".to_owned(),
            failed => format!("{failed} failed"),
        };
        format!(
            "{} made {} sensitive calls on {} ({outcome}), the most severe {}: {}.{backfill}",
            self.subject_of(top),
            findings.len(),
            self.object_of(top),
            self.event_name(top),
            self.prose(&top.rule().title)
        )
    }

    /// One sentence that says what happened in one finding.
    pub(super) fn headline_of(self, finding: &FindingContent) -> String {
        let (who, account) = (self.subject_of(finding), self.object_of(finding));
        let event = self.event_name(finding);
        let title = self.prose(&finding.rule().title);
        if finding.outcome.failed {
            format!(
                "{who} tried {event}, which failed, on {account}. It would have meant: {title}."
            )
        } else {
            format!("{who} called {event}, which succeeded, on {account}: {title}.")
        }
    }

    /// Who acted, at the beginning of a sentence.
    fn subject_of(self, finding: &FindingContent) -> String {
        match finding.actor.kind {
            ActorKind::Root => "The root user".to_owned(),
            _ => self.value(&finding.actor.who.capitalised()),
        }
    }

    /// The account that the action is about.
    fn object_of(self, finding: &FindingContent) -> String {
        match &finding.affected {
            Some(account) => format!("account {}", self.account(account)),
            None => "an account that the record does not name".to_owned(),
        }
    }

    pub(super) fn event_name(self, finding: &FindingContent) -> String {
        match &finding.event.name {
            Some(name) => self.value(name),
            None => "an unnamed event".to_owned(),
        }
    }

    /// The event's id.
    pub(super) fn event_id(self, finding: &FindingContent) -> String {
        match &finding.event.id {
            Some(id) => self.value(id),
            None => "no event id".to_owned(),
        }
    }

    /// Event, outcome, account, who, from where and when, of the finding on top.
    pub(super) fn facts(self, alert: &Alert<'_>) -> Vec<(&'static str, String)> {
        let top = alert.top();
        let mut facts = Vec::new();
        let mut fact = |label, text| facts.push((label, text));
        let source = self.or_unknown(top.event.source.as_ref());
        let event = if alert.findings.len() == 1 {
            "Event"
        } else {
            "Highest"
        };
        fact(event, format!("{} ({source})", self.event_name(top)));
        fact("Outcome", self.outcome(top));
        let of_rule = top.rule().level;
        if top.level != of_rule {
            let shown = top.level;
            fact(
                "Level",
                format!(
                    "{shown}, one below the rule's level ({of_rule}), because the attempt failed"
                ),
            );
        }
        fact("Account", self.accounts(top));
        fact("Who", self.who(&top.actor));
        if let Some(arn) = &top.actor.arn {
            fact("ARN", self.value(arn));
        }
        if let Some(service) = &top.actor.invoked_by
            && top.actor.kind != ActorKind::Service
        {
            let service = self.value(service);
            fact(
                "Through",
                format!("{service}, an AWS service that acted on their behalf"),
            );
        }
        fact("From", self.source(alert));
        fact("Agent", self.or_unknown(top.user_agent.as_ref()));
        fact("When", self.when(alert, top));
        if let Some(way) = way(top.evidence.came_by) {
            fact("Came by", way.to_owned());
        }
        for note in self.notes(top) {
            fact("Note", note);
        }
        facts
    }

    /// What the reader should know about the record itself.
    fn notes(self, finding: &FindingContent) -> Vec<String> {
        let mut notes = Vec::new();
        if finding.differs {
            notes.push(differs(finding.evidence.came_by).to_owned());
        }
        if let Some(addendum) = &finding.addendum
            && addendum.reason.as_str() == UPDATED_DATA
        {
            notes.push(self.correction(addendum));
        }
        if !finding.unreadable.is_empty() {
            let members = self.values(&finding.unreadable);
            notes.push(format!(
                "could not be read, see the record itself: {members}"
            ));
        }
        notes
    }

    fn outcome(self, finding: &FindingContent) -> String {
        let outcome = &finding.outcome;
        let code = outcome.code.as_ref();
        let code = code.map_or_else(String::new, |code| format!(", {}", self.value(code)));
        let message = outcome.message.as_ref();
        let message =
            message.map_or_else(String::new, |message| format!(" ({})", self.value(message)));
        format!("{}{code}{message}", outcome.word())
    }

    /// An account's id and name.
    pub(super) fn account(self, account: &AccountContent) -> String {
        match &account.name {
            Some(name) => format!("{} ({})", account.id, self.value(name)),
            None => account.id.to_string(),
        }
    }

    fn accounts(self, finding: &FindingContent) -> String {
        match (&finding.affected, &finding.recorded) {
            (Some(affected), Some(recorded)) => format!(
                "{}, by a call that was made in {}",
                self.account(affected),
                self.account(recorded)
            ),
            (Some(affected), None) => self.account(affected),
            (None, _) => "unknown".to_owned(),
        }
    }

    fn who(self, actor: &ActorContent) -> String {
        let mut parts = vec![match actor.kind {
            ActorKind::Root => "root user".to_owned(),
            _ => self.value(&actor.who),
        }];
        if actor.assumed_root {
            parts.push("in a root session opened by the management account".to_owned());
        }
        if let Some(session) = &actor.session {
            parts.push(format!("session {}", self.value(session)));
        }
        if let Some(account) = &actor.account {
            parts.push(format!("of account {}", self.account(account)));
        }
        if let Some(key) = &actor.access_key_id {
            parts.push(format!("access key {}", self.value(key)));
        }
        parts.push(match actor.mfa {
            Some(true) => "with MFA".to_owned(),
            Some(false) => "without MFA".to_owned(),
            None => "MFA unknown".to_owned(),
        });
        parts.join(", ")
    }

    fn source(self, alert: &Alert<'_>) -> String {
        let addresses: BTreeSet<&Escaped> = alert
            .findings
            .iter()
            .filter_map(|finding| finding.address.as_ref())
            .collect();
        let others = match addresses.len() {
            0 | 1 => String::new(),
            2 => " and 1 more address".to_owned(),
            count => format!(" and {} more addresses", count - 1),
        };
        let top = alert.top();
        format!(
            "{}{others}, Region {}",
            self.or_unknown(top.address.as_ref()),
            self.or_unknown(top.event.region.as_ref())
        )
    }

    fn when(self, alert: &Alert<'_>, finding: &FindingContent) -> String {
        let late = finding.addendum.as_ref();
        let late = late.map_or_else(String::new, |addendum| self.late(addendum));
        match finding.event.time {
            Some(time) => {
                let age = age(time, alert.now);
                match alert.local(time) {
                    Some(local) => format!("{} ({local}; {age}){late}", utc(time)),
                    None => format!("{} ({age}){late}", utc(time)),
                }
            }
            None => format!("{}{late}", self.or_unknown(finding.event.odd_time.as_ref())),
        }
    }

    /// Says why CloudTrail delivered a record late.
    fn late(self, addendum: &AddendumContent) -> String {
        match addendum.reason.as_str() {
            UPDATED_DATA => String::new(),
            DELIVERY_DELAY => "; CloudTrail delivered it late (DELIVERY_DELAY)".to_owned(),
            SERVICE_OUTAGE => {
                "; CloudTrail received it late, after an outage of the service (SERVICE_OUTAGE)"
                    .to_owned()
            }
            _ => {
                let reason = self.value(&addendum.reason);
                format!("; CloudTrail's addendum gives the reason {reason}")
            }
        }
    }

    /// Says which event a record corrects, and in which fields.
    fn correction(self, addendum: &AddendumContent) -> String {
        let original = match &addendum.original_event_id {
            Some(id) => format!("event {}", self.value(id)),
            None => "an earlier event".to_owned(),
        };
        let fields = match &addendum.updated_fields[..] {
            [] => String::new(),
            fields => format!("; updated fields: {}", self.values(fields)),
        };
        format!("CloudTrail corrects {original} (UPDATED_DATA){fields}")
    }

    /// A finding of a group: level, event and outcome; and when, with the event's id.
    pub(super) fn listed(self, finding: &FindingContent) -> (String, String) {
        let time = match (&finding.event.time, &finding.event.odd_time) {
            (Some(time), _) => utc(*time),
            (None, Some(time)) => self.value(time),
            (None, None) => "time unknown".to_owned(),
        };
        let code = match &finding.outcome.code {
            Some(code) => format!(" ({})", self.value(code)),
            None => String::new(),
        };
        let note = match finding
            .addendum
            .as_ref()
            .map(|addendum| addendum.reason.as_str())
        {
            None => "",
            Some(UPDATED_DATA) => ", a correction",
            Some(DELIVERY_DELAY | SERVICE_OUTAGE) => ", delivered late",
            Some(_) => ", with an addendum",
        };
        let differs = if finding.differs {
            ", differs from another record of this id"
        } else {
            ""
        };
        (
            format!(
                "{} {} {}{code}",
                finding.level.as_str().to_uppercase(),
                self.event_name(finding),
                finding.outcome.word()
            ),
            format!("{time}, {}{note}{differs}", self.event_id(finding)),
        )
    }
}

/// What an alert on old log files says behind its headline.
const BACKFILL: &str = " This is history: a backfill of old log files has found it.";

/// How a record came, if not in a log file.
fn way(came_by: CameBy) -> Option<&'static str> {
    match came_by {
        CameBy::LogFile => None,
        CameBy::EventBridge => Some("EventBridge, ahead of the log file, which is the proof"),
        CameBy::CloudWatchLogs => {
            Some("CloudWatch Logs, ahead of the log file, which is the proof")
        }
    }
}

/// What it means that two records of one id differ.
fn differs(came_by: CameBy) -> &'static str {
    if came_by.is_direct() {
        "another record with this event id says something else. One of the two may be forged: compare \
         them with the log file, which is the truth"
    } else {
        "a direct event with this event id said something else. It may have been forged to hide this \
         one: this record is from the log file, which is the truth. Look who may send to the queue of \
         direct events"
    }
}

/// `text` with what Slack takes for the beginning of a mention, a link or an entity as entities.
fn entities(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A point in time as people read it.
pub(super) fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How long ago something happened, in the largest unit that fits.
fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs();
    let (count, unit) = match seconds {
        ..-60 => return "in the future, by this function's clock".to_owned(),
        -60..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}
