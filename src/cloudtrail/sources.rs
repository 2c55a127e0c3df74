//! Which event sources are of interest: the one question both scanners ask of every record.

use std::collections::BTreeSet;

use serde_json::Value;

/// The event sources whose records a scan hands out.
///
/// Sources compare without regard to case, as Sigma compares values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sources {
    /// Every record, whatever its source: costs a full parse of each.
    All,
    /// Records of these sources, in lower case.
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

    /// Whether a record with this `eventSource` is of interest; an array is if any member is, as
    /// Sigma has it.
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

    /// Whether the inside of a JSON string, still escaped, may be of interest: yes where in doubt.
    pub(super) fn may_match(&self, raw: &[u8]) -> bool {
        memchr::memchr(b'\\', raw).is_some() || self.may_match_unescaped(raw)
    }

    /// As [`Sources::may_match`], where nothing is escaped.
    pub(super) fn may_match_unescaped(&self, raw: &[u8]) -> bool {
        let Self::Only(names) = self else { return true };
        !raw.is_ascii()
            || names
                .iter()
                .any(|name| name.as_bytes().eq_ignore_ascii_case(raw))
    }
}
