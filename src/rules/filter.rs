//! Reads a filter. Refuses one that could suppress more than it names.

use jiff::civil::Date;
use rsigma_eval::compile_rule;
use rsigma_parser::{
    ConditionExpr, Detections, FilterRule, FilterRuleTarget, LogSource, SigmaRule,
};

use super::{
    RuleFile, RuleProblem,
    check::{
        check_lints, check_logsource, checked_id, one_line, problem, refuse_near, uncompilable,
    },
    detections::{check_detections, needs_a_match},
    pack::CompiledFilter,
};

/// Begins the values that a user must replace in the filters of `rules/filters/`.
const PLACEHOLDER: &str = "FILL-IN";

pub(super) fn read_filter(
    file: &RuleFile,
    filter: FilterRule,
) -> Result<CompiledFilter, RuleProblem> {
    check_filled_in(file)?;
    let id = checked_id(file, filter.id.as_deref())?;
    check_logsource(file, filter.logsource.as_ref())?;
    let reason = reason(file, &filter)?;
    let expires = expires(file, &filter)?;
    let rule_ids = rule_ids(file, filter.rules)?;
    let detection = selection(file, filter.detection)?;
    check_detections(file, &detection)?;
    check_lints(file)?;
    let as_rule = SigmaRule {
        sigma_version: filter.sigma_version,
        ..as_rule(&filter.title, &id, detection)
    };
    Ok(CompiledFilter {
        id,
        title: one_line(&filter.title),
        file: file.name.clone(),
        reason,
        rule_ids,
        expires,
        detection: compile_rule(&as_rule)
            .map_err(|error| uncompilable(file, &error.to_string()))?,
    })
}

/// Refuses a shipped filter whose values were not filled in. It would match nothing, and nobody would
/// know why.
fn check_filled_in(file: &RuleFile) -> Result<(), RuleProblem> {
    let is_left = |line: &str| line.contains(PLACEHOLDER) && !line.trim_start().starts_with('#');
    match file.text.lines().position(is_left) {
        None => Ok(()),
        Some(index) => Err(problem(
            file,
            Some(index + 1),
            "a value is not filled in",
            "replace each value that begins with FILL-IN",
        )),
    }
}

fn reason(file: &RuleFile, filter: &FilterRule) -> Result<String, RuleProblem> {
    let reason = filter.description.as_deref().map(one_line);
    reason.filter(|reason| !reason.is_empty()).ok_or_else(|| {
        refuse_near(
            file,
            "description",
            "a filter without a reason",
            "say in its description why these records need no alert",
        )
    })
}

fn expires(file: &RuleFile, filter: &FilterRule) -> Result<Option<Date>, RuleProblem> {
    let Some(date) = filter.custom_attributes.get("expires") else {
        return Ok(None);
    };
    let date = date.as_str().and_then(|date| date.parse::<Date>().ok());
    date.map(Some).ok_or_else(|| {
        refuse_near(
            file,
            "expires",
            "`expires` is not a date",
            "write it as YYYY-MM-DD; the filter works through that day, in UTC",
        )
    })
}

fn rule_ids(file: &RuleFile, target: FilterRuleTarget) -> Result<Vec<String>, RuleProblem> {
    let FilterRuleTarget::Specific(mut ids) = target else {
        return Err(refuse_near(
            file,
            "rules",
            "a filter that does not name its rules would silence every rule",
            "list the ids of the rules under `rules`",
        ));
    };
    for id in &mut ids {
        id.make_ascii_lowercase();
    }
    Ok(ids)
}

/// The detections that need no alert: what the filter's condition negates.
fn selection(file: &RuleFile, mut detection: Detections) -> Result<Detections, RuleProblem> {
    let negated = match &detection.conditions[..] {
        [ConditionExpr::Not(negated)] => (**negated).clone(),
        _ => {
            return Err(refuse_near(
                file,
                "condition",
                "a filter's condition must read `not <selection>`",
                "put what needs no alert into one selection and negate it",
            ));
        }
    };
    if !needs_a_match(&negated) {
        return Err(refuse_near(
            file,
            "condition",
            "the filter would suppress whatever its selections do not match",
            "negate one selection of what needs no alert, and nothing inside it",
        ));
    }
    detection.conditions = vec![negated];
    Ok(detection)
}

/// A rule that matches what the filter suppresses, since only rules can be compiled.
fn as_rule(title: &str, id: &str, detection: Detections) -> SigmaRule {
    SigmaRule {
        title: title.to_owned(),
        logsource: LogSource::default(),
        detection,
        sigma_version: None,
        id: Some(id.to_owned()),
        name: None,
        related: Vec::new(),
        taxonomy: None,
        status: None,
        description: None,
        license: None,
        author: None,
        references: Vec::new(),
        date: None,
        modified: None,
        fields: Vec::new(),
        falsepositives: Vec::new(),
        level: None,
        tags: Vec::new(),
        scope: Vec::new(),
        custom_attributes: std::collections::HashMap::default(),
    }
}
