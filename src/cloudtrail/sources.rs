//! Sets of event sources, such as the watched ones.

use std::collections::BTreeSet;

use serde_json::Value;

/// A set of event sources. They compare without regard to case, as Sigma compares values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sources {
    /// Every source.
    All,
    /// These sources, in lower case.
    Only(BTreeSet<String>),
}

impl Sources {
    /// Sources of these names, in any case.
    pub fn only<I, S>(names: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Self::Only(
            names
                .into_iter()
                .map(|name| name.as_ref().to_lowercase())
                .collect(),
        )
    }

    /// Returns whether the set holds this `eventSource`. Of an array any member counts, as for Sigma.
    pub fn matches(&self, event_source: Option<&Value>) -> bool {
        match (self, event_source) {
            (Self::All, _) => true,
            (Self::Only(names), Some(Value::String(source))) => {
                names.contains(&source.to_lowercase())
            }
            (Self::Only(_), Some(Value::Array(members))) => {
                members.iter().any(|member| self.matches(Some(member)))
            }
            (Self::Only(_), _) => false,
        }
    }
}
