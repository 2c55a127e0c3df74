//! The Sigma rules: what is worth an alert, and which records are exempt.
//!
//! The pack in `rules/` is embedded at build time; the user's own rules and filters come as
//! `(name, text)` pairs from wherever they are kept. Nothing about billing is written in Rust.

mod check;
mod detections;
mod sources;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use include_dir::{Dir, include_dir};
use jiff::{Timestamp, civil::Date};
use rsigma_eval::{CompiledRule, JsonEvent, evaluate_rule};

use crate::cloudtrail::{Record, Sources};

static BUNDLED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/rules");

/// How much a rule matters, in Sigma's words and order.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// For the record: reads.
    Informational,
    /// Worth knowing.
    Low,
    /// Worth a look.
    Medium,
    /// Worth acting on today.
    High,
    /// Worth waking somebody.
    Critical,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [
        Self::Informational,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// Sigma's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| {
                format!("`{text}` is not one of informational, low, medium, high, critical")
            })
    }
}

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

/// Rules and filters, checked and ready to match. Clones share them.
#[derive(Clone, Debug)]
pub struct RulePack {
    rules: Arc<[ReadyRule]>,
    filters: Arc<[ReadyFilter]>,
}

/// A pack, and what the start-up log should tell of it.
#[derive(Debug)]
pub struct Loaded {
    /// The pack.
    pub pack: RulePack,
    /// The user's files that were left out.
    pub rejected: Vec<RuleProblem>,
    /// One line for each of the user's rules and filters.
    pub changes: Vec<String>,
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

    /// The highest level of its rules.
    pub fn level(&self) -> Level {
        self.rule().level
    }
}

#[derive(Debug)]
struct ReadyRule {
    rule: Arc<Rule>,
    compiled: CompiledRule,
    sources: Result<std::collections::BTreeSet<String>, String>,
}

#[derive(Debug)]
struct ReadyFilter {
    id: String,
    title: String,
    file: String,
    reason: String,
    rule_ids: Vec<String>,
    expires: Option<Date>,
    compiled: CompiledRule,
}

impl RulePack {
    /// The bundled pack, with the user's rules and filters added; a user's rule with the id of a
    /// bundled one replaces it.
    ///
    /// A broken bundled rule is an error. A broken one of the user's is left out and told in
    /// `rejected`, so that a typing error does not silence the rest.
    pub fn load(user: &[RuleFile]) -> Result<Loaded, RuleProblem> {
        Self::load_over(&bundled_files(), user)
    }

    /// As [`RulePack::load`], over another set of bundled files.
    pub fn load_over(bundled: &[RuleFile], user: &[RuleFile]) -> Result<Loaded, RuleProblem> {
        let mut rules: BTreeMap<String, ReadyRule> = BTreeMap::new();
        for file in bundled {
            let check::Document::Rule(ready) = check::read(file)? else {
                return Err(check::problem(
                    file,
                    None,
                    "a filter in the bundled pack",
                    "move it",
                ));
            };
            let id = ready.rule.id.clone();
            if let Some(other) = rules.insert(id, *ready) {
                return Err(check::same_id(file, &other.rule.file));
            }
        }
        let mut rejected = Vec::new();
        let mut changes = Vec::new();
        let mut own_ids: BTreeMap<String, String> = BTreeMap::new();
        let mut filters: Vec<(&RuleFile, ReadyFilter)> = Vec::new();
        for file in user {
            match check::read(file) {
                Ok(check::Document::Rule(ready)) => {
                    let id = ready.rule.id.clone();
                    if let Some(other) = own_ids.get(&id) {
                        rejected.push(check::same_id(file, other));
                        continue;
                    }
                    own_ids.insert(id.clone(), file.name.clone());
                    let title = ready.rule.title.clone();
                    changes.push(match rules.insert(id.clone(), *ready) {
                        Some(old) => format!(
                            "rule {id} `{title}` of {} replaces `{}`",
                            file.name, old.rule.title
                        ),
                        None => format!("rule {id} `{title}` of {} added", file.name),
                    });
                }
                Ok(check::Document::Filter(filter)) => filters.push((file, *filter)),
                Err(problem) => rejected.push(problem),
            }
        }
        let mut kept: Vec<ReadyFilter> = Vec::new();
        for (file, filter) in filters {
            let unknown = filter.rule_ids.iter().find(|id| !rules.contains_key(*id));
            if let Some(id) = unknown {
                rejected.push(check::unknown_rule(file, id));
            } else if let Some(other) = kept.iter().find(|other| other.id == filter.id) {
                rejected.push(check::same_id(file, &other.file));
            } else {
                changes.push(filter.to_string());
                kept.push(filter);
            }
        }
        let mut rules: Vec<ReadyRule> = rules.into_values().collect();
        rules.sort_by(|a, b| {
            (b.rule.level.cmp(&a.rule.level)).then_with(|| a.rule.id.cmp(&b.rule.id))
        });
        Ok(Loaded {
            pack: Self {
                rules: rules.into(),
                filters: kept.into(),
            },
            rejected,
            changes,
        })
    }

