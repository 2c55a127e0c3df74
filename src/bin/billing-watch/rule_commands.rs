//! `billing-watch rules …`: list, show, check and explain rules.

use std::{fmt::Write as _, fs, path::Path};

use billing_watch::{
    alert::Escaped,
    aws::RuleFiles,
    cloudtrail::Record,
    rules::{FailedCondition, LoadedRules, OptionalRules, Rule, RulePack},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Status, Stop,
    arguments::{RuleArguments, RulesCommand},
    output, preview,
};

/// Most characters of a value of a record in an explanation.
const VALUE_CHARACTERS: usize = 120;
/// Most rules that an explanation of one record names.
const EXPLAINED_RULES: usize = 5;

/// Runs a command.
pub(crate) fn run(command: &RulesCommand) -> Result<Status, Stop> {
    match command {
        RulesCommand::List(options) => list(&load(options)?),
        RulesCommand::Show { id, rules } => show(&load(rules)?, id),
        RulesCommand::Check { dir } => check(dir),
        RulesCommand::Explain {
            file,
            rules,
            show_values,
        } => explain(&load(rules)?, file, *show_values),
    }
}

/// Loads the bundled rules with the user's. A file of the user's that can't be used stops the command:
/// without it the result would be another one.
pub(crate) fn load(options: &RuleArguments) -> Result<RulePack, Stop> {
    if options.rules.is_none() && options.filters.is_none() {
        return Ok(RulePack::bundled(&options.optional_rules));
    }
    let mut files = RuleFiles::default();
    for folder in options.rules.iter().chain(&options.filters) {
        let read = in_folder(folder)?;
        files.readable.extend(read.readable);
        files.rejected.extend(read.rejected);
    }
    let loaded = loaded(&options.optional_rules, &files)?;
    let problems = files.rejected.iter().chain(&loaded.rejected);
    let problems: Vec<String> = problems.map(ToString::to_string).collect();
    if problems.is_empty() {
        Ok(loaded.pack)
    } else {
        Err(Stop::rules(problems.join("\nbilling-watch: ")))
    }
}

fn in_folder(folder: &Path) -> Result<RuleFiles, Stop> {
    RuleFiles::in_folder(folder).map_err(|error| {
        let cause = std::error::Error::source(&error);
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        Stop::rules(format!("{error}{cause}; name a folder with rules"))
    })
}

fn loaded(optional: &OptionalRules, files: &RuleFiles) -> Result<LoadedRules, Stop> {
    RulePack::load(optional, &files.readable).map_err(|problem| Stop::rules(problem.to_string()))
}

fn list(pack: &RulePack) -> Result<Status, Stop> {
    let mut text = String::new();
    for rule in pack.rules() {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<13}  {}  {}", rule.level, rule.id, rule.title);
    }
    output::print(&output::without_controls(&text))?;
    Ok(Status::Done)
}

fn show(pack: &RulePack, id: &str) -> Result<Status, Stop> {
    let found: Vec<&Rule> = pack
        .rules()
        .filter(|rule| rule.id.starts_with(id))
        .collect();
    match &found[..] {
        [] => Err(Stop::usage(format!(
            "no rule has an id that begins with `{}`; `billing-watch rules list` lists them",
            id.escape_default()
        ))),
        [rule] => {
            output::print(&output::without_controls(&described(rule)))?;
            Ok(Status::Done)
        }
        several => Err(Stop::usage(format!(
            "{} rules have an id that begins with `{}`; give more of it",
            several.len(),
            id.escape_default()
        ))),
    }
}

fn described(rule: &Rule) -> String {
    let mut text = format!(
        "{}\nLevel: {}\nId:    {}\nFile:  {}\n\n{}\n",
        rule.title, rule.level, rule.id, rule.file, rule.description
    );
    for (heading, items) in [
        ("What to do", &rule.response),
        ("Known benign causes", &rule.false_positives),
        ("References", &rule.references),
        ("Tags", &rule.tags),
    ] {
        if !items.is_empty() {
            let _ = write!(text, "\n{heading}:\n");
            for item in items {
                let _ = writeln!(text, "- {item}");
            }
        }
    }
    text
}

/// Parses and lints the files of a folder, and runs the tests beside them.
fn check(folder: &Path) -> Result<Status, Stop> {
    let files = in_folder(folder)?;
    let loaded = loaded(&OptionalRules::default(), &files)?;
    let problems = files.rejected.iter().chain(&loaded.rejected);
    let mut problems: Vec<String> = problems.map(ToString::to_string).collect();
    let mut tests = 0;
    for rule in loaded.pack.rules() {
        if files.readable.iter().any(|file| file.name == rule.file) {
            tests += run_tests(&loaded.pack, rule, &mut problems);
        }
    }
    let mut text = String::new();
    for problem in &problems {
        let _ = writeln!(text, "{problem}");
    }
    let count = files.readable.len() + files.rejected.len();
    let _ = writeln!(
        text,
        "{}, {}, {}",
        output::counted(count, "file"),
        output::counted(tests, "tested record"),
        output::counted(problems.len(), "problem")
    );
    output::print(&output::without_controls(&text))?;
    Ok(if problems.is_empty() {
        Status::Done
    } else {
        Status::Findings
    })
}

