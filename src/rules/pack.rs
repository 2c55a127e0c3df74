//! The pack: the bundled rules with the user's rules and filters, compiled to match records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::{Arc, OnceLock},
};

use jiff::{Timestamp, civil::Date};
use rsigma_eval::{JsonEvent, evaluate_rule};

use super::{
    Level, Match, OptionalRules, PackIdentity, Rule, RuleFile, RuleProblem,
    bundled::{self, ANY_NAME},
    check::{self, Document},
    digest::{checksum, digest},
    pairs::{self, Pairs},
};
use crate::cloudtrail::{Candidates, Record};

/// Rules and filters. Clones share them.
#[derive(Clone, Debug)]
pub struct RulePack(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    candidates: Candidates,
    /// The optional rules among the bundled ones.
    optional: OptionalRules,
    /// The event sources that rules name.
    sources: BTreeSet<String>,
    digest: String,
    /// Bundled rules that the user's rules replaced.
    rules_replaced: u64,
    /// Empty until a record is evaluated: compiling takes milliseconds.
    compiled: OnceLock<Compiled>,
}

#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Highest level first.
    pub(super) rules: Vec<CompiledRule>,
    filters: Vec<CompiledFilter>,
}

/// A pack, and what the start-up log should say about it.
#[derive(Debug)]
pub struct LoadedRules {
    /// The pack.
    pub pack: RulePack,
    /// The user's files that were left out, and why.
    pub rejected: Vec<RuleProblem>,
    /// One line for each of the user's rules and filters.
    pub changes: Vec<String>,
}

#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) rule: Arc<Rule>,
    pub(super) detection: rsigma_eval::CompiledRule,
    /// The pairs of event source and name outside which the rule can't match, or why its text does not
    /// tell them.
    pub(super) pairs: Result<Pairs, String>,
}

#[derive(Debug)]
pub(super) struct CompiledFilter {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) file: String,
    pub(super) reason: String,
    pub(super) rule_ids: Vec<String>,
    /// The last day on which the filter suppresses, in UTC.
    pub(super) expires: Option<Date>,
    pub(super) detection: rsigma_eval::CompiledRule,
}

impl RulePack {
    /// Returns the bundled pack. The first record that is evaluated compiles its rules.
    pub fn bundled(optional: &OptionalRules) -> Self {
        let pairs: Vec<(&str, Option<&str>)> = bundled::pairs(optional).collect();
        Self(Arc::new(Inner {
            optional: optional.clone(),
            sources: pairs
                .iter()
                .map(|(source, _)| (*source).to_owned())
                .collect(),
            candidates: Candidates::of(pairs),
            digest: digest(bundled::checksums(optional)),
            rules_replaced: 0,
            compiled: OnceLock::new(),
        }))
    }

    /// Loads the bundled pack with the user's rules and filters. A user's rule with the id of a bundled
    /// rule replaces it.
    ///
    /// A broken bundled rule is an error. A broken file of the user's is left out and listed in
    /// `rejected`, so that a typing error does not silence the other rules.
    pub fn load(optional: &OptionalRules, user: &[RuleFile]) -> Result<LoadedRules, RuleProblem> {
        Self::load_over(&bundled::files(optional), user)
    }

    /// Does what [`RulePack::load`] does, with another set of bundled files.
    pub fn load_over(bundled: &[RuleFile], user: &[RuleFile]) -> Result<LoadedRules, RuleProblem> {
        let mut loader = Loader {
            digest: digest(bundled.iter().chain(user).map(|file| checksum(&file.text))),
            rules: compile_bundled(bundled)?,
            ..Loader::default()
        };
        let mut filters = Vec::new();
        for file in user {
            match check::read(file) {
                Ok(Document::Rule(rule)) => loader.add_rule(file, *rule),
                Ok(Document::Filter(filter)) => filters.push((file, *filter)),
                Err(problem) => loader.rejected.push(problem),
            }
        }
        // A filter may name a rule in any of the files.
        for (file, filter) in filters {
            loader.add_filter(file, filter);
        }
        Ok(loader.finish())
    }

    pub(super) fn compiled(&self) -> &Compiled {
        self.0.compiled.get_or_init(|| {
            let rules = compile_bundled(&bundled::files(&self.0.optional));
            Compiled {
                rules: highest_first(rules.expect("the tests compile the bundled rules")),
                filters: Vec::new(),
            }
        })
    }

