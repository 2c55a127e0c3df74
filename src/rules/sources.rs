//! Which sources a rule can match, by its text. A scan leaves the records of other sources unparsed.

use std::collections::BTreeSet;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern,
    SigmaValue, detection_name_matches,
};

type Names = BTreeSet<String>;

/// Returns the sources, in lower case, outside which the rule can't match. An error says why its text
/// does not tell them.
pub(super) fn rule_sources(detections: &Detections) -> Result<Names, String> {
    union(
        detections
            .conditions
            .iter()
            .map(|condition| condition_sources(condition, detections)),
    )
}

fn condition_sources(condition: &ConditionExpr, detections: &Detections) -> Result<Names, String> {
    match condition {
        ConditionExpr::And(parts) => {
            intersection(parts.iter().map(|part| condition_sources(part, detections)))
        }
        ConditionExpr::Or(parts) => {
            union(parts.iter().map(|part| condition_sources(part, detections)))
        }
        ConditionExpr::Not(_) => Err("its condition negates".to_owned()),
        ConditionExpr::Identifier(name) => detections.named.get(name).map_or_else(
            || Err(format!("it has no detection `{name}`")),
            detection_sources,
        ),
        ConditionExpr::Selector {
            quantifier,
            pattern,
        } => {
            let chosen = selected(pattern, detections)
                .into_iter()
                .map(detection_sources);
            match quantifier {
                Quantifier::All => intersection(chosen),
                Quantifier::Count(0) => Err("its condition asks for none".to_owned()),
                Quantifier::Any | Quantifier::Count(_) => union(chosen),
            }
        }
    }
}

/// Returns the detections that a selector of a condition chooses.
pub(super) fn selected<'a>(
    pattern: &SelectorPattern,
    detections: &'a Detections,
) -> Vec<&'a Detection> {
    detections
        .named
        .iter()
        .filter(|(name, _)| match pattern {
            SelectorPattern::Them => !name.starts_with('_'),
            SelectorPattern::Pattern(pattern) => detection_name_matches(pattern, name),
        })
        .map(|(_, detection)| detection)
        .collect()
}

fn detection_sources(detection: &Detection) -> Result<Names, String> {
    match detection {
        Detection::AllOf(items) => intersection(items.iter().map(item_sources)),
        Detection::And(parts) => intersection(parts.iter().map(detection_sources)),
        Detection::AnyOf(parts) => union(parts.iter().map(detection_sources)),
        Detection::Keywords(_) => Err("it searches for keywords".to_owned()),
        Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {
            Err("it matches inside a list".to_owned())
        }
    }
}

fn item_sources(item: &DetectionItem) -> Result<Names, String> {
    if item.field.name.as_deref() != Some("eventSource") {
        return Err("it names no eventSource".to_owned());
    }
    let exact = item
        .field
        .modifiers
        .iter()
        .all(|modifier| *modifier == Modifier::Cased);
    if !exact {
        return Err("its eventSource has a modifier".to_owned());
    }
    item.values
        .iter()
        .map(|value| match value {
            SigmaValue::String(text) => text
                .as_plain()
                .map(|name| name.to_lowercase())
                .ok_or_else(|| "its eventSource has a wildcard".to_owned()),
            _ => Err("its eventSource is not a text".to_owned()),
        })
        .collect()
}

/// All parts must match: the sources that the parts have in common. Parts that name none are ignored.
fn intersection(parts: impl Iterator<Item = Result<Names, String>>) -> Result<Names, String> {
    let mut found: Option<Names> = None;
    let mut why = "it names no eventSource".to_owned();
    for part in parts {
        match part {
            Ok(names) => {
                found = Some(match found {
                    Some(before) => before.intersection(&names).cloned().collect(),
                    None => names,
                });
            }
            Err(reason) => why = reason,
        }
    }
    found.ok_or(why)
}

/// One part must match: every source that some part allows.
fn union(parts: impl Iterator<Item = Result<Names, String>>) -> Result<Names, String> {
    let mut found = Names::new();
    for part in parts {
        found.extend(part?);
    }
    Ok(found)
}
