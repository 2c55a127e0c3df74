//! The fields that a request changed, by their paths in the record.

use serde_json::Value;

use super::{Context, body::Body, escape::clean, withhold};
use crate::{cloudtrail::Outcome, rules::Finding};

/// Most fields that an alert lists of one finding.
const LISTED_FIELDS: usize = 40;
/// How deep the fields of a request are followed.
const FIELD_DEPTH: usize = 6;
/// Most findings of a group whose fields are listed.
const DETAILED_FINDINGS: usize = 10;
/// The members of a record that hold what changed.
const CHANGED_MEMBERS: [&str; 3] = [
    "requestParameters",
    "responseElements",
    "serviceEventDetails",
];

/// Lists the changed fields of each finding.
pub(super) fn changes(body: &mut Body, findings: &[Finding], context: &Context<'_>) {
    let mut headed = false;
    for (index, finding) in findings.iter().take(DETAILED_FINDINGS).enumerate() {
        let fields = fields_of(finding, context.withhold_values);
        if fields.is_empty() {
            continue;
        }
        let failed = finding.record.outcome() != Outcome::Succeeded;
        if !headed {
            headed = true;
            body.heading(if failed && findings.len() == 1 {
                "FIELDS OF THE FAILED REQUEST"
            } else {
                "CHANGED FIELDS"
            });
        }
        if findings.len() > 1 {
            let failed = if failed { ", which failed" } else { "" };
            body.line(&format!("of finding {}{failed}:", index + 1));
        }
        for field in fields.iter().take(LISTED_FIELDS) {
            body.line(&format!("  {field}"));
        }
        if fields.len() > LISTED_FIELDS {
            body.line("  … and more, see the log file");
        }
    }
    if headed && findings.len() > DETAILED_FINDINGS {
        body.line("The fields of the other findings are in the log file.");
    }
}

fn fields_of(finding: &Finding, withhold_values: bool) -> Vec<String> {
    let mut leaves = Leaves {
        withhold_values,
        fields: Vec::new(),
    };
    for member in CHANGED_MEMBERS {
        match finding.record.get(member) {
            None | Some(Value::Null) => {}
            Some(value) => leaves.add(member, member, value, FIELD_DEPTH),
        }
    }
    leaves.fields
}

/// Leaves of JSON values as `path: value` lines, at most one more than an alert lists.
struct Leaves {
    withhold_values: bool,
    fields: Vec<String>,
}

impl Leaves {
    /// Adds the leaves of `value`, which stands at `path` under the member `name`.
    fn add(&mut self, path: &str, name: &str, value: &Value, depth: usize) {
        if self.fields.len() > LISTED_FIELDS {
            return;
        }
        match value {
            Value::Object(members) if !members.is_empty() && depth > 0 => {
                for (key, value) in members {
                    let path = format!("{path}.{}", clean(key, 64));
                    self.add(&path, key, value, depth - 1);
                }
            }
            Value::Array(members) if !members.is_empty() && depth > 0 => {
                for (index, value) in members.iter().take(LISTED_FIELDS + 1).enumerate() {
                    self.add(&format!("{path}[{index}]"), name, value, depth - 1);
                }
            }
            leaf => {
                let shown = withhold::shown(name, leaf, self.withhold_values);
                self.fields.push(format!("{path}: {shown}"));
            }
        }
    }
}