    /// Returns the rules, highest level first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.compiled().rules.iter();
        rules.map(|compiled| &*compiled.rule)
    }

    /// Returns each rule whose text does not tell which records it can match, and why.
    pub fn unbounded_rules(&self) -> impl Iterator<Item = (&Rule, &str)> {
        self.compiled().rules.iter().filter_map(|compiled| {
            let why = compiled.pairs.as_ref().err()?;
            Some((&*compiled.rule, why.as_str()))
        })
    }

    /// Returns the event sources that rules name.
    pub fn sources(&self) -> &BTreeSet<String> {
        &self.0.sources
    }

    /// Returns the records that some rule can match; all of them if the text of a rule does not tell.
    pub fn candidates(&self) -> &Candidates {
        &self.0.candidates
    }

    /// Returns what [`RulePack::bundled`] knows of the rules without compiling them: the contents of
    /// `rules/candidates.tsv` and of `rules/SHA256SUMS`. `make docs` writes both files.
    pub fn bundled_index() -> Result<(String, String), RuleProblem> {
        let (mut candidates, mut checksums) = (String::new(), String::new());
        for folder in [""].into_iter().chain(OptionalRules::known()) {
            let files = bundled::files_in(folder);
            let pack = Self::load_over(&files, &[])?.pack;
            let pairs = all_pairs(&pack.compiled().rules);
            // Writing to a string can't fail.
            for (source, name) in pairs::one_by_one(&pairs) {
                let name = name.unwrap_or(ANY_NAME);
                let ending = if folder.is_empty() { "" } else { "\t" };
                let _ = writeln!(candidates, "{source}\t{name}{ending}{folder}");
            }
            for file in files {
                let path = file.name.trim_start_matches("rules/");
                let _ = writeln!(checksums, "{}  {path}", checksum(&file.text));
            }
        }
        Ok((candidates, checksums))
    }

    /// Returns what makes the pack recognisable. `now` decides which filters have expired.
    pub fn identity(&self, now: Timestamp) -> PackIdentity {
        // A pack whose rules are not compiled yet is the bundled one, which has no filters.
        let critical_filters = self.0.compiled.get().map_or(0, |compiled| {
            let active = compiled
                .filters
                .iter()
                .filter(|filter| !filter.has_expired(now) && compiled.has_critical(filter));
            active.count() as u64
        });
        PackIdentity {
            version: env!("CARGO_PKG_VERSION"),
            digest: self.0.digest.clone(),
            rules_replaced: self.0.rules_replaced,
            critical_filters,
        }
    }

    /// Matches a record against rules and filters; `None` if no rule matches. `now` decides which
    /// filters have expired.
    pub fn evaluate(&self, record: &Record, now: Timestamp) -> Option<Match> {
        let event = JsonEvent::borrow(record.as_value());
        let Compiled { rules, filters } = self.compiled();
        let mut rules: Vec<Arc<Rule>> = rules
            .iter()
            .filter(|compiled| evaluate_rule(&compiled.detection, &event).is_some())
            .map(|compiled| Arc::clone(&compiled.rule))
            .collect();
        let level = rules.first()?.level;
        let (mut suppressing, mut expired_filters) = (Vec::new(), Vec::new());
        for filter in filters {
            let concerns = |rule: &Arc<Rule>| filter.rule_ids.contains(&rule.id);
            if !rules.iter().any(concerns) || evaluate_rule(&filter.detection, &event).is_none() {
                continue;
            }
            if filter.has_expired(now) {
                expired_filters.push(filter.id.clone());
            } else {
                rules.retain(|rule| !concerns(rule));
                suppressing.push(filter.id.clone());
            }
        }
        Some(Match {
            level,
            rules,
            filters: suppressing,
            expired_filters,
        })
    }

    /// Returns a description of each filter whose last day has passed.
    pub fn expired_filters(&self, now: Timestamp) -> impl Iterator<Item = String> {
        let filters = self.compiled().filters.iter();
        filters
            .filter(move |filter| filter.has_expired(now))
            .map(ToString::to_string)
    }
}

