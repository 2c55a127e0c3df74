//! Reads one rule file. Refuses a rule that would silently match nothing or everything.

use rsigma_eval::compile_rule;
use rsigma_parser::{
    Level as SigmaLevel, LintRule, LogSource, Severity, SigmaRule, lint_yaml_str, parse_sigma_yaml,
};

use super::{
    Level, Rule, RuleFile, RuleProblem,
    detections::check_detections,
    filter,
    pack::{CompiledFilter, CompiledRule},
    pairs,
};

/// What a file holds.
pub(super) enum Document {
    Rule(Box<CompiledRule>),
    Filter(Box<CompiledFilter>),
}

/// Reads and checks a file.
pub(super) fn read(file: &RuleFile) -> Result<Document, RuleProblem> {
    let refuse = |problem: String, remedy: &str| refuse_near(file, "", &problem, remedy);
    let collection = parse_sigma_yaml(&file.text)
        .map_err(|error| refuse(error.to_string(), "correct the YAML"))?;
    if let Some(error) = collection.errors.first() {
        return Err(parse_problem(file, error));
    }
    if !collection.correlations.is_empty() {
        return Err(refuse_near(
            file,
            "correlation",
            "a correlation, which needs memory across records",
            "write a rule or a filter",
        ));
    }
    let mut rules = collection.rules;
    let mut filters = collection.filters;
    match (rules.pop(), filters.pop()) {
        (Some(rule), None) if rules.is_empty() => {
            read_rule(file, &rule).map(|rule| Document::Rule(Box::new(rule)))
        }
        (None, Some(filter)) if filters.is_empty() => {
            filter::read_filter(file, filter).map(|filter| Document::Filter(Box::new(filter)))
        }
        (None, None) => Err(refuse(
            "no Sigma document in it".to_owned(),
            "write one rule or one filter, or remove the file",
        )),
        _ => Err(refuse(
            "several documents in one file".to_owned(),
            "give each a file of its own",
        )),
    }
}

/// A problem of `file`, at a line counted from 1.
pub(super) fn problem(
    file: &RuleFile,
    line: Option<usize>,
    problem: &str,
    remedy: &str,
) -> RuleProblem {
    RuleProblem {
        file: file.name.clone(),
        line,
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    }
}

pub(super) fn same_id(file: &RuleFile, other: &str) -> RuleProblem {
    refuse_near(
        file,
        "id",
        &format!("the id of {other} again"),
        "give it an id of its own (uuidgen makes one)",
    )
}

pub(super) fn unknown_rule(file: &RuleFile, id: &str) -> RuleProblem {
    refuse_near(
        file,
        "rules",
        &format!("the filter names rule {id}, which does not exist"),
        "take the id from docs/rules.md or from your own rule",
    )
}

/// A problem at the line of the first `key:`, or at the first line that the linter finds fault with.
pub(super) fn refuse_near(file: &RuleFile, key: &str, message: &str, remedy: &str) -> RuleProblem {
    let at_key = file.text.lines().position(|line| {
        line.trim_start()
            .trim_start_matches("- ")
            .strip_prefix(key)
            .is_some_and(|rest| !key.is_empty() && rest.starts_with(':'))
    });
    let line = at_key
        .map(|index| index + 1)
        .or_else(|| lint_line(&file.text));
    problem(file, line, message, remedy)
}

fn lint_line(text: &str) -> Option<usize> {
    lint_yaml_str(text)
        .into_iter()
        .filter(|warning| warning.severity == Severity::Error)
        .find_map(|warning| warning.span)
        .map(|span| span.start_line as usize + 1)
}

fn parse_problem(file: &RuleFile, error: &str) -> RuleProblem {
    // The YAML parser says `… at line 3 column 5`.
    let line = error
        .rsplit_once("at line ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    if line.is_some() {
        return problem(file, line, error, "correct the YAML");
    }
    if error == "Document is not a YAML mapping" {
        let remedy = "write one rule or one filter, or remove the file";
        return refuse_near(file, "", "no Sigma document in it", remedy);
    }
    let (key, remedy) = if error.starts_with("invalid level") {
        ("level", "use informational, low, medium, high or critical")
    } else if error.contains("ondition") {
        ("condition", "see the Sigma specification on conditions")
    } else if let Some(field) = error.strip_prefix("Missing required field ") {
        return refuse_near(file, "", error, &format!("add {field}"));
    } else if let Some(rest) = error.strip_prefix("invalid ") {
        (
            rest.split(':').next().unwrap_or_default(),
            "use a value that the Sigma specification knows",
        )
    } else {
        ("detection", "see the Sigma specification on rules")
    };
    refuse_near(file, key, error, remedy)
}

