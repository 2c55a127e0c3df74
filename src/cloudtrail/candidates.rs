//! Which records a scan returns: the one question that probe and splitter ask of every record.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::Value;

use super::record::Record;

/// The records that some rule may match, told by event source and event name.
///
/// Both compare without regard to case, as Sigma compares values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Candidates {
    /// Every record. Costs a full parse of each.
    All,
    /// The records of these pairs.
    Of(Pairs),
}

/// Event sources, each with its event names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pairs {
    /// In lower case, sorted by [`compare`].
    sources: Vec<(Box<[u8]>, Names)>,
}

/// The event names of one source that some rule may match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// Any name, or none at all.
    Any,
    /// These, in lower case, sorted by [`compare`].
    Only(Vec<Box<[u8]>>),
}

impl Candidates {
    /// Candidates of these pairs, in any case. `None` stands for any event name.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut by_source: BTreeMap<String, Option<Vec<Box<[u8]>>>> = BTreeMap::new();
        for (source, name) in pairs {
            let names = by_source
                .entry(source.to_lowercase())
                .or_insert_with(|| Some(Vec::new()));
            match (name, names) {
                (None, names) => *names = None,
                (Some(name), Some(names)) => names.push(name.to_lowercase().into_bytes().into()),
                (Some(_), None) => {}
            }
        }
        let mut sources: Vec<(Box<[u8]>, Names)> = by_source
            .into_iter()
            .map(|(source, names)| {
                let names = names.map_or(Names::Any, |mut names| {
                    names.sort_by(|a, b| compare(a, b));
                    names.dedup();
                    Names::Only(names)
                });
                (source.into_bytes().into(), names)
            })
            .collect();
        sources.sort_by(|(a, _), (b, _)| compare(a, b));
        Self::Of(Pairs { sources })
    }

    /// Adds the pair of an event source and an event name.
    #[must_use]
    pub fn and(self, source: &str, name: &str) -> Self {
        let Self::Of(Pairs { mut sources }) = self else {
            return self;
        };
        let (source, name) = (source.to_lowercase(), name.to_lowercase());
        let (source, name) = (source.as_bytes(), name.as_bytes());
        match sources.binary_search_by(|(known, _)| compare(known, source)) {
            Ok(found) => sources[found].1.insert(name),
            Err(place) => sources.insert(place, (source.into(), Names::Only(vec![name.into()]))),
        }
        Self::Of(Pairs { sources })
    }

    /// Returns whether some rule may match the record. Of an array any member counts, as for Sigma.
    pub fn include(&self, record: &Record) -> bool {
        let Self::Of(pairs) = self else { return true };
        any_text(record.get("eventSource"), &|source| {
            let Some(found) = pairs.find(source.to_lowercase().as_bytes()) else {
                return false;
            };
            let names = pairs.names(found);
            *names == Names::Any
                || any_text(record.get("eventName"), &|name| {
                    names.include(name.to_lowercase().as_bytes())
                })
        })
    }
}

impl Pairs {
    /// Finds a source, written in any case; `None` where no rule may match it.
    pub(super) fn find(&self, source: &[u8]) -> Option<usize> {
        self.sources
            .binary_search_by(|(known, _)| compare(known, source))
            .ok()
    }

    /// The names of a source that [`Pairs::find`] has found.
    pub(super) fn names(&self, found: usize) -> &Names {
        &self.sources[found].1
    }

    /// The length of the longest source or name, in bytes.
    pub(super) fn longest(&self) -> usize {
        let texts = self.sources.iter().flat_map(|(source, names)| {
            let names: &[Box<[u8]>] = match names {
                Names::Any => &[],
                Names::Only(names) => names,
            };
            names.iter().chain([source])
        });
        texts.map(|text| text.len()).max().unwrap_or(0)
    }
}

impl Names {
    fn insert(&mut self, name: &[u8]) {
        if let Self::Only(names) = self
            && let Err(place) = names.binary_search_by(|known| compare(known, name))
        {
            names.insert(place, name.into());
        }
    }

    /// Returns whether a name, written in any case, is one of these.
    pub(super) fn include(&self, name: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => names.binary_search_by(|known| compare(known, name)).is_ok(),
        }
    }
}

/// Orders by length first, which decides most comparisons, then by the letters in lower case. `known`
/// is in lower case already.
fn compare(known: &[u8], other: &[u8]) -> Ordering {
    known.len().cmp(&other.len()).then_with(|| {
        if known == other {
            return Ordering::Equal;
        }
        known
            .iter()
            .copied()
            .cmp(other.iter().map(u8::to_ascii_lowercase))
    })
}

/// Returns whether `wanted` accepts the text, or one of the texts in a list.
fn any_text(value: Option<&Value>, wanted: &impl Fn(&str) -> bool) -> bool {
    match value {
        Some(Value::String(text)) => wanted(text),
        Some(Value::Array(members)) => members.iter().any(|member| any_text(Some(member), wanted)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_record_is_a_candidate_if_its_source_and_its_name_are_a_pair() {
        let candidates = Candidates::of([
            ("IAM.amazonaws.com", Some("CreateUser")),
            ("iam.amazonaws.com", Some("DeleteUser")),
            ("billing.amazonaws.com", None),
            ("billing.amazonaws.com", Some("GetBill")),
        ]);
        for (source, name, expected) in [
            (json!("iam.amazonaws.com"), json!("CreateUser"), true),
            (json!("Iam.AmazonAWS.com"), json!("createuser"), true),
            (json!("iam.amazonaws.com"), json!("GetUser"), false),
            (json!("iam.amazonaws.com"), json!(null), false),
            (
                json!("iam.amazonaws.com"),
                json!(["GetUser", "DeleteUser"]),
                true,
            ),
            (
                json!(["s3.amazonaws.com", "iam.amazonaws.com"]),
                json!("DeleteUser"),
                true,
            ),
            (json!("billing.amazonaws.com"), json!("AnyName"), true),
            (json!("billing.amazonaws.com"), json!(null), true),
            (json!("s3.amazonaws.com"), json!("CreateUser"), false),
            (json!(7), json!("CreateUser"), false),
        ] {
            let record = Record::from_value(json!({"eventSource": source, "eventName": name}));
            assert_eq!(candidates.include(&record), expected, "{source} {name}");
        }
    }
}
