//! Prints docs/rules.md from the bundled pack: `cargo run --example rules-reference > docs/rules.md`.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use billing_watch::{
    cloudtrail::Record,
    rules::{Rule, RulePack},
};
use jiff::Timestamp;
use serde_json::json;

/// AWS's actions as the CloudTrail pages of the billing, account and organizations guides list them.
const EVENTS: &str = include_str!("../tests/data/billing-events.tsv");

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(reference().as_bytes())
}

/// An action of AWS, as one line of the list.
struct Event {
    source: &'static str,
    name: &'static str,
    required: bool,
    moved_to: &'static str,
}

/// The whole page.
pub(crate) fn reference() -> String {
    let pack = match RulePack::load(&[]) {
        Ok(loaded) => loaded.pack,
        Err(problem) => return problem.to_string(),
    };
    let events = events();
    let mut by_rule: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    let mut rule_of: BTreeMap<(&str, &str), &Rule> = BTreeMap::new();
    for event in &events {
        // The password rule is about the root user alone; the others ask for no identity.
        let record = json!({
            "eventSource": event.source,
            "eventName": event.name,
            "userIdentity": {"type": "Root"},
        });
        let matched = pack.evaluate(&Record::from_value(record), Timestamp::UNIX_EPOCH);
        let id = matched.map(|matched| matched.rules[0].id.clone());
        if let Some(rule) = pack.rules().find(|rule| Some(&rule.id) == id.as_ref()) {
            by_rule.entry(rule.id.clone()).or_default().push(event);
            rule_of.insert((event.source, event.name), rule);
        }
    }
    let mut page = String::from(
        "<!-- Generated from rules/ by `make docs`; edit those files. -->\n\
         # Rules\n\n\
         | level | rule | file |\n| --- | --- | --- |\n",
    );
    for rule in pack.rules() {
        line(
            &mut page,
            format_args!(
                "| {} | {} | [{}](../{}) |",
                rule.level, rule.title, rule.file, rule.file
            ),
        );
    }
    required(&mut page, &events, &rule_of);
    for rule in pack.rules() {
        section(
            &mut page,
            rule,
            by_rule.get(&rule.id).map_or(&[], Vec::as_slice),
        );
    }
    page
}

fn events() -> Vec<Event> {
    EVENTS
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&'static str> = line.split('\t').collect();
            let [source, name, required, _, _, _, moved_to] = fields[..] else {
                return None;
            };
            Some(Event {
                source,
                name,
                required: required == "yes",
                moved_to,
            })
        })
        .collect()
}

fn required(page: &mut String, events: &[Event], rule_of: &BTreeMap<(&str, &str), &Rule>) {
    page.push_str(
        "\n## The billing console's 32 classic events, and where each went\n\n\
         AWS moves billing events to other sources. Each rule matches its action under every name \
         and source\nthat is known; whether a source alerts is for `EVENT_SOURCES` to say.\n\n\
         | event of billingconsole.amazonaws.com | level | rule | where it went |\n\
         | --- | --- | --- | --- |\n",
    );
    for event in events.iter().filter(|event| event.required) {
        let rule = rule_of.get(&(event.source, event.name));
        line(
            page,
            format_args!(
                "| `{}` | {} | {} | {} |",
                event.name,
                rule.map_or("", |rule| rule.level.as_str()),
                rule.map_or("none", |rule| &rule.title),
                if event.moved_to.is_empty() {
                    "still there"
                } else {
                    event.moved_to
                }
            ),
        );
    }
}

fn section(page: &mut String, rule: &Rule, events: &[&Event]) {
    line(page, format_args!("\n## {}\n", rule.title));
    line(
        page,
        format_args!(
            "Level {}, id `{}`, [{}](../{})\n",
            rule.level, rule.id, rule.file, rule.file
        ),
    );
    line(page, format_args!("{}\n", rule.description));
    page.push_str("What to do now:\n\n");
    for (index, step) in rule.response.iter().enumerate() {
        line(page, format_args!("{}. {step}", index + 1));
    }
    page.push_str("\nKnown benign causes:\n\n");
    for cause in &rule.false_positives {
        line(page, format_args!("- {cause}"));
    }
    line(page, format_args!("\nATT&CK: {}\n", rule.tags.join(", ")));
    let mut by_source: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for event in events {
        let name = format!("`{}`", event.name);
        by_source.entry(event.source).or_default().push(name);
    }
    for (source, names) in by_source {
        line(page, format_args!("- {source}: {}", names.join(", ")));
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(page, "{text}");
}
