//! Reads CloudTrail records from standard input, one a line, and prints for each record that matches a rule
//! one JSON object: its alert in each format, as a subscriber gets it. The tests of the formats read it.
//!
//! Each record is in a log file of its own. A record of `cameBy` `EventBridge` or `CloudWatchLogs` is a
//! direct event instead, and one with `differs` differs from another record of its id.

use std::io::{BufRead as _, Write as _};

use billing_watch::{
    alert::{
        AccountNames, AttributeValue, Audience, Context, FindingContent, Message, RuleContents,
        Style, compose,
    },
    cloudtrail::{CameBy, Record},
    envelope::ObjectRef,
    rules::{Finding, OptionalRules, RulePack},
};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let optional: Vec<&str> = OptionalRules::known().collect();
    let pack = RulePack::load(&optional.join(",").parse()?, &[])?.pack;
    let style = Style {
        withhold_values: true,
        account_names: AccountNames::parse(r#"{"111122223333": "Payments <production>"}"#)?,
        time_zone: Some(TimeZone::get("Europe/Berlin")?),
    };
    let object = ObjectRef {
        bucket: "example-trail-logs".to_owned(),
        key: "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/a.json.gz".to_owned(),
        version_id: None,
    };
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let mut record: Value = serde_json::from_str(&line?)?;
        let mut option = |name| {
            record
                .as_object_mut()
                .and_then(|record| record.remove(name))
        };
        let differs = option("differs").is_some();
        let came_by = match option("cameBy").as_ref().and_then(Value::as_str) {
            Some("EventBridge") => CameBy::EventBridge,
            Some("CloudWatchLogs") => CameBy::CloudWatchLogs,
            _ => CameBy::LogFile,
        };
        let record = Record::from_value(record).with_path(came_by);
        let now = record.event_time().unwrap_or(Timestamp::UNIX_EPOCH);
        let Some(matched) = pack.evaluate(&record, now) else {
            continue;
        };
        let finding = Finding {
            record,
            rules: matched.rules,
        };
        let context = Context {
            object: (!came_by.is_direct()).then_some(&object),
            file_account: Some("111122223333"),
            backfill: false,
            style: &style,
            now,
        };
        let words = FindingContent::of(&finding, &context, &mut RuleContents::default(), differs);
        let format = |audience| {
            let messages = compose(audience, &[&words], &context, 0, true);
            messages.first().map(|(message, _)| shown(message))
        };
        let formats = json!({
            "text": format(Audience::People),
            "chat": format(Audience::Chat),
            "ocsf": format(Audience::Machines),
        });
        writeln!(output, "{formats}")?;
    }
    Ok(())
}

fn shown(message: &Message) -> Value {
    let attributes = message.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            AttributeValue::One(value) => json!(value),
            AttributeValue::Many(values) => json!(values),
        };
        (attribute.name.to_owned(), value)
    });
    json!({
        "subject": message.subject,
        "body": message.body,
        "attributes": attributes.collect::<serde_json::Map<_, _>>(),
    })
}
