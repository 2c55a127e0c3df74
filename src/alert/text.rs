//! The alert as a mail: plain text, written for somebody who was just woken by it.

use super::{
    Alert, Escaped, TestContent,
    body::Body,
    content::{FindingContent, RecordChoice, RuleContent},
    words::{Markup, urgency, utc},
};

/// Most rules of a group that are explained.
const EXPLAINED_RULES: usize = 5;
/// Most findings of a group whose fields are listed.
const DETAILED_FINDINGS: usize = 10;
/// Most event ids in the command that prints the records.
const PRINTED_RECORDS: usize = 20;
/// A mail has no markup.
const PLAIN: Markup = Markup::Plain;

/// The text of an alert.
pub(super) fn text(alert: &Alert<'_>) -> String {
    let mut body = Body::default();
    opening(&mut body, alert);
    if alert.findings.len() > 1 {
        body.heading(&format!("ALL {} FINDINGS", alert.findings.len()));
        for (index, finding) in alert.findings.iter().enumerate() {
            let bullet = format!("{}. ", index + 1);
            let (what, when) = PLAIN.listed(finding);
            body.item(&bullet, &what);
            body.item(&" ".repeat(bullet.len()), &when);
        }
    }
    let rules = distinct_rules(alert);
    for rule in rules.iter().take(EXPLAINED_RULES) {
        explain(&mut body, rule, alert.findings.len() > 1);
    }
    if rules.len() > EXPLAINED_RULES {
        body.blank();
        body.prose("The other rules are explained in docs/rules.md, or in your own files.");
    }
    fields(&mut body, alert);
    evidence(&mut body, alert);
    body.heading(if rules.len() > 1 { "RULES" } else { "RULE" });
    for rule in &rules {
        body.item(
            "",
            &format!(
                "{} ({}, {}, {})",
                rule.title, rule.level, rule.id, rule.file
            ),
        );
    }
    let others = &alert.top().rules[1..];
    if alert.findings.len() == 1 && !others.is_empty() {
        let others: Vec<&str> = others.iter().map(|rule| rule.title.as_str()).collect();
        body.prose(&format!("Also matched: {}.", others.join(", ")));
    }
    body.text
}

/// The text of an alert on one finding whose fields or rules are too long for a message.
pub(super) fn bare(alert: &Alert<'_>) -> String {
    let mut body = Body::default();
    opening(&mut body, alert);
    body.field(
        "Note",
        "fields and advice are left out, for they exceed what one message holds",
    );
    evidence(&mut body, alert);
    body.text
}

/// Urgency, headline and facts.
fn opening(body: &mut Body, alert: &Alert<'_>) {
    body.line(urgency(alert.top().level));
    body.prose(&PLAIN.headline(alert));
    if !alert.part.only {
        body.prose(&format!(
            "This is part {} of this alert. Each part lists findings of its own; together the parts \
             list all of them.",
            alert.part.number
        ));
    }
    body.blank();
    for (label, text) in PLAIN.facts(alert) {
        body.field(label, &text);
    }
}

fn explain(body: &mut Body, rule: &RuleContent, one_of_several: bool) {
    let about = if one_of_several {
        format!(": {}", rule.title)
    } else {
        String::new()
    };
    if !rule.description.as_str().is_empty() {
        body.heading(&format!("WHY IT MATTERS{about}"));
        body.prose(rule.description.as_str());
    }
    if !rule.response.is_empty() {
        body.heading(&format!("WHAT TO DO NOW{about}"));
        for (index, step) in rule.response.iter().enumerate() {
            body.item(&format!("{}. ", index + 1), step.as_str());
        }
    }
    if !rule.false_positives.is_empty() {
        body.heading(&format!("KNOWN BENIGN CAUSES{about}"));
        for cause in &rule.false_positives {
            body.item("- ", cause.as_str());
        }
    }
}

/// Each rule once, in the order of the findings: the rule of the top finding first.
fn distinct_rules<'a>(alert: &Alert<'a>) -> Vec<&'a RuleContent> {
    let mut rules: Vec<&RuleContent> = Vec::new();
    for finding in alert.findings {
        if !rules.iter().any(|rule| rule.id == finding.rule().id) {
            rules.push(finding.rule());
        }
    }
    rules
}

