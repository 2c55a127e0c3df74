//! The body of an alert, written for somebody who was just woken by it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    Context, Part, actor_name, affected_account,
    body::Body,
    escape::{clean, visible},
    evidence::evidence,
    fields::changes,
    time::{age, utc},
};
use crate::{
    cloudtrail::{Actor, Addendum, Outcome, Record},
    rules::{Finding, Rule},
};

/// Most characters of a text that the caller of AWS chose.
const UNTRUSTED_CHARACTERS: usize = 256;
/// Most rules of a group that are explained.
const EXPLAINED_RULES: usize = 5;
/// The reasons of CloudTrail's addenda.
const DELIVERY_DELAY: &str = "DELIVERY_DELAY";
const SERVICE_OUTAGE: &str = "SERVICE_OUTAGE";
const UPDATED_DATA: &str = "UPDATED_DATA";

/// The text for sorted findings that share affected account and actor.
pub(super) fn text(findings: &[Finding], context: &Context<'_>, part: Part) -> String {
    let mut body = Body::default();
    let top = &findings[0];
    body.prose(&headline(findings, context));
    if !part.only {
        body.prose(&format!(
            "This is part {} of the alert on this log file. Each part lists findings of its own; \
             together the parts list all of them.",
            part.number
        ));
    }
    body.blank();
    facts(&mut body, findings, context);
    if findings.len() > 1 {
        body.heading(&format!("ALL {} FINDINGS", findings.len()));
        for (index, finding) in findings.iter().enumerate() {
            body.line(&format!("{}. {}", index + 1, finding_line(finding)));
        }
    }
    let rules = distinct_rules(findings);
    for rule in rules.iter().take(EXPLAINED_RULES) {
        explain(&mut body, rule, findings.len() > 1);
    }
    if rules.len() > EXPLAINED_RULES {
        body.blank();
        body.prose("The other rules are explained in docs/rules.md, or in your own files.");
    }
    changes(&mut body, findings, context);
    evidence(&mut body, findings, context);
    body.heading(if rules.len() > 1 { "RULES" } else { "RULE" });
    for rule in &rules {
        body.line(&format!(
            "{} ({}, {}, {})",
            clean(&rule.title, UNTRUSTED_CHARACTERS),
            rule.level,
            rule.id,
            clean(&rule.file, UNTRUSTED_CHARACTERS)
        ));
    }
    let others: BTreeSet<&str> = top.rules[1..].iter().map(|rule| &*rule.title).collect();
    if findings.len() == 1 && !others.is_empty() {
        let others: Vec<&str> = others.into_iter().collect();
        body.prose(&format!(
            "Also matched: {}.",
            clean(&others.join(", "), 1000)
        ));
    }
    body.text
}

/// The text for a finding whose fields or rules are too long for a message.
pub(super) fn bare(findings: &[Finding], context: &Context<'_>) -> String {
    let mut body = Body::default();
    body.prose(&headline(findings, context));
    body.blank();
    facts(&mut body, findings, context);
    body.field(
        "Note",
        "fields and advice are left out, for they exceed what one message holds",
    );
    evidence(&mut body, findings, context);
    body.text
}

fn headline(findings: &[Finding], context: &Context<'_>) -> String {
    let top = &findings[0];
    let record = &top.record;
    let account = affected_account(record, context.file_account);
    let account = account.map_or_else(
        || "an account that the record does not name".to_owned(),
        |account| format!("account {account}"),
    );
    let who = match record.actor().actor_type {
        "Root" => "The root user".to_owned(),
        _ => capitalised(&clean(&actor_name(&record.actor()), UNTRUSTED_CHARACTERS)),
    };
    if findings.len() == 1 {
        let event = event_name(record);
        let title = clean(&top.rule().title, UNTRUSTED_CHARACTERS);
        return match record.outcome() {
            Outcome::Succeeded => {
                format!("{who} called {event} on {account}, and it succeeded: {title}.")
            }
            Outcome::Failed { .. } => format!(
                "{who} tried {event} on {account}, and it failed. It would have meant: {title}."
            ),
        };
    }
    let failed = findings
        .iter()
        .filter(|finding| finding.record.outcome() != Outcome::Succeeded)
        .count();
    let outcome = match failed {
        0 => "all succeeded".to_owned(),
        failed if failed == findings.len() => "all failed".to_owned(),
        failed => format!("{failed} failed"),
    };
    format!(
        "{who} made {} sensitive calls on {account} ({outcome}), the most severe {}: {}.",
        findings.len(),
        event_name(record),
        clean(&top.rule().title, UNTRUSTED_CHARACTERS)
    )
}

