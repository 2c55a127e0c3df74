//! The filters of `rules/filters/`, filled in as their users do it, on whole scenarios.

use std::{collections::BTreeMap, path::PathBuf};

use billing_watch::{
    cloudtrail::Sources,
    rules::{Level, OptionalRules, RuleFile, RulePack},
};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{Harness, gzip_log, log_key};

/// The last day of a filter that has expired, before the harness's day.
const YESTERDAY: &str = "2026-03-01";

/// A story, and what of it alerts.
#[derive(Deserialize)]
struct Scenario {
    /// File in `rules/filters/`.
    filter: String,
    /// What a user writes instead of each placeholder.
    fill: BTreeMap<String, String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    /// What happens.
    what: String,
    /// The level of the alert without the filter; `none` if there is none.
    without: String,
    /// The same with the filter; `suppressed` if the filter takes it away.
    with: String,
    record: Value,
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn scenarios() -> Vec<Scenario> {
    let files = std::fs::read_dir(root().join("tests/data/scenarios")).unwrap();
    let texts = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    texts
        .map(|text| serde_json::from_slice(&text).unwrap())
        .collect()
}

/// The filter's file, with these values in place of its placeholders.
fn filled_in(name: &str, values: &BTreeMap<String, String>) -> RuleFile {
    let mut text = std::fs::read_to_string(root().join("rules/filters").join(name)).unwrap();
    for (placeholder, value) in values {
        assert!(text.contains(placeholder), "{name}: no {placeholder}");
        text = text.replace(placeholder, value);
    }
    let name = name.to_owned();
    RuleFile { name, text }
}

/// The level that the alert on the record shows, `suppressed`, or `none`.
fn result(record: &Value, rules: &[RuleFile]) -> String {
    let key = log_key("Abcdefgh12345678");
    let mut record = record.clone();
    record["eventID"] = Value::from("event-1");
    record["eventTime"] = Value::from("2026-03-02T16:44:04Z");
    let mut harness = Harness::new().with_object(&key, gzip_log(&[record]));
    let loaded = RulePack::load(&OptionalRules::default(), rules).unwrap();
    assert_eq!(loaded.rejected, []);
    harness.settings.watched = Sources::only(loaded.pack.sources());
    harness.rules = rules.to_vec();
    let run = harness.run(&[&key]);
    match &run.alerts[..] {
        [alert] => alert.subject[1..].split(']').next().unwrap().to_lowercase(),
        _ if run.report.suppressed == 1 => "suppressed".to_owned(),
        _ => "none".to_owned(),
    }
}

#[test]
fn a_filter_takes_away_what_its_scenario_says_and_nothing_else() {
    let mut filters: Vec<String> = Vec::new();
    for scenario in scenarios() {
        let filter = filled_in(&scenario.filter, &scenario.fill);
        assert!(scenario.steps.iter().any(|step| step.with == "suppressed"));
        assert!(
            scenario
                .steps
                .iter()
                .any(|step| step.with == step.without && step.with != "none")
        );
        for Step {
            what,
            without,
            with,
            record,
        } in &scenario.steps
        {
            let place = format!("{}: {what}", scenario.filter);
            assert_eq!(result(record, &[]), shown(without, record), "{place}");
            let expected = if with == "suppressed" {
                with.clone()
            } else {
                shown(with, record)
            };
            assert_eq!(
                result(record, std::slice::from_ref(&filter)),
                expected,
                "{place}, filtered"
            );
        }
        filters.push(scenario.filter);
    }
    filters.sort();
    let mut shipped: Vec<String> = std::fs::read_dir(root().join("rules/filters"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    shipped.sort();
    assert_eq!(filters, shipped, "each filter has a scenario");
}

/// The level that an alert shows: of a failed attempt, one less than the scenario's.
fn shown(level: &str, record: &Value) -> String {
    match level.parse::<Level>() {
        Ok(level) if record.get("errorCode").is_some() => level.lowered().to_string(),
        _ => level.to_owned(),
    }
}

#[test]
fn an_expired_filter_takes_nothing_away() {
    for mut scenario in scenarios() {
        let Some(expires) = scenario.fill.get_mut("FILL-IN-DATE") else {
            continue;
        };
        YESTERDAY.clone_into(expires);
        let filter = filled_in(&scenario.filter, &scenario.fill);
        for Step {
            what,
            without,
            record,
            ..
        } in &scenario.steps
        {
            let result = result(record, std::slice::from_ref(&filter));
            assert_eq!(
                result,
                shown(without, record),
                "{}: {what}",
                scenario.filter
            );
        }
    }
}

#[test]
fn a_filter_that_is_not_filled_in_is_left_out_with_a_remedy() {
    for scenario in scenarios() {
        for forgotten in scenario.fill.keys() {
            let mut values = scenario.fill.clone();
            values.remove(forgotten);
            let file = filled_in(&scenario.filter, &values);
            let loaded = RulePack::load(&OptionalRules::default(), &[file]).unwrap();
            let [problem] = &loaded.rejected[..] else {
                panic!("{}: {:?}", scenario.filter, loaded.rejected);
            };
            let problem = problem.to_string();
            assert!(problem.contains("a value is not filled in"), "{problem}");
            assert!(
                problem.starts_with(&format!("{}:", scenario.filter)),
                "{problem}"
            );
        }
    }
}
