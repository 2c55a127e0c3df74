//! The results of all files together, in an order that does not depend on which file was read first.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, hash_map},
};

use billing_watch::{alert::RuleAdvice, rules::Level};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    coverage::{Coverage, Gap},
    engine::{FileEnd, FileResult, Found},
    output,
    selection::Selection,
};

/// Messages on single files that a summary repeats.
const LISTED_FAILURES: usize = 20;

/// What was found so far. Memory grows with findings, accounts and days, not with files.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct Collection {
    /// By what tells their records apart.
    found: HashMap<String, Found>,
    /// The advice of each rule, once.
    advice: BTreeMap<String, RuleAdvice>,
    pub(crate) coverage: Coverage,
    pub(crate) summary: Summary,
}

/// What a careful person asks about a scan.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Summary {
    /// Files that were read to their end.
    pub(crate) files_read: u64,
    /// Files that were not read, by reason.
    pub(crate) files_skipped: BTreeMap<String, u64>,
    /// Files that could not be read to their end.
    pub(crate) files_failed: u64,
    /// Names of the first of these, each with its problem.
    pub(crate) failures: BTreeSet<String>,
    pub(crate) bytes: u64,
    pub(crate) expanded_bytes: u64,
    pub(crate) findings: u64,
    /// Findings by level.
    pub(crate) findings_by_level: BTreeMap<String, u64>,
    /// Records that were in more than one file, or twice in one.
    pub(crate) duplicates: u64,
    /// Findings below the minimum level.
    pub(crate) below_level: u64,
    /// Findings that a filter suppressed.
    pub(crate) suppressed: u64,
    /// Findings of sources that are not watched.
    pub(crate) unwatched: u64,
    /// Findings outside of the selected time, accounts and Regions.
    pub(crate) unselected: u64,
    pub(crate) first_finding: Option<Timestamp>,
    pub(crate) last_finding: Option<Timestamp>,
    pub(crate) accounts: Vec<String>,
    pub(crate) regions: Vec<String>,
    /// Days without any file, by account.
    pub(crate) gaps: Vec<Gap>,
}

/// A finished collection.
#[derive(Debug)]
pub(crate) struct Collected {
    /// Sorted by time.
    pub(crate) found: Vec<Found>,
    pub(crate) advice: Vec<RuleAdvice>,
    pub(crate) summary: Summary,
}

impl Summary {
    /// Counts files that could not be read to their end, and says why.
    pub(crate) fn fail(&mut self, files: u64, message: String) {
        self.files_failed += files;
        self.failures.insert(message);
        if self.failures.len() > LISTED_FAILURES {
            self.failures.pop_last();
        }
    }
}

impl Collection {
    /// Adds what became of a file. Returns a message where it could not be read.
    pub(crate) fn add(&mut self, file: FileResult) -> Option<String> {
        let summary = &mut self.summary;
        summary.bytes += file.bytes;
        summary.expanded_bytes += file.expanded_bytes;
        summary.below_level += file.below_level;
        summary.suppressed += file.suppressed;
        summary.unwatched += file.unwatched;
        summary.unselected += file.unselected;
        let mut message = None;
        let is_read = file.end == FileEnd::Read;
        match file.end {
            FileEnd::Read => summary.files_read += 1,
            FileEnd::Skipped(reason) => {
                *summary.files_skipped.entry(reason.to_owned()).or_default() += 1;
            }
            FileEnd::Failed(problem) | FileEnd::Unread(problem) | FileEnd::NotListed(problem) => {
                let problem = output::without_controls(&problem);
                let text = format!("{}: {problem}", file.name.escape_debug());
                summary.fail(1, text.clone());
                message = Some(text);
            }
        }
        // What could not be read is not covered.
        if let (true, Some(name)) = (is_read, &file.log_file) {
            self.coverage.add(name);
        }
        for advice in file.advice {
            self.advice.entry(advice.id.to_string()).or_insert(advice);
        }
        for found in file.found {
            self.add_finding(found);
        }
        message
    }

    /// A record counts once. Of its copies, the one of the highest level stays, and of these that of the file
    /// whose name comes first.
    fn add_finding(&mut self, found: Found) {
        let rank = |found: &Found| {
            let file = found.listing.log_file.as_ref().map(ToString::to_string);
            (Reverse(found.listing.level), file)
        };
        match self.found.entry(found.record.clone()) {
            hash_map::Entry::Vacant(place) => {
                place.insert(found);
            }
            hash_map::Entry::Occupied(mut place) => {
                self.summary.duplicates += 1;
                if rank(&found) < rank(place.get()) {
                    place.insert(found);
                }
            }
        }
    }

    /// Brings everything into order. `selection` says which accounts and days may have gaps.
    pub(crate) fn finish(mut self, selection: &Selection) -> Collected {
        self.coverage.retain(selection);
        let mut found: Vec<Found> = self.found.into_values().collect();
        found.sort_by(|a, b| {
            let key = |one: &Found| (one.listing.event_time, one.record.clone());
            key(a).cmp(&key(b))
        });
        let summary = &mut self.summary;
        summary.findings = found.len() as u64;
        for level in Level::ALL {
            let count = found
                .iter()
                .filter(|one| one.listing.level == level)
                .count();
            if count > 0 {
                summary
                    .findings_by_level
                    .insert(level.to_string(), count as u64);
            }
        }
        let times = || found.iter().filter_map(|one| one.listing.event_time);
        summary.first_finding = times().min();
        summary.last_finding = times().max();
        summary.accounts = self.coverage.accounts().map(str::to_owned).collect();
        summary.regions = self.coverage.regions().map(str::to_owned).collect();
        summary.gaps = self.coverage.gaps();
        let mut advice: Vec<_> = self.advice.into_values().collect();
        advice.sort_by_key(|one| (Reverse(one.level), one.title.clone()));
        Collected {
            found,
            advice,
            summary: self.summary,
        }
    }
}
