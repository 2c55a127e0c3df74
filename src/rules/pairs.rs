//! Which records a rule can match, by its text: event sources, each with its event names. A scan leaves
//! all other records unparsed.

use std::collections::{BTreeMap, BTreeSet};

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Detections, Modifier, Quantifier, SelectorPattern,
    SigmaValue, detection_name_matches,
};

type Texts = BTreeSet<String>;

/// Event sources in lower case, each with its event names; `None` stands for any name.
pub(super) type Pairs = BTreeMap<String, Option<Texts>>;

/// More alternatives than this are not multiplied out; then names are not told.
const MOST_ALTERNATIVES: usize = 256;

/// Records of these sources and names. `None` stands for any.
#[derive(Clone)]
struct Alternative {
    /// An error says why the text names no sources.
    sources: Result<Texts, String>,
    names: Option<Texts>,
}

/// Returns the pairs outside which the rule can't match. An error says why its text does not tell them.
pub(super) fn rule_pairs(detections: &Detections) -> Result<Pairs, String> {
    let conditions = detections.conditions.iter();
    let alternatives = union(conditions.map(|condition| of_condition(condition, detections)));
    let mut pairs = Pairs::new();
    for alternative in alternatives {
        for source in alternative.sources? {
            insert(&mut pairs, &source, alternative.names.as_ref());
        }
    }
    Ok(pairs)
}

/// Adds the pairs of one source. With any name, its other names add nothing.
pub(super) fn insert(pairs: &mut Pairs, source: &str, names: Option<&Texts>) {
    let known = pairs
        .entry(source.to_owned())
        .or_insert_with(|| Some(Texts::new()));
    match (names, known) {
        (None, known) => *known = None,
        (Some(names), Some(known)) => known.extend(names.iter().cloned()),
        (Some(_), None) => {}
    }
}

/// Returns each source with each of its names, in order.
pub(super) fn one_by_one(pairs: &Pairs) -> Vec<(&str, Option<&str>)> {
    let mut all = Vec::new();
    for (source, names) in pairs {
        match names {
            None => all.push((source.as_str(), None)),
            Some(names) => all.extend(
                names
                    .iter()
                    .map(|name| (source.as_str(), Some(name.as_str()))),
            ),
        }
    }
    all
}

fn of_condition(condition: &ConditionExpr, detections: &Detections) -> Vec<Alternative> {
    match condition {
        ConditionExpr::And(parts) => {
            intersection(parts.iter().map(|part| of_condition(part, detections)))
        }
        ConditionExpr::Or(parts) => union(parts.iter().map(|part| of_condition(part, detections))),
        ConditionExpr::Not(_) => anything("its condition negates"),
        ConditionExpr::Identifier(name) => detections.named.get(name).map_or_else(
            || anything(&format!("it has no detection `{name}`")),
            of_detection,
        ),
        ConditionExpr::Selector {
            quantifier,
            pattern,
        } => {
            let chosen = selected(pattern, detections).into_iter().map(of_detection);
            match quantifier {
                Quantifier::All => intersection(chosen),
                Quantifier::Count(0) => anything("its condition asks for none"),
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

fn of_detection(detection: &Detection) -> Vec<Alternative> {
    match detection {
        Detection::AllOf(items) => intersection(items.iter().map(of_item)),
        Detection::And(parts) => intersection(parts.iter().map(of_detection)),
        Detection::AnyOf(parts) => union(parts.iter().map(of_detection)),
        Detection::Keywords(_) => anything("it searches for keywords"),
        Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {
            anything("it matches inside a list")
        }
    }
}

fn of_item(item: &DetectionItem) -> Vec<Alternative> {
    match item.field.name.as_deref() {
        Some("eventSource") => match exact_values(item) {
            Ok(sources) => vec![Alternative {
                sources: Ok(sources),
                names: None,
            }],
            Err(why) => anything(&format!("its eventSource {why}")),
        },
        Some("eventName") => {
            let mut alternatives = anything("it names no eventSource");
            alternatives[0].names = exact_values(item).ok();
            alternatives
        }
        _ => anything("it names no eventSource"),
    }
}

/// The values of a field that is compared as a whole, in lower case; or why it is not.
fn exact_values(item: &DetectionItem) -> Result<Texts, &'static str> {
    let mut modifiers = item.field.modifiers.iter();
    if !modifiers.all(|modifier| *modifier == Modifier::Cased) {
        return Err("has a modifier");
    }
    item.values
        .iter()
        .map(|value| match value {
            SigmaValue::String(text) => text
                .as_plain()
                .map(|text| text.to_lowercase())
                .ok_or("has a wildcard"),
            _ => Err("is not a text"),
        })
        .collect()
}

fn anything(why: &str) -> Vec<Alternative> {
    vec![Alternative {
        sources: Err(why.to_owned()),
        names: None,
    }]
}

/// One part must match: the alternatives of all.
fn union(parts: impl Iterator<Item = Vec<Alternative>>) -> Vec<Alternative> {
    parts.flatten().collect()
}

/// All parts must match: each alternative of one together with each of the others.
fn intersection(parts: impl Iterator<Item = Vec<Alternative>>) -> Vec<Alternative> {
    let mut all = anything("it names no eventSource");
    for part in parts {
        if all.len() * part.len() > MOST_ALTERNATIVES {
            // To ignore a part only makes the result wider.
            continue;
        }
        all = all
            .iter()
            .flat_map(|one| part.iter().map(|other| one.and(other)))
            .collect();
    }
    all
}

impl Alternative {
    /// Records that match both.
    fn and(&self, other: &Self) -> Self {
        let sources = match (&self.sources, &other.sources) {
            (Ok(one), Ok(other)) => Ok(narrower(one, other)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one.clone()),
            (Err(_), Err(why)) => Err(why.clone()),
        };
        let names = match (&self.names, &other.names) {
            (Some(one), Some(other)) => Some(narrower(one, other)),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        };
        Self { sources, names }
    }
}

/// The set of fewer texts. Their intersection would be too narrow: of an array, one member may match one
/// set, and another member the other.
fn narrower(one: &Texts, other: &Texts) -> Texts {
    if one.len() <= other.len() {
        one.clone()
    } else {
        other.clone()
    }
}