impl Compiled {
    /// Returns whether the filter suppresses a rule of level critical.
    fn has_critical(&self, filter: &CompiledFilter) -> bool {
        self.rules.iter().any(|CompiledRule { rule, .. }| {
            rule.level == Level::Critical && filter.rule_ids.contains(&rule.id)
        })
    }
}

/// The user's rules and filters on their way into a pack.
#[derive(Default)]
struct Loader {
    digest: String,
    rules_replaced: u64,
    rules: BTreeMap<String, CompiledRule>,
    filters: Vec<CompiledFilter>,
    rejected: Vec<RuleProblem>,
    changes: Vec<String>,
    /// The files of the user's rules, by rule id.
    files: BTreeMap<String, String>,
}

impl Loader {
    fn add_rule(&mut self, file: &RuleFile, compiled: CompiledRule) {
        let id = compiled.rule.id.clone();
        if let Some(other) = self.files.get(&id) {
            self.rejected.push(check::same_id(file, other));
            return;
        }
        self.files.insert(id.clone(), file.name.clone());
        let added = format!("rule {id} `{}` of {}", compiled.rule.title, file.name);
        self.changes.push(match self.rules.insert(id, compiled) {
            Some(old) => {
                self.rules_replaced += 1;
                format!("{added} replaces `{}`", old.rule.title)
            }
            None => format!("{added} added"),
        });
    }

    fn add_filter(&mut self, file: &RuleFile, filter: CompiledFilter) {
        let unknown = filter
            .rule_ids
            .iter()
            .find(|id| !self.rules.contains_key(*id));
        let same_id = self.filters.iter().find(|other| other.id == filter.id);
        if let Some(id) = unknown {
            self.rejected.push(check::unknown_rule(file, id));
        } else if let Some(other) = same_id {
            self.rejected.push(check::same_id(file, &other.file));
        } else {
            self.changes.push(filter.to_string());
            self.filters.push(filter);
        }
    }

    fn finish(self) -> LoadedRules {
        let compiled = Compiled {
            rules: highest_first(self.rules),
            filters: self.filters,
        };
        let is_bounded = compiled.rules.iter().all(|rule| rule.pairs.is_ok());
        let pairs = all_pairs(&compiled.rules);
        let pairs = pairs::one_by_one(&pairs);
        let inner = Inner {
            sources: pairs
                .iter()
                .map(|(source, _)| (*source).to_owned())
                .collect(),
            candidates: if is_bounded {
                Candidates::of(pairs)
            } else {
                Candidates::All
            },
            optional: OptionalRules::default(),
            digest: self.digest,
            rules_replaced: self.rules_replaced,
            compiled: OnceLock::from(compiled),
        };
        LoadedRules {
            pack: RulePack(Arc::new(inner)),
            rejected: self.rejected,
            changes: self.changes,
        }
    }
}

fn highest_first(rules: BTreeMap<String, CompiledRule>) -> Vec<CompiledRule> {
    let mut rules: Vec<CompiledRule> = rules.into_values().collect();
    rules.sort_by(|a, b| (b.rule.level.cmp(&a.rule.level)).then_with(|| a.rule.id.cmp(&b.rule.id)));
    rules
}

/// The pairs of all rules whose text tells them.
fn all_pairs(rules: &[CompiledRule]) -> Pairs {
    let mut all = Pairs::new();
    let told = rules.iter().filter_map(|rule| rule.pairs.as_ref().ok());
    for (source, names) in told.flatten() {
        pairs::insert(&mut all, source, names.as_ref());
    }
    all
}

fn compile_bundled(bundled: &[RuleFile]) -> Result<BTreeMap<String, CompiledRule>, RuleProblem> {
    let mut rules: BTreeMap<String, CompiledRule> = BTreeMap::new();
    for file in bundled {
        let Document::Rule(compiled) = check::read(file)? else {
            let problem = "a filter in the bundled pack";
            return Err(check::problem(file, None, problem, "move it"));
        };
        let id = compiled.rule.id.clone();
        if let Some(other) = rules.insert(id, *compiled) {
            return Err(check::same_id(file, &other.rule.file));
        }
    }
    Ok(rules)
}

impl CompiledFilter {
    /// Returns whether the day in `expires`, in UTC, is over.
    fn has_expired(&self, now: Timestamp) -> bool {
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        self.expires.is_some_and(|last_day| today > last_day)
    }
}

impl fmt::Display for CompiledFilter {
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
