//! `billing-watch preview`: the alert that records would cause.

use std::{fs, path::Path};

use billing_watch::{
    alert::{Audience, Context, FindingContent, RuleContents, Style, compose},
    cloudtrail::Record,
    rules::Finding,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    Status, Stop,
    arguments::{AlertFormat, PreviewArguments},
    output, result, rule_commands,
};

/// Runs the command.
pub(crate) fn preview(options: &PreviewArguments) -> Result<Status, Stop> {
    let pack = rule_commands::load(&options.rules)?;
    let now = Timestamp::now();
    let style = Style {
        withhold_values: true,
        account_names: result::account_names(options.account_names.as_deref())?,
        time_zone: None,
    };
    let context = Context {
        object: None,
        file_account: None,
        backfill: false,
        style: &style,
        now,
    };
    let mut rules = RuleContents::default();
    let findings: Vec<FindingContent> = records(&options.file)?
        .into_iter()
        .filter_map(|record| {
            let rules = pack.evaluate(&record, now)?.rules;
            (!rules.is_empty()).then_some(Finding { record, rules })
        })
        .map(|finding| FindingContent::of(&finding, &context, &mut rules, false))
        .collect();
    if findings.is_empty() {
        eprintln!("No rule matches; `billing-watch rules explain` says why.");
        return Ok(Status::Done);
    }
    let findings: Vec<&FindingContent> = findings.iter().collect();
    let audience = match options.format {
        AlertFormat::Text => Audience::People,
        AlertFormat::Chat => Audience::Chat,
        AlertFormat::Ocsf => Audience::Machines,
    };
    for (message, _) in compose(audience, &findings, &context, 0, true) {
        let body = match serde_json::from_str::<Value>(&message.body) {
            Ok(json) if audience != Audience::People => format!("{json:#}\n"),
            _ => format!("Subject: {}\n\n{}", message.subject, message.body),
        };
        output::print(&body)?;
    }
    Ok(Status::Done)
}

/// The records of a file: a log file, an event of EventBridge, a list of records, or one.
pub(crate) fn records(file: &Path) -> Result<Vec<Record>, Stop> {
    let shown = file.display();
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        fs::read_to_string(file)
    };
    let text = text.map_err(|error| Stop::usage(format!("{shown} can't be read: {error}")))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        Stop::usage(format!(
            "{shown} is not JSON: {error}; unpack it first if it is compressed"
        ))
    })?;
    let values = match value {
        Value::Array(values) => values,
        Value::Object(mut members) => match (members.remove("Records"), members.remove("detail")) {
            (Some(Value::Array(values)), _) => values,
            (_, Some(detail)) => vec![detail],
            _ => vec![Value::Object(members)],
        },
        other => vec![other],
    };
    Ok(values.into_iter().map(Record::from_value).collect())
}