fn read_rule(file: &RuleFile, rule: &SigmaRule) -> Result<CompiledRule, RuleProblem> {
    let id = checked_id(file, rule.id.as_deref())?;
    check_logsource(file, Some(&rule.logsource))?;
    check_detections(file, &rule.detection)?;
    check_lints(file)?;
    let level = level(file, rule.level)?;
    let response = rule
        .custom_attributes
        .get("response")
        .and_then(|steps| steps.as_sequence())
        .map(|steps| {
            steps
                .iter()
                .filter_map(|step| step.as_str().map(one_line))
                .collect()
        })
        .unwrap_or_default();
    Ok(CompiledRule {
        rule: std::sync::Arc::new(Rule {
            id,
            title: one_line(&rule.title),
            level,
            description: one_line(rule.description.as_deref().unwrap_or_default()),
            response,
            false_positives: rule
                .falsepositives
                .iter()
                .map(|cause| one_line(cause))
                .collect(),
            references: rule.references.clone(),
            tags: rule.tags.clone(),
            file: file.name.clone(),
        }),
        detection: compile_rule(rule).map_err(|error| uncompilable(file, &error.to_string()))?,
        pairs: pairs::rule_pairs(&rule.detection),
    })
}

fn level(file: &RuleFile, level: Option<SigmaLevel>) -> Result<Level, RuleProblem> {
    Ok(match level {
        Some(SigmaLevel::Informational) => Level::Informational,
        Some(SigmaLevel::Low) => Level::Low,
        Some(SigmaLevel::Medium) => Level::Medium,
        Some(SigmaLevel::High) => Level::High,
        Some(SigmaLevel::Critical) => Level::Critical,
        None => {
            return Err(refuse_near(
                file,
                "level",
                "the rule has no level",
                "add level: informational, low, medium, high or critical",
            ));
        }
    })
}

pub(super) fn uncompilable(file: &RuleFile, error: &str) -> RuleProblem {
    refuse_near(
        file,
        "detection",
        error,
        "see the Sigma specification on detections",
    )
}

pub(super) fn checked_id(file: &RuleFile, id: Option<&str>) -> Result<String, RuleProblem> {
    let is_uuid = |id: &&str| {
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12]
            && id
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    id.filter(is_uuid).map(str::to_lowercase).ok_or_else(|| {
        refuse_near(
            file,
            "id",
            "no UUID as id",
            "add one (uuidgen makes one), or a bundled rule's to replace it",
        )
    })
}

/// The evaluator ignores `logsource`, so a rule for other logs would be matched against CloudTrail's.
pub(super) fn check_logsource(
    file: &RuleFile,
    logsource: Option<&LogSource>,
) -> Result<(), RuleProblem> {
    let Some(logsource) = logsource else {
        return Ok(());
    };
    let fits = |value: &Option<String>, wanted: &str| {
        value
            .as_deref()
            .is_none_or(|value| value.eq_ignore_ascii_case(wanted))
    };
    if fits(&logsource.product, "aws")
        && fits(&logsource.service, "cloudtrail")
        && logsource.category.is_none()
    {
        return Ok(());
    }
    Err(refuse_near(
        file,
        "logsource",
        "the rule is for other logs",
        "set product: aws and service: cloudtrail",
    ))
}

pub(super) fn check_lints(file: &RuleFile) -> Result<(), RuleProblem> {
    lint_yaml_str(&file.text)
        .into_iter()
        // A filter's selection may have any name; its condition is checked by itself.
        .find(|warning| {
            warning.severity == Severity::Error && warning.rule != LintRule::MissingFilterSelection
        })
        .map_or(Ok(()), |warning| {
            Err(problem(
                file,
                warning.span.map(|span| span.start_line as usize + 1),
                &warning.message,
                "see the Sigma specification",
            ))
        })
}

/// Folded YAML text as one line, for it is wrapped anew wherever it is shown.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
