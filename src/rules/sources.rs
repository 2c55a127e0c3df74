//! Which sources a rule can match, told from its text: what lets a scan leave most records unparsed.

use std::collections::BTreeSet;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern,
    SigmaValue, detection_name_matches,
};

type Names = BTreeSet<String>;

/// The sources, in lower case, outside which the rule can't match; or why that can't be told.
pub(super) fn sources_of(detections: &Detections) -> Result<Names, String> {
    any(detections
        .conditions
        .iter()
        .map(|condition| of_condition(condition, detections)))
}

fn of_condition(condition: &ConditionExpr, detections: &Detections) -> Result<Names, String> {
    match condition {
        ConditionExpr::And(parts) => all(parts.iter().map(|part| of_condition(part, detections))),
        ConditionExpr::Or(parts) => any(parts.iter().map(|part| of_condition(part, detections))),
        ConditionExpr::Not(_) => Err("its condition negates".to_owned()),
        ConditionExpr::Identifier(name) => detections.named.get(name).map_or_else(
            || Err(format!("it has no detection `{name}`")),
            of_detection,
        ),
        ConditionExpr::Selector {
            quantifier,
            pattern,
        } => {
            let chosen = selected(pattern, detections).into_iter().map(of_detection);
            match quantifier {
                Quantifier::All => all(chosen),
                Quantifier::Count(0) => Err("its condition asks for none".to_owned()),
                Quantifier::Any | Quantifier::Count(_) => any(chosen),
            }
        }
    }
}

/// The detections that a selector of a condition chooses.
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

fn of_detection(detection: &Detection) -> Result<Names, String> {
    match detection {
        Detection::AllOf(items) => all(items.iter().map(of_item)),
        Detection::And(parts) => all(parts.iter().map(of_detection)),
        Detection::AnyOf(parts) => any(parts.iter().map(of_detection)),
        Detection::Keywords(_) => Err("it searches for keywords".to_owned()),
        Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {
            Err("it matches inside a list".to_owned())
        }
    }
}

fn of_item(item: &DetectionItem) -> Result<Names, String> {
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

/// All parts must hold: the fewest sources that any part allows.
fn all(parts: impl Iterator<Item = Result<Names, String>>) -> Result<Names, String> {
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

/// One part must hold: every source that some part allows.
fn any(parts: impl Iterator<Item = Result<Names, String>>) -> Result<Names, String> {
    let mut found = Names::new();
    for part in parts {
        found.extend(part?);
    }
    Ok(found)
}
