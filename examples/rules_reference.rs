//! Prints docs/rules.md from the bundled pack; with the argument `candidates` rules/candidates.tsv,
//! and with `checksums` rules/SHA256SUMS. `make docs` writes them.

use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

use billing_watch::{
    cloudtrail::Record,
    rules::{OptionalRules, Rule, RulePack},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// AWS's actions as the CloudTrail pages of the billing, account and organizations guides list them.
const EVENTS: &str = include_str!("../tests/data/billing-events.tsv");

/// Prose wraps at this column.
const COLUMNS: usize = 100;

fn main() -> std::io::Result<()> {
    let index = || RulePack::bundled_index().unwrap_or_else(|problem| panic!("{problem}"));
    let text = match std::env::args().nth(1).as_deref() {
        Some("candidates") => index().0,
        Some("checksums") => index().1,
        _ => reference(),
    };
    std::io::stdout().write_all(text.as_bytes())
}

/// An action of AWS, as one line of the list.
struct Event {
    source: &'static str,
    name: &'static str,
    required: bool,
    moved_to: &'static str,
    /// Members that a record of this line has, as JSON; empty if it needs none.
    members: &'static str,
}

/// The whole page.
pub(crate) fn reference() -> String {
    let names: Vec<&str> = OptionalRules::known().collect();
    let loaded = names
        .join(",")
        .parse()
        .map(|optional| RulePack::load(&optional, &[]));
    let pack = match loaded {
        Ok(Ok(loaded)) => loaded.pack,
        Ok(Err(problem)) => return problem.to_string(),
        Err(problem) => return problem,
    };
    let events = events();
    let mut by_rule: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
    let mut rule_of: BTreeMap<(&str, &str), &Rule> = BTreeMap::new();
    for event in &events {
        let mut record = serde_json::from_str(event.members).unwrap_or_else(|_| json!({}));
        record["eventSource"] = json!(event.source);
        record["eventName"] = json!(event.name);
        if let Some(rule) = highest(&pack, record) {
            by_rule.entry(rule.id.clone()).or_default().push(event);
            if event.members.is_empty() {
                rule_of.insert((event.source, event.name), rule);
            }
        }
    }
    // What a rule without a name in the list matches: every other change of these sources.
    let mut all_of: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in pack.sources() {
        let record = json!({"eventSource": source, "eventName": "ChangeWhatNoRuleNames"});
        if let Some(rule) = highest(&pack, record) {
            all_of.entry(rule.id.clone()).or_default().push(source);
        }
    }
    let mut page = String::from(
        "<!-- Generated from rules/ by `make docs`; edit those files. -->\n\
         # Rules\n\n\
         This page is for everyone who gets alerts or writes rules. It lists the bundled rules, \
         the most\nsevere first. For each rule it says why the action matters, what to do now, \
         and which known events\nof CloudTrail the rule matches. The rules in a folder of \
         [rules/optional/](../rules/optional)\napply only if `OPTIONAL_RULES` names the folder.\n\n\
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
            all_of.get(&rule.id).map_or(&[], Vec::as_slice),
        );
    }
    page
}

/// Returns the rule of the highest level that matches a record.
fn highest(pack: &RulePack, record: Value) -> Option<&Rule> {
    let matched = pack.evaluate(&Record::from_value(record), Timestamp::UNIX_EPOCH)?;
    pack.rules().find(|rule| rule.id == matched.rules[0].id)
}

fn events() -> Vec<Event> {
    EVENTS
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&'static str> = line.split('\t').collect();
            let [source, name, required, _, _, _, moved_to, members] = fields[..] else {
                return None;
            };
            Some(Event {
                source,
                name,
                required: required == "yes",
                moved_to,
                members,
            })
        })
        .collect()
}

fn required(page: &mut String, events: &[Event], rule_of: &BTreeMap<(&str, &str), &Rule>) {
    page.push_str(
        "\n## The 32 original events of the billing console, and what replaced them\n\n\
         AWS moves billing events to other event sources. Each rule matches its action under \
         every known\nname and source. `EVENT_SOURCES` decides which sources alert. \"The 2026 \
         page\" is AWS's list of\nbilling events in 2026.\n\n\
         | event of billingconsole.amazonaws.com | level | rule | replaced by |\n\
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
                    "not replaced"
                } else {
                    event.moved_to
                }
            ),
        );
    }
}

fn section(page: &mut String, rule: &Rule, events: &[&Event], all_of: &[&str]) {
    line(page, format_args!("\n## {}\n", rule.title));
    line(
        page,
        format_args!(
            "Level {}, id `{}`,\n[{}](../{})\n",
            rule.level, rule.id, rule.file, rule.file
        ),
    );
    prose(page, "", &rule.description);
    page.push_str("\nWhat to do now:\n\n");
    for (index, step) in rule.response.iter().enumerate() {
        prose(page, &format!("{}. ", index + 1), step);
    }
    page.push_str("\nKnown benign causes:\n\n");
    for cause in &rule.false_positives {
        prose(page, "- ", cause);
    }
    line(page, format_args!("\nATT&CK: {}\n", rule.tags.join(", ")));
    let mut by_source: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for event in events {
        let mut name = format!("`{}`", event.name);
        if !event.members.is_empty() {
            name = format!("{name} with `{}`", event.members);
        }
        by_source.entry(event.source).or_default().push(name);
    }
    for (source, names) in by_source {
        prose(page, "- ", &format!("{source}: {}", names.join(", ")));
    }
    for source in all_of {
        prose(
            page,
            "- ",
            &format!("{source}: every other event that changes something"),
        );
    }
}

/// Adds a paragraph or an item of a list.
fn prose(page: &mut String, bullet: &str, text: &str) {
    let indent = " ".repeat(bullet.len());
    let options = textwrap::Options::new(COLUMNS)
        .initial_indent(bullet)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        .word_separator(textwrap::WordSeparator::AsciiSpace);
    line(page, format_args!("{}", textwrap::fill(text, options)));
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = writeln!(page, "{text}");
}
