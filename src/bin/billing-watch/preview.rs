//! `billing-watch preview`: the alert that records would cause.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use billing_watch::{
    alert::{Audience, Context, FindingContent, GroupKey, RuleContents, Style, compose, order},
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

/// How a compressed file begins.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
/// Most bytes of an expanded file, which is read whole.
const LARGEST_BYTES: u64 = 256 << 20;

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
    let mut groups: BTreeMap<GroupKey, Vec<Finding>> = BTreeMap::new();
    for record in records(&options.file)? {
        let matched = pack.evaluate(&record, now);
        let Some(matched) = matched.filter(|matched| matched.level >= options.minimum_level) else {
            continue;
        };
        if !matched.rules.is_empty() {
            let group = groups.entry(GroupKey::of(&record, None)).or_default();
            group.push(Finding {
                record,
                rules: matched.rules,
            });
        }
    }
    if groups.is_empty() {
        eprintln!(
            "No alert at this minimum level; `billing-watch rules explain` says which rules match."
        );
        return Ok(Status::Done);
    }
    let audience = match options.format {
        AlertFormat::Text => Audience::People,
        AlertFormat::Chat => Audience::Chat,
        AlertFormat::Ocsf => Audience::Machines,
    };
    let mut rules = RuleContents::default();
    let mut bodies = Vec::new();
    let mut groups: Vec<Vec<Finding>> = groups.into_values().collect();
    for findings in &mut groups {
        findings.sort_by(order);
    }
    groups.sort_by(|a, b| order(&a[0], &b[0]));
    for findings in groups {
        let contents: Vec<FindingContent> = findings
            .iter()
            .map(|finding| FindingContent::of(finding, &context, &mut rules, false))
            .collect();
        let contents: Vec<&FindingContent> = contents.iter().collect();
        for (message, _) in compose(audience, &contents, &context, 0, true) {
            bodies.push(match serde_json::from_str::<Value>(&message.body) {
                Ok(json) if audience != Audience::People => format!("{json:#}\n"),
                _ => format!("Subject: {}\n\n{}", message.subject, message.body),
            });
        }
    }
    let separator = match audience {
        Audience::People => output::SEPARATOR,
        Audience::Chat | Audience::Machines => "",
    };
    output::print(&bodies.join(separator))?;
    Ok(Status::Done)
}

/// The records of a file: a log file, an event of EventBridge, a list of records, or one.
pub(crate) fn records(file: &Path) -> Result<Vec<Record>, Stop> {
    let shown = file.display();
    let text =
        text_of(file).map_err(|error| Stop::usage(format!("{shown} can't be read: {error}")))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Stop::usage(format!("{shown} is not JSON: {error}")))?;
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

/// The text of a file, which may be compressed as CloudTrail compresses log files.
fn text_of(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.read_to_end(&mut bytes)?;
    }
    if bytes.starts_with(GZIP_MAGIC) {
        #[allow(
            clippy::disallowed_types,
            reason = "a file of the user's own, with a bound"
        )]
        let inflated = flate2::read::MultiGzDecoder::new(&*bytes);
        return io::read_to_string(inflated.take(LARGEST_BYTES));
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}
