//! The fields that a request changed, by their paths in the record.

use serde_json::Value;

use super::{Escaped, withhold};
use crate::rules::Finding;

/// Most fields that an alert lists of one finding.
const LISTED_FIELDS: usize = 40;
/// How deep the fields of a request are followed.
const FIELD_DEPTH: usize = 6;
/// Most characters of one key in a path.
const KEY_CHARACTERS: usize = 64;
/// The members of a record that hold what changed.
const CHANGED_MEMBERS: [&str; 3] = [
    "requestParameters",
    "responseElements",
    "serviceEventDetails",
];

/// A field and its value, as far as it is shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FieldContent {
    /// Such as `requestParameters.contacts[0].city`.
    pub(super) path: Escaped,
    pub(super) value: Escaped,
}

/// The changed fields of a finding, and whether there are more.
pub(super) fn changed_fields(
    finding: &Finding,
    withhold_values: bool,
) -> (Vec<FieldContent>, bool) {
    let mut leaves = Leaves {
        withhold_values,
        fields: Vec::new(),
    };
    for member in CHANGED_MEMBERS {
        match finding.record.get(member) {
            None | Some(Value::Null) => {}
            Some(value) => leaves.add(
                &Escaped::name(member, KEY_CHARACTERS),
                member,
                value,
                FIELD_DEPTH,
            ),
        }
    }
    let has_more = leaves.fields.len() > LISTED_FIELDS;
    leaves.fields.truncate(LISTED_FIELDS);
    (leaves.fields, has_more)
}

/// Leaves of JSON values, at most one more than an alert lists.
struct Leaves {
    withhold_values: bool,
    fields: Vec<FieldContent>,
}

impl Leaves {
    /// Adds the leaves of `value`, which stands at `path` under the member `name`.
    fn add(&mut self, path: &Escaped, name: &str, value: &Value, depth: usize) {
        if self.fields.len() > LISTED_FIELDS {
            return;
        }
        match value {
            Value::Object(members) if !members.is_empty() && depth > 0 => {
                for (key, value) in members {
                    self.add(
                        &path.member(&Escaped::name(key, KEY_CHARACTERS)),
                        key,
                        value,
                        depth - 1,
                    );
                }
            }
            Value::Array(members) if !members.is_empty() && depth > 0 => {
                for (index, value) in members.iter().take(LISTED_FIELDS + 1).enumerate() {
                    self.add(&path.element(index), name, value, depth - 1);
                }
            }
            leaf => self.fields.push(FieldContent {
                path: path.clone(),
                value: withhold::shown(name, leaf, self.withhold_values),
            }),
        }
    }
}