/// Event, outcome, account, who, from where and when, of the finding on top.
fn facts(body: &mut Body, findings: &[Finding], context: &Context<'_>) {
    let record = &findings[0].record;
    let actor = record.actor();
    let field = |name| {
        record.text(name).map_or_else(
            || "unknown".to_owned(),
            |text| clean(text, UNTRUSTED_CHARACTERS),
        )
    };
    let one = findings.len() == 1;
    let label = if one { "Event" } else { "Highest" };
    body.field(
        label,
        &format!("{} ({})", event_name(record), field("eventSource")),
    );
    body.field("Outcome", &outcome(record, context));
    let (shown, of_rule) = (findings[0].level(), findings[0].rule().level);
    if shown != of_rule {
        body.field(
            "Level",
            &format!("{shown}, one below the rule's level ({of_rule}), because the attempt failed"),
        );
    }
    body.field("Account", &accounts(record, context));
    body.field("Who", &who(&actor));
    if let Some(arn) = actor.arn {
        body.field("ARN", &clean(arn, 2048));
    }
    if let Some(service) = actor.invoked_by
        && actor.actor_type != "AWSService"
    {
        let service = clean(service, UNTRUSTED_CHARACTERS);
        body.field(
            "Through",
            &format!("{service}, an AWS service that acted on their behalf"),
        );
    }
    let addresses: BTreeSet<&str> = findings
        .iter()
        .filter_map(|finding| finding.record.text("sourceIPAddress"))
        .collect();
    let others = match addresses.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more addresses", count - 1),
    };
    body.field(
        "From",
        &format!(
            "{}{others}, Region {}",
            field("sourceIPAddress"),
            field("awsRegion")
        ),
    );
    body.field("Agent", &field("userAgent"));
    body.field("When", &when(record, context.now));
    if let Some(correction) = record.addendum().as_ref().and_then(correction) {
        body.field("Note", &correction);
    }
    if !record.unreadable().is_empty() {
        let members = clean(&record.unreadable().join(", "), UNTRUSTED_CHARACTERS);
        body.field(
            "Note",
            &format!("could not be read, see the log file: {members}"),
        );
    }
}

fn outcome(record: &Record, context: &Context<'_>) -> String {
    match record.outcome() {
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Failed { code } => {
            let code = code.map_or_else(String::new, |code| {
                format!(", {}", clean(code, UNTRUSTED_CHARACTERS))
            });
            let message = match record.text("errorMessage") {
                Some(message) if !context.withhold_values => {
                    format!(" ({})", clean(message, UNTRUSTED_CHARACTERS))
                }
                _ => String::new(),
            };
            format!("failed{code}{message}")
        }
    }
}

fn accounts(record: &Record, context: &Context<'_>) -> String {
    let affected = affected_account(record, context.file_account);
    let recorded = record.recipient_account();
    match (affected, recorded) {
        (Some(affected), Some(recorded)) if affected != *recorded => {
            format!("{affected}, by a call that was made in {recorded}")
        }
        (Some(affected), _) => affected,
        (None, _) => "unknown".to_owned(),
    }
}

fn who(actor: &Actor<'_>) -> String {
    let mut parts = vec![match actor.actor_type {
        "Root" => "root user".to_owned(),
        _ => clean(&actor_name(actor), UNTRUSTED_CHARACTERS),
    }];
    if actor.assumed_root {
        parts.push("in a root session opened by the management account".to_owned());
    }
    if let Some(session) = actor.session {
        parts.push(format!("session {}", clean(session, UNTRUSTED_CHARACTERS)));
    }
    if let Some(account) = &actor.account {
        parts.push(format!("of account {account}"));
    }
    if let Some(key) = actor.access_key_id {
        parts.push(format!("access key {}", clean(key, UNTRUSTED_CHARACTERS)));
    }
    parts.push(match actor.mfa {
        Some(true) => "with MFA".to_owned(),
        Some(false) => "without MFA".to_owned(),
        None => "MFA unknown".to_owned(),
    });
    parts.join(", ")
}

