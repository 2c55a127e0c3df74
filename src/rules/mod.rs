//! The Sigma rules: which records are findings, and which are exempt.
//!
//! The pack in `rules/` is embedded when the function is built. The user's own rules and filters come
//! as `(name, text)` pairs from wherever they are stored. Nothing about billing is written in Rust.

mod bundled;
mod check;
mod detections;
mod digest;
mod explain;
mod filter;
mod level;
mod pack;
mod pairs;

use std::sync::Arc;

use serde::Serialize;

use crate::cloudtrail::{Outcome, Record};

pub use self::{
    bundled::OptionalRules,
    explain::{Explanation, FailedCondition},
    level::Level,
    pack::{LoadedRules, RulePack},
};

/// One file of rules: its name, for messages, and its YAML text.
#[derive(Clone, Debug)]
pub struct RuleFile {
    /// Path or S3 URI.
    pub name: String,
    /// Sigma YAML, one document.
    pub text: String,
}

/// What an alert shows of a rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// UUID.
    pub id: String,
    /// What happened, in a few words.
    pub title: String,
    /// How much it matters.
    pub level: Level,
    /// Why it matters.
    pub description: String,
    /// What to do now, step by step.
    pub response: Vec<String>,
    /// Known benign causes.
    pub false_positives: Vec<String>,
    /// Further reading.
    pub references: Vec<String>,
    /// MITRE ATT&CK tags.
    pub tags: Vec<String>,
    /// The file it came from.
    pub file: String,
}

/// A file that can't be used, where, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}{}: {problem}; {remedy}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct RuleProblem {
    /// Name of the file.
    pub file: String,
    /// Line, counted from 1, where known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

/// What makes a pack recognisable. A change of it may silence alerts, so people watch it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PackIdentity {
    /// Version of the bundled rules, which is that of the crate.
    pub version: &'static str,
    /// Digest of all rule files that were loaded.
    pub digest: String,
    /// Bundled rules that the user's rules replaced.
    pub rules_replaced: u64,
    /// Filters that have not expired and that suppress a rule of level critical.
    pub critical_filters: u64,
}

/// The rules that a record matched, before and after filters.
#[derive(Clone, Debug)]
pub struct Match {
    /// Highest level before filters.
    pub level: Level,
    /// Rules that no filter took out, highest level first.
    pub rules: Vec<Arc<Rule>>,
    /// Ids of the filters that took rules out.
    pub filters: Vec<String>,
    /// Ids of filters that would have taken rules out, had they not expired.
    pub expired_filters: Vec<String>,
}

/// A record with the rules it matched, highest level first.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The record.
    pub record: Record,
    /// The rules, at least one.
    pub rules: Vec<Arc<Rule>>,
}

impl Finding {
    /// The rule that the alert explains: the first of the highest level.
    pub fn rule(&self) -> &Rule {
        &self.rules[0]
    }

    /// Returns the level that the alert shows: the highest level of the rules, and one less if the
    /// action failed. Whether the finding alerts is decided by the rules' own levels.
    pub fn level(&self) -> Level {
        match self.record.outcome() {
            Outcome::Succeeded => self.rule().level,
            Outcome::Failed { .. } => self.rule().level.lowered(),
        }
    }
}
