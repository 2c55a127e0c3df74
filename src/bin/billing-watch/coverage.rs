//! Days and accounts without any file: a gap in the trail is a finding by itself.

use std::collections::{BTreeMap, BTreeSet};

use billing_watch::cloudtrail::LogFileName;
use jiff::{ToSpan as _, civil::Date};
use serde::{Deserialize, Serialize};

use crate::selection::Selection;

/// The days of each account that have a file, told by the names.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Coverage {
    days: BTreeMap<String, BTreeSet<Date>>,
    regions: BTreeSet<String>,
}

/// Days in a row without any file of an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Gap {
    pub(crate) account: String,
    /// The first day.
    pub(crate) from: Date,
    /// The last day.
    pub(crate) to: Date,
    pub(crate) days: usize,
}

impl Coverage {
    pub(crate) fn add(&mut self, name: &LogFileName) {
        self.days
            .entry(name.account.clone())
            .or_default()
            .insert(name.delivered_on);
        self.regions.insert(name.region.clone());
    }

    pub(crate) fn accounts(&self) -> impl Iterator<Item = &str> {
        self.days.keys().map(String::as_str)
    }

    pub(crate) fn regions(&self) -> impl Iterator<Item = &str> {
        self.regions.iter().map(String::as_str)
    }

    /// The first and the last day that has a file of any account.
    pub(crate) fn range(&self) -> Option<(Date, Date)> {
        let first = self.days.values().filter_map(BTreeSet::first).min()?;
        let last = self.days.values().filter_map(BTreeSet::last).max()?;
        Some((*first, *last))
    }

    /// Forgets what was not asked for: other accounts and days.
    pub(crate) fn retain(&mut self, selection: &Selection) {
        if !selection.accounts.is_empty() {
            self.days
                .retain(|account, _| selection.accounts.contains(account));
        }
        let (first, last) = selection.days();
        for days in self.days.values_mut() {
            days.retain(|day| {
                first.is_none_or(|first| *day >= first) && last.is_none_or(|last| *day <= last)
            });
        }
    }

    /// The gaps of each account, from the first day of any account to the last one: an account that stops
    /// to deliver has a gap, too.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let Some((first, last)) = self.range() else {
            return Vec::new();
        };
        let mut gaps = Vec::new();
        for (account, days) in &self.days {
            let mut expected = first;
            for day in days.iter().copied().chain([next(last)]) {
                if day > expected {
                    gaps.push(Gap {
                        account: account.clone(),
                        from: expected,
                        to: day.saturating_sub(1.day()),
                        days: usize::try_from(
                            expected.until(day).map_or(0, |span| span.get_days()),
                        )
                        .unwrap_or_default(),
                    });
                }
                expected = next(day);
            }
        }
        gaps
    }
}

fn next(day: Date) -> Date {
    day.saturating_add(1.day())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn coverage(files: &[(&str, i8)]) -> Coverage {
        let mut coverage = Coverage::default();
        for (account, day) in files {
            coverage.add(&LogFileName {
                account: (*account).to_owned(),
                region: "us-east-1".to_owned(),
                delivered_on: date(2026, 3, *day),
            });
        }
        coverage
    }

    #[test]
    fn days_without_a_file_are_gaps_at_the_edges_too() {
        let gaps = coverage(&[("a", 1), ("a", 2), ("a", 9), ("b", 3), ("b", 3)]).gaps();
        let shown: Vec<_> = gaps
            .iter()
            .map(|gap| (&*gap.account, gap.from.day(), gap.to.day(), gap.days))
            .collect();
        assert_eq!(shown, [("a", 3, 8, 6), ("b", 1, 2, 2), ("b", 4, 9, 6)]);
    }

    #[test]
    fn no_files_and_files_of_each_day_have_no_gap() {
        assert_eq!(Coverage::default().gaps(), []);
        assert_eq!(coverage(&[("a", 1), ("a", 2)]).gaps(), []);
    }
}