fn when(record: &Record, now: Timestamp) -> String {
    let late = record
        .addendum()
        .map_or_else(String::new, |addendum| late(&addendum));
    match (record.event_time(), record.text("eventTime")) {
        (Some(time), _) => format!("{} ({}){late}", utc(time), age(time, now)),
        (None, Some(time)) => format!("{}{late}", clean(time, UNTRUSTED_CHARACTERS)),
        (None, None) => format!("unknown{late}"),
    }
}

/// Says why CloudTrail delivered a record late.
fn late(addendum: &Addendum<'_>) -> String {
    match addendum.reason {
        UPDATED_DATA => String::new(),
        DELIVERY_DELAY => "; CloudTrail delivered it late (DELIVERY_DELAY)".to_owned(),
        SERVICE_OUTAGE => "; CloudTrail received it late, after an outage of the service \
                             (SERVICE_OUTAGE)"
            .to_owned(),
        other => format!(
            "; CloudTrail's addendum gives the reason {}",
            clean(other, 64)
        ),
    }
}

/// Says which event a record corrects, and in which fields.
fn correction(addendum: &Addendum<'_>) -> Option<String> {
    if addendum.reason != UPDATED_DATA {
        return None;
    }
    let original = addendum.original_event_id.map_or_else(
        || "an earlier event".to_owned(),
        |id| format!("event {}", clean(id, UNTRUSTED_CHARACTERS)),
    );
    let fields = match &addendum.updated_fields[..] {
        [] => String::new(),
        fields => format!(
            "; updated fields: {}",
            clean(&fields.join(", "), UNTRUSTED_CHARACTERS)
        ),
    };
    Some(format!(
        "CloudTrail corrects {original} (UPDATED_DATA){fields}"
    ))
}

fn finding_line(finding: &Finding) -> String {
    let record = &finding.record;
    let time = match (record.event_time(), record.text("eventTime")) {
        (Some(time), _) => utc(time),
        (None, Some(time)) => clean(time, 32),
        (None, None) => "time unknown".to_owned(),
    };
    let code = match record.outcome() {
        Outcome::Failed { code: Some(code) } => format!(" ({})", clean(code, 64)),
        _ => String::new(),
    };
    let mut line = format!(
        "{time}  {}  {} {}{code}  {}",
        finding.level().as_str().to_uppercase(),
        clean(record.text("eventName").unwrap_or("unnamed event"), 128),
        record.outcome(),
        event_id(record)
    );
    if let Some(addendum) = record.addendum() {
        line.push_str(match addendum.reason {
            UPDATED_DATA => "  correction",
            DELIVERY_DELAY | SERVICE_OUTAGE => "  delivered late",
            _ => "  with an addendum",
        });
    }
    line
}

fn explain(body: &mut Body, rule: &Rule, one_of_several: bool) {
    let about = if one_of_several {
        format!(": {}", clean(&rule.title, UNTRUSTED_CHARACTERS))
    } else {
        String::new()
    };
    if !rule.description.is_empty() {
        body.heading(&format!("WHY IT MATTERS{about}"));
        body.prose(&clean_prose(&rule.description));
    }
    if !rule.response.is_empty() {
        body.heading(&format!("WHAT TO DO NOW{about}"));
        for (index, step) in rule.response.iter().enumerate() {
            body.item(&format!("{}. ", index + 1), &clean_prose(step));
        }
    }
    if !rule.false_positives.is_empty() {
        body.heading(&format!("KNOWN BENIGN CAUSES{about}"));
        for cause in &rule.false_positives {
            body.item("- ", &clean_prose(cause));
        }
    }
}

/// Each rule once, in the order of the findings: the rule of the top finding first.
fn distinct_rules(findings: &[Finding]) -> Vec<&Rule> {
    let mut rules: Vec<&Rule> = Vec::new();
    for finding in findings {
        if !rules.iter().any(|rule| rule.id == finding.rule().id) {
            rules.push(finding.rule());
        }
    }
    rules
}

fn event_name(record: &Record) -> String {
    record.text("eventName").map_or_else(
        || "an unnamed event".to_owned(),
        |name| clean(name, UNTRUSTED_CHARACTERS),
    )
}

pub(super) fn event_id(record: &Record) -> String {
    record
        .event_id()
        .map_or_else(|| "no event id".to_owned(), |id| clean(id, 64))
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// A rule's own prose: links in it are meant, hidden characters are not.
fn clean_prose(text: &str) -> String {
    visible(text, 4_000)
}