/// The changed fields of each finding.
fn fields(body: &mut Body, alert: &Alert<'_>) {
    let findings = alert.findings;
    let detailed = &findings[..findings.len().min(DETAILED_FINDINGS)];
    if detailed.iter().all(|finding| finding.fields.is_empty()) {
        return;
    }
    let failed = findings.len() == 1 && alert.top().outcome.failed;
    body.heading(if failed {
        "FIELDS OF THE FAILED REQUEST"
    } else {
        "CHANGED FIELDS"
    });
    for (index, finding) in detailed.iter().enumerate() {
        if finding.fields.is_empty() {
            continue;
        }
        if findings.len() > 1 {
            let failed = if finding.outcome.failed {
                ", which failed"
            } else {
                ""
            };
            body.line(&format!("of finding {}{failed}:", index + 1));
        }
        for field in &finding.fields {
            body.line(&format!("  {}: {}", field.path, field.value));
        }
        if finding.has_more_fields {
            body.line("  … and more, see the record itself");
        }
    }
    if findings.len() > DETAILED_FINDINGS {
        body.line("The fields of the other findings are in their records.");
    }
}

/// Where the proof is: the log file, a command that prints the records, a link to the console.
fn evidence(body: &mut Body, alert: &Alert<'_>) {
    let top = alert.top();
    let evidence = &top.evidence;
    body.heading("EVIDENCE");
    if alert.findings.len() == 1 {
        body.field("Event id", &PLAIN.event_id(top));
    }
    if let (Some(log_file), Some(fetch)) = (&evidence.log_file, &evidence.fetch) {
        body.unbroken("Log file", log_file.as_str());
        body.unbroken("Print it", &print_command(alert, fetch));
        if alert.findings.len() > PRINTED_RECORDS {
            body.line("          (the first ones; the list above has the ids of all)");
        }
    } else if let Some(lookup) = &evidence.lookup {
        body.unbroken("Look up", lookup.as_str());
        if alert.findings.len() > 1 {
            body.line("          (the highest; put in the ids of the others from the list above)");
        }
        let account = recorded_in(top);
        body.line(&format!(
            "          (with credentials of {account}; works for 90 days)"
        ));
    } else {
        body.field(
            "Look up",
            "the record's Region or event id is missing or odd; see CloudTrail's event history",
        );
    }
    match &evidence.console {
        Some(link) => {
            body.unbroken("Console", link.as_str());
            let account = recorded_in(top);
            body.line(&format!(
                "          (sign in to {account} first; works for 90 days)"
            ));
        }
        None => body.field(
            "Console",
            "no link, for the record's Region or event id is missing or odd",
        ),
    }
}

/// The account whose CloudTrail holds the record.
fn recorded_in(finding: &FindingContent) -> String {
    match finding.recorded.as_ref().or(finding.affected.as_ref()) {
        Some(account) => format!("account {}", account.id),
        None => "the account of the event".to_owned(),
    }
}

/// A command for copy and paste that prints the records.
fn print_command(alert: &Alert<'_>, fetch: &Escaped) -> String {
    let choices = alert
        .findings
        .iter()
        .map(|finding| &finding.evidence.choice);
    let ids: Vec<&str> = choices
        .take(PRINTED_RECORDS)
        .filter_map(|choice| match choice {
            RecordChoice::EventId(id) => Some(id.as_str()),
            RecordChoice::NameAndTime(..) => None,
        })
        .collect();
    let chosen = match (&ids[..], &alert.top().evidence.choice) {
        ([], RecordChoice::NameAndTime(name, time)) => {
            let text = |text: &Option<Escaped>, own: &str| {
                text.as_ref()
                    .map_or_else(|| own.to_owned(), Escaped::to_string)
            };
            format!(
                ".eventName == {} and .eventTime == {}",
                text(name, ".eventName"),
                text(time, ".eventTime")
            )
        }
        ([id], _) => format!(".eventID == {id}"),
        (ids, _) => format!(".eventID | IN({})", ids.join(", ")),
    };
    let filter = Escaped::shell_word(&format!(".Records[] | select({chosen})"));
    format!("{fetch} | jq {filter}")
}

/// The text of a self-test.
pub(super) fn self_test(test: &TestContent<'_>) -> String {
    let mut body = Body::default();
    body.prose(&format!(
        "This is a test of billing-watch, asked for at {}.",
        utc(test.now)
    ));
    body.blank();
    body.prose(
        "If you can read this, alerts reach you on this subscription. Nothing has happened in any \
         account, and there is nothing to do.",
    );
    body.blank();
    for line in test.lines() {
        body.line(&line);
    }
    body.text
}