/// Runs the tests beside a rule. Returns the number of their records.
fn run_tests(pack: &RulePack, rule: &Rule, problems: &mut Vec<String>) -> usize {
    let place = Path::new(&rule.file).with_extension("tests.json");
    let shown = place.display();
    let text = match fs::read_to_string(&place) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
        Err(error) => {
            problems.push(format!("{shown}: {error}; make it readable"));
            return 0;
        }
    };
    let tests: Value = match serde_json::from_str(&text) {
        Ok(tests) => tests,
        Err(error) => {
            problems.push(format!("{shown}:{}: {error}; correct it", error.line()));
            return 0;
        }
    };
    let mut count = 0;
    for (member, wanted) in [("match", true), ("no_match", false)] {
        let records = tests.get(member).and_then(Value::as_array);
        for (index, record) in records.into_iter().flatten().enumerate() {
            count += 1;
            let found = pack.evaluate(&Record::from_value(record.clone()), Timestamp::UNIX_EPOCH);
            let is_found =
                found.is_some_and(|found| found.rules.iter().any(|one| one.id == rule.id));
            if is_found != wanted {
                let verb = if is_found {
                    "matches"
                } else {
                    "does not match"
                };
                problems.push(format!(
                    "{shown}: the rule {verb} record {} of `{member}`; correct the rule or the record",
                    index + 1
                ));
            }
        }
    }
    if count == 0 {
        problems.push(format!(
            "{shown}: holds no records; give it the members `match` and `no_match`, each a list of records"
        ));
    }
    count
}

fn explain(pack: &RulePack, file: &Path, show_values: bool) -> Result<Status, Stop> {
    for (index, record) in preview::records(file)?.iter().enumerate() {
        let text = explained(pack, record, index + 1, show_values);
        output::print(&output::without_controls(&text))?;
    }
    Ok(Status::Done)
}

fn explained(pack: &RulePack, record: &Record, number: usize, show_values: bool) -> String {
    let shown = |member: &str| {
        let text = record.text(member).unwrap_or("unknown");
        Escaped::name(text, VALUE_CHARACTERS)
    };
    let mut text = format!(
        "Record {number}: {} of {}\n",
        shown("eventName"),
        shown("eventSource")
    );
    let matched = pack.evaluate(record, Timestamp::now());
    if let Some(matched) = &matched {
        for rule in &matched.rules {
            let _ = writeln!(
                text,
                "  matches: {} ({}, {})",
                rule.title, rule.level, rule.file
            );
        }
        for filter in &matched.filters {
            let _ = writeln!(text, "  suppressed by the filter {filter}");
        }
    }
    let mut others = pack.explain(record, false);
    if matched.is_none() && others.is_empty() {
        let _ = writeln!(text, "  no rule names this event of this source");
        others = pack.explain(record, true);
    }
    // The nearest ones first.
    others.sort_by_key(|other| other.failed.len());
    for other in others.iter().take(EXPLAINED_RULES) {
        let _ = writeln!(
            text,
            "  does not match: {} ({})",
            other.rule.title, other.rule.file
        );
        for condition in &other.failed {
            let _ = writeln!(text, "    {}", in_words(condition, show_values));
        }
    }
    if others.len() > EXPLAINED_RULES {
        let _ = writeln!(
            text,
            "  and {} more rules do not",
            others.len() - EXPLAINED_RULES
        );
    }
    text
}

fn in_words(condition: &FailedCondition, show_values: bool) -> String {
    let selection = &condition.selection;
    if condition.negated {
        let verb = if selection.contains(", ") {
            "match"
        } else {
            "matches"
        };
        return format!("{selection} {verb}, and must not");
    }
    let actual = match &condition.actual {
        None => "which the record does not have".to_owned(),
        Some(_) if !show_values && condition.field.as_deref().is_some_and(is_personal) => {
            "which is withheld (--show-values)".to_owned()
        }
        Some(value) => {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            format!("which is {}", Escaped::untrusted(&value, VALUE_CHARACTERS))
        }
    };
    match &condition.field {
        Some(field) => format!("{selection} wants {field}: {}, {actual}", condition.wanted),
        None => format!("{selection} wants the word {}", condition.wanted),
    }
}

/// Whether a field may hold what alerts withhold.
fn is_personal(field: &str) -> bool {
    ["requestParameters", "responseElements"]
        .iter()
        .any(|member| field.starts_with(member))
}
