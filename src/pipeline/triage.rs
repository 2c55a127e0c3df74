//! Triage: what a record means, by rules, filters, minimum level and watched sources.
//!
//! Pure: a record and the time go in, a decision comes out.

use jiff::Timestamp;

use crate::{
    alert::Escaped,
    cloudtrail::{Record, Sources},
    rules::{Finding, Level, RulePack},
};

/// Most characters of an event's source or name in a log line.
const NAME_CHARACTERS: usize = 128;

/// Decides about records.
#[derive(Debug)]
pub struct Triage {
    /// The rules.
    pub pack: RulePack,
    /// The sources whose findings alert.
    pub watched: Sources,
    /// The lowest level that alerts.
    pub minimum_level: Level,
}

/// A record's decision, with what the report needs beside it.
#[derive(Debug)]
pub struct Triaged {
    /// What happens to the record.
    pub decision: Decision,
    /// The highest level of the matching rules, before filters.
    pub level: Level,
    /// Filters that would have suppressed the finding if they had not expired.
    pub expired_filters: Vec<String>,
}

/// What happens to a record that matches a rule.
#[derive(Debug)]
pub enum Decision {
    /// Below the minimum level: counted.
    BelowLevel,
    /// Suppressed by these filters: counted.
    Suppressed(Vec<String>),
    /// Of a source that is not watched: counted. Holds event source and event name, for the log.
    Unwatched(String),
    /// Of a job that wants no alerts: stands in its result.
    ResultOnly(Finding),
    /// To be alerted on.
    Alert(Finding),
}

impl Triage {
    /// Decides about one record; `None` where no rule matches. Nothing alerts where `result_only` says so.
    /// `now` decides which filters have expired.
    pub fn decide(&self, record: Record, result_only: bool, now: Timestamp) -> Option<Triaged> {
        let matched = self.pack.evaluate(&record, now)?;
        let is_suppressed = matched.rules.is_empty()
            // The rules that the filters left are below the minimum level.
            || (!matched.filters.is_empty() && matched.rules[0].level < self.minimum_level);
        let decision = if matched.level < self.minimum_level {
            Decision::BelowLevel
        } else if is_suppressed {
            Decision::Suppressed(matched.filters)
        } else if !self.watched.matches(record.get("eventSource")) {
            Decision::Unwatched(source_and_name(&record))
        } else {
            let finding = Finding {
                record,
                rules: matched.rules,
            };
            if result_only {
                Decision::ResultOnly(finding)
            } else {
                Decision::Alert(finding)
            }
        };
        Some(Triaged {
            decision,
            level: matched.level,
            expired_filters: matched.expired_filters,
        })
    }
}

fn source_and_name(record: &Record) -> String {
    let text = |name| Escaped::name(record.text(name).unwrap_or_default(), NAME_CHARACTERS);
    format!("{} {}", text("eventSource"), text("eventName"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it can't go on")]

    use serde_json::json;

    use super::*;
    use crate::rules::{OptionalRules, RuleFile};

    const BILLING: &str = "billingconsole.amazonaws.com";
    const ACCOUNT: &str = "account.amazonaws.com";

    /// A filter on `rule` that takes out what `CloseAccount` records of one address mean.
    fn filter(rule: &str, expires: &str) -> RuleFile {
        RuleFile {
            name: "filter.yml".to_owned(),
            text: format!(
                "title: Planned\nid: 6b1f6c3e-7c3a-4f0e-8d55-9d3f5f0f7a11\ndescription: Planned.\n\
                 logsource:\n  product: aws\n  service: cloudtrail\nexpires: {expires}\n\
                 filter:\n  rules:\n    - {rule}\n  planned:\n    sourceIPAddress: 203.0.113.7\n  \
                 condition: not planned\n"
            ),
        }
    }

    fn triage(minimum_level: Level, expires: &str) -> Triage {
        let bundled = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
        let closed = bundled
            .rules()
            .find(|rule| rule.title == "AWS account closed");
        let files = [filter(&closed.unwrap().id, expires)];
        let loaded = RulePack::load(&OptionalRules::default(), &files).unwrap();
        assert!(loaded.rejected.is_empty(), "{:?}", loaded.rejected);
        Triage {
            pack: loaded.pack,
            watched: Sources::only([BILLING]),
            minimum_level,
        }
    }

    fn decide(
        triage: &Triage,
        source: &str,
        name: &str,
        address: &str,
        result_only: bool,
    ) -> String {
        let record = Record::from_value(json!({
            "eventSource": source, "eventName": name, "sourceIPAddress": address,
        }));
        let triaged = triage.decide(record, result_only, "2026-03-02T00:00:00Z".parse().unwrap());
        let Some(triaged) = triaged else {
            return "no match".to_owned();
        };
        let decision = match triaged.decision {
            Decision::BelowLevel => "below level".to_owned(),
            Decision::Suppressed(filters) => format!("suppressed by {}", filters.len()),
            Decision::Unwatched(event) => format!("unwatched: {event}"),
            Decision::ResultOnly(_) => "result only".to_owned(),
            Decision::Alert(_) => "alert".to_owned(),
        };
        match triaged.expired_filters.len() {
            0 => format!("{}, {decision}", triaged.level),
            expired => format!("{}, {decision}, {expired} expired", triaged.level),
        }
    }

    #[test]
    fn level_filters_and_sources_decide_in_this_order() {
        let (planned, other) = ("203.0.113.7", "198.51.100.1");
        let triage = triage(Level::Medium, "2026-03-02");
        for (source, name, address, expected) in [
            (BILLING, "GetObject", other, "no match"),
            (BILLING, "GetAddresses", other, "informational, below level"),
            (
                BILLING,
                "CloseAccount",
                planned,
                "critical, suppressed by 1",
            ),
            (
                ACCOUNT,
                "CloseAccount",
                planned,
                "critical, suppressed by 1",
            ),
            (BILLING, "CloseAccount", other, "critical, alert"),
            (
                ACCOUNT,
                "CloseAccount",
                other,
                "critical, unwatched: account.amazonaws.com CloseAccount",
            ),
            (BILLING, "SetPayInformation", planned, "high, alert"),
        ] {
            let decision = decide(&triage, source, name, address, false);
            assert_eq!(decision, expected, "{source} {name} {address}");
        }
    }

    #[test]
    fn an_expired_filter_suppresses_nothing_and_is_named() {
        let triage = triage(Level::Medium, "2026-03-01");
        let decision = decide(&triage, BILLING, "CloseAccount", "203.0.113.7", false);
        assert_eq!(decision, "critical, alert, 1 expired");
    }

    #[test]
    fn what_is_for_the_result_only_does_not_alert() {
        let triage = triage(Level::Medium, "2026-03-01");
        for (result_only, expected) in [(true, "critical, result only"), (false, "critical, alert")]
        {
            let decision = decide(
                &triage,
                BILLING,
                "CloseAccount",
                "198.51.100.1",
                result_only,
            );
            assert_eq!(decision, expected);
        }
    }
}
