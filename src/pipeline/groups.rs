//! Groups: findings that share affected account and actor, collected to be sent as one alert.
//!
//! Pure, and bounded in memory: when the open groups hold too much, the largest is returned early.

use std::collections::HashMap;

use crate::{alert::GroupKey, rules::Finding};

/// Most bytes of records in open groups.
const OPEN_BYTES: usize = 1 << 20;

/// Findings that belong into one alert.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) findings: Vec<Finding>,
    /// Whether the group has ended; if not, a further part may follow.
    pub(super) complete: bool,
}

/// The groups of one source of records.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// The account in the log file's key, for records that name none.
    file_account: Option<String>,
    open: HashMap<GroupKey, OpenGroup>,
    open_bytes: usize,
}

#[derive(Debug, Default)]
struct OpenGroup {
    findings: Vec<Finding>,
    bytes: usize,
}

impl Groups {
    pub(super) fn new(file_account: Option<String>) -> Self {
        Self {
            file_account,
            ..Self::default()
        }
    }

    /// Adds a finding to its group. Returns the largest group when the open ones hold too much.
    pub(super) fn add(&mut self, finding: Finding) -> Option<Group> {
        let key = GroupKey::of(&finding.record, self.file_account.as_deref());
        let bytes = finding.record.memory_bytes();
        let group = self.open.entry(key).or_default();
        group.findings.push(finding);
        group.bytes += bytes;
        self.open_bytes += bytes;
        if self.open_bytes <= OPEN_BYTES {
            return None;
        }
        let largest = self.largest()?;
        let group = self.open.remove(&largest)?;
        self.open_bytes -= group.bytes;
        Some(Group {
            key: largest,
            findings: group.findings,
            complete: false,
        })
    }

    /// Returns the groups that are still open, in the order of their keys.
    pub(super) fn into_rest(self) -> Vec<Group> {
        let mut rest: Vec<Group> = self
            .open
            .into_iter()
            .map(|(key, group)| Group {
                key,
                findings: group.findings,
                complete: true,
            })
            .collect();
        rest.sort_by(|a, b| a.key.cmp(&b.key));
        rest
    }

    /// The largest group; of equal ones the first by key, so that no run differs from another.
    fn largest(&self) -> Option<GroupKey> {
        let largest = self.open.iter().max_by(|(a, larger), (b, smaller)| {
            larger.bytes.cmp(&smaller.bytes).then_with(|| b.cmp(a))
        });
        largest.map(|(key, _)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::{
        cloudtrail::Record,
        rules::{Level, Rule},
    };

    fn finding(account: &str, actor: &str, id: &str, kilobytes: usize) -> Finding {
        let rule = Rule {
            id: "rule".to_owned(),
            title: "Rule".to_owned(),
            level: Level::High,
            description: String::new(),
            response: Vec::new(),
            false_positives: Vec::new(),
            references: Vec::new(),
            tags: Vec::new(),
            file: "rule.yml".to_owned(),
        };
        Finding {
            record: Record::from_value(json!({
                "eventID": id,
                "recipientAccountId": account,
                "userIdentity": {"type": "IAMUser", "arn": actor},
                "requestParameters": "x".repeat(kilobytes << 10),
            })),
            rules: vec![Arc::new(rule)],
        }
    }

    fn ids(group: &Group) -> Vec<&str> {
        let findings = group.findings.iter();
        findings
            .filter_map(|finding| finding.record.event_id())
            .collect()
    }

    #[test]
    fn findings_are_grouped_by_affected_account_and_actor() {
        let mut groups = Groups::new(Some("111122223333".to_owned()));
        for (account, actor, id) in [
            ("111122223333", "alice", "a"),
            ("111122223333", "bob", "b"),
            ("444455556666", "alice", "c"),
            ("111122223333", "alice", "d"),
            ("no account, so that of the file", "alice", "e"),
        ] {
            assert!(groups.add(finding(account, actor, id, 0)).is_none());
        }
        let rest = groups.into_rest();
        assert!(rest.iter().all(|group| group.complete));
        let ids: Vec<Vec<&str>> = rest.iter().map(ids).collect();
        assert_eq!(ids, [vec!["a", "d", "e"], vec!["b"], vec!["c"]]);
    }

    #[test]
    fn the_largest_group_is_returned_when_the_open_ones_hold_more_than_a_mebibyte() {
        let mut groups = Groups::new(None);
        let mut early = Vec::new();
        for (actor, id, kilobytes) in [
            ("alice", "a", 300),
            ("bob", "b", 400),
            ("alice", "c", 200),
            ("carol", "d", 200),
            ("bob", "e", 400),
            ("bob", "f", 10),
        ] {
            if let Some(group) = groups.add(finding("111122223333", actor, id, kilobytes)) {
                assert!(!group.complete);
                early.push(ids(&group).join(" "));
            }
        }
        // The fourth finding makes 1,100 KiB: alice's 500 go. The fifth makes 1,000, the sixth 1,010.
        assert_eq!(early, ["a c"]);
        let rest: Vec<String> = groups
            .into_rest()
            .iter()
            .map(|group| ids(group).join(" "))
            .collect();
        assert_eq!(rest, ["b e f", "d"]);
    }
}