    /// The rules, highest level first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|ready| &*ready.rule)
    }

    /// The sources that a rule can match; an error says why that can't be told from its text.
    pub fn rule_sources(&self) -> impl Iterator<Item = (&Rule, Result<Vec<&str>, &str>)> {
        self.rules.iter().map(|ready| {
            let sources = ready.sources.as_ref();
            (
                &*ready.rule,
                sources
                    .map(|names| names.iter().map(String::as_str).collect())
                    .map_err(String::as_str),
            )
        })
    }

    /// Every source that a rule can match: all records must be read where that can't be told.
    pub fn sources(&self) -> Sources {
        let mut names = std::collections::BTreeSet::new();
        for ready in self.rules.iter() {
            match &ready.sources {
                Ok(sources) => names.extend(sources.iter().cloned()),
                Err(_) => return Sources::All,
            }
        }
        Sources::Only(names)
    }

    /// Matches a record; `now` decides which filters have expired.
    pub fn evaluate(&self, record: &Record, now: Timestamp) -> Option<Match> {
        let event = JsonEvent::borrow(record.as_value());
        let mut rules: Vec<Arc<Rule>> = self
            .rules
            .iter()
            .filter(|ready| evaluate_rule(&ready.compiled, &event).is_some())
            .map(|ready| Arc::clone(&ready.rule))
            .collect();
        let level = rules.first()?.level;
        let (mut filters, mut expired_filters) = (Vec::new(), Vec::new());
        for filter in self.filters.iter() {
            let concerns = |rule: &Arc<Rule>| filter.rule_ids.contains(&rule.id);
            if !rules.iter().any(concerns) || evaluate_rule(&filter.compiled, &event).is_none() {
                continue;
            }
            if filter.has_expired(now) {
                expired_filters.push(filter.id.clone());
            } else {
                rules.retain(|rule| !concerns(rule));
                filters.push(filter.id.clone());
            }
        }
        Some(Match {
            level,
            rules,
            filters,
            expired_filters,
        })
    }

    /// Filters whose date has passed, described.
    pub fn expired_filters(&self, now: Timestamp) -> impl Iterator<Item = String> {
        self.filters
            .iter()
            .filter(move |filter| filter.has_expired(now))
            .map(ToString::to_string)
    }
}

impl ReadyFilter {
    /// Whether the day named by `expires`, in UTC, is over.
    fn has_expired(&self, now: Timestamp) -> bool {
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        self.expires.is_some_and(|last_day| today > last_day)
    }
}

impl fmt::Display for ReadyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "filter {} `{}` of {} suppresses {}, because: {}",
            self.id,
            self.title,
            self.file,
            self.rule_ids.join(", "),
            self.reason
        )?;
        match self.expires {
            Some(date) => write!(f, " (until {date})"),
            None => Ok(()),
        }
    }
}

/// The embedded rules; tests and example filters beside them are left out.
fn bundled_files() -> Vec<RuleFile> {
    BUNDLED
        .files()
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|ending| ending == "yml")
        })
        .filter_map(|file| {
            Some(RuleFile {
                name: format!("rules/{}", file.path().display()),
                text: file.contents_utf8()?.to_owned(),
            })
        })
        .collect()
}
