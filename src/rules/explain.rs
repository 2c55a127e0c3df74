//! Why a rule does not match a record: the leaves of its conditions that fail.

use std::sync::Arc;

use rsigma_eval::{
    JsonEvent,
    explain::{
        ConditionTrace, DetectionTrace, ItemTrace, MatchReason, SelectionBranch, explain_rule,
    },
};
use serde_json::Value;

use super::{Rule, RulePack};
use crate::cloudtrail::Record;

/// Most characters of a pattern in an explanation.
const PATTERN_CHARACTERS: usize = 120;

/// A rule that does not match a record, although it names its event.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The conditions that fail.
    pub failed: Vec<FailedCondition>,
}

/// A condition that a record does not meet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedCondition {
    /// Name of the selection in the rule.
    pub selection: String,
    /// The field, or `None` for keywords.
    pub field: Option<String>,
    /// What the rule wants there.
    pub wanted: String,
    /// What the record has there. It is the record's own text: escape it before it is shown.
    pub actual: Option<Value>,
    /// Whether the selection matches, and must not.
    pub negated: bool,
}

impl RulePack {
    /// Explains the rules that name the record's event and do not match it. With `anything`, also those
    /// that name the event for another source, or the source with other events.
    pub fn explain(&self, record: &Record, anything: bool) -> Vec<Explanation> {
        let event = JsonEvent::borrow(record.as_value());
        let lower = |member| record.text(member).unwrap_or_default().to_lowercase();
        let (source, name) = (lower("eventSource"), lower("eventName"));
        let rules = self.compiled().rules.iter().filter(|compiled| {
            let Ok(pairs) = &compiled.pairs else {
                return true;
            };
            let of_source = pairs.get(&source);
            let is_candidate = of_source
                .is_some_and(|names| names.as_ref().is_none_or(|names| names.contains(&name)));
            let has_name = || pairs.values().flatten().any(|names| names.contains(&name));
            is_candidate || (anything && (of_source.is_some() || has_name()))
        });
        rules
            .filter_map(|compiled| {
                let explained = explain_rule(&compiled.detection, &event);
                let mut failed = Vec::new();
                for condition in &explained.conditions {
                    of_condition(condition, &mut failed);
                }
                (!explained.matched).then(|| Explanation {
                    rule: Arc::clone(&compiled.rule),
                    failed,
                })
            })
            .collect()
    }
}

/// Adds what fails in a condition that does not hold.
fn of_condition(condition: &ConditionTrace, failed: &mut Vec<FailedCondition>) {
    if condition.matched() {
        return;
    }
    match condition {
        ConditionTrace::Selection {
            name, detection, ..
        } => of_detection(name, detection, failed),
        ConditionTrace::And { children, .. } | ConditionTrace::Or { children, .. } => {
            for child in children {
                of_condition(child, failed);
            }
        }
        ConditionTrace::Not { child, .. } => failed.push(FailedCondition {
            selection: names(child),
            field: None,
            wanted: String::new(),
            actual: None,
            negated: true,
        }),
        ConditionTrace::Quantified { branches, .. } => {
            for SelectionBranch {
                name, detection, ..
            } in branches
            {
                of_detection(name, detection, failed);
            }
        }
    }
}

/// The names of the selections in a condition.
fn names(condition: &ConditionTrace) -> String {
    match condition {
        ConditionTrace::Selection { name, .. } => name.clone(),
        ConditionTrace::And { children, .. } | ConditionTrace::Or { children, .. } => {
            children.iter().map(names).collect::<Vec<_>>().join(", ")
        }
        ConditionTrace::Not { child, .. } => names(child),
        ConditionTrace::Quantified { branches, .. } => {
            let matched = branches.iter().filter(|branch| branch.matched);
            let names: Vec<&str> = matched.map(|branch| branch.name.as_str()).collect();
            names.join(", ")
        }
    }
}

fn of_detection(selection: &str, detection: &DetectionTrace, failed: &mut Vec<FailedCondition>) {
    if detection.matched() {
        return;
    }
    match detection {
        DetectionTrace::AllOf { items, .. } => failed.extend(
            items
                .iter()
                .filter(|item| !item.matched)
                .map(|item| of_item(selection, item)),
        ),
        DetectionTrace::AnyOf { branches, .. } | DetectionTrace::And { branches, .. } => {
            for branch in branches {
                of_detection(selection, branch, failed);
            }
        }
        DetectionTrace::Keywords { item, .. } => failed.push(of_item(selection, item)),
        DetectionTrace::ArrayMatch { field, .. } => failed.push(FailedCondition {
            selection: selection.to_owned(),
            field: Some(field.clone()),
            wanted: "a member that matches".to_owned(),
            actual: None,
            negated: false,
        }),
        DetectionTrace::Conditional { condition, .. } => of_condition(condition, failed),
        DetectionTrace::Other { kind, .. } => failed.push(FailedCondition {
            selection: selection.to_owned(),
            field: None,
            wanted: kind.clone(),
            actual: None,
            negated: false,
        }),
    }
}

fn of_item(selection: &str, item: &ItemTrace) -> FailedCondition {
    let pattern = item.pattern.clone().unwrap_or_default();
    let wanted = match item.reason {
        MatchReason::Existence => "that it exists, or does not".to_owned(),
        _ if pattern.chars().count() > PATTERN_CHARACTERS => {
            let start: String = pattern.chars().take(PATTERN_CHARACTERS).collect();
            format!("{start} …")
        }
        _ => pattern,
    };
    FailedCondition {
        selection: selection.to_owned(),
        field: item.field.clone(),
        wanted,
        actual: item.actual.clone(),
        negated: false,
    }
}
