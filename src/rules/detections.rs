//! What a rule's detections must not be: selections that choose nothing, fields without values,
//! placeholders, or a filter's condition that holds where nothing matches.

use rsigma_parser::{ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier};

use super::{RuleFile, RuleProblem, check::refuse_near, pairs};

pub(super) fn check_detections(
    file: &RuleFile,
    detections: &Detections,
) -> Result<(), RuleProblem> {
    if detections.timeframe.is_some() {
        return Err(refuse_near(
            file,
            "timeframe",
            "a timeframe needs memory across records",
            "remove it",
        ));
    }
    for condition in &detections.conditions {
        check_selectors(file, condition, detections)?;
    }
    if let Some(name) = first_without_values(detections) {
        return Err(refuse_near(
            file,
            name,
            &format!("`{name}` holds a field without any value, which never matches"),
            "give it a value, or remove it",
        ));
    }
    if detections
        .named
        .values()
        .any(|detection| any_item(detection, &is_placeholder))
    {
        return Err(refuse_near(
            file,
            "detection",
            "a placeholder (modifier `expand`) has no value here",
            "write the values out",
        ));
    }
    Ok(())
}

/// Whether a condition can only hold where some selection matches.
pub(super) fn needs_a_match(condition: &ConditionExpr) -> bool {
    match condition {
        ConditionExpr::And(parts) => parts.iter().any(needs_a_match),
        ConditionExpr::Or(parts) => parts.iter().all(needs_a_match),
        ConditionExpr::Not(_) => false,
        ConditionExpr::Identifier(_) => true,
        ConditionExpr::Selector { quantifier, .. } => *quantifier != Quantifier::Count(0),
    }
}

/// A selector that chooses nothing matches every record (`all of typo_*`) or none (`1 of typo_*`).
fn check_selectors(
    file: &RuleFile,
    condition: &ConditionExpr,
    detections: &Detections,
) -> Result<(), RuleProblem> {
    match condition {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => parts
            .iter()
            .try_for_each(|part| check_selectors(file, part, detections)),
        ConditionExpr::Not(part) => check_selectors(file, part, detections),
        ConditionExpr::Identifier(name) if !detections.named.contains_key(name) => {
            Err(refuse_near(
                file,
                "condition",
                &format!("the condition names `{name}`, which the file does not define"),
                "correct the name, or define it",
            ))
        }
        ConditionExpr::Identifier(_) => Ok(()),
        ConditionExpr::Selector { pattern, .. } => {
            if pairs::selected(pattern, detections).is_empty() {
                return Err(refuse_near(
                    file,
                    "condition",
                    &format!("the condition chooses `{pattern}`, which fits no detection"),
                    "correct the pattern",
                ));
            }
            Ok(())
        }
    }
}

fn is_placeholder(item: &DetectionItem) -> bool {
    item.field.has_modifier(Modifier::Expand)
}

fn first_without_values(detections: &Detections) -> Option<&str> {
    let is_empty = |item: &DetectionItem| item.values.is_empty();
    let mut named = detections.named.iter();
    named
        .find(|(_, detection)| any_item(detection, &is_empty))
        .map(|(name, _)| name.as_str())
}

fn any_item(detection: &Detection, wanted: &impl Fn(&DetectionItem) -> bool) -> bool {
    match detection {
        Detection::AllOf(items) => items.iter().any(wanted),
        Detection::AnyOf(parts) | Detection::And(parts) => {
            parts.iter().any(|part| any_item(part, wanted))
        }
        Detection::Keywords(_) => false,
        Detection::ArrayMatch { body, .. } => any_item(body, wanted),
        Detection::Conditional { named, .. } => named.values().any(|part| any_item(part, wanted)),
    }
}
