//! The bundled pack against AWS's list of actions and against each rule's own tests; and what the
//! user may add to it.

use std::{collections::BTreeMap, path::Path};

use billing_watch::{
    cloudtrail::{Candidates, Record},
    rules::{Level, LoadedRules, OptionalRules, Rule, RuleFile, RulePack},
};
use serde_json::{Value, json};

use crate::support::{CONSOLE, now, record};

fn pack() -> RulePack {
    RulePack::load(&OptionalRules::default(), &[]).unwrap().pack
}

/// The bundled rules with all optional ones.
fn everything() -> RulePack {
    let names: Vec<&str> = OptionalRules::known().collect();
    let optional = names.join(",").parse().unwrap();
    RulePack::load(&optional, &[]).unwrap().pack
}

fn load(files: &[(&str, &str)]) -> LoadedRules {
    let files: Vec<RuleFile> = files
        .iter()
        .map(|(name, text)| RuleFile {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect();
    RulePack::load(&OptionalRules::default(), &files).unwrap()
}

/// The titles of the rules that a record of these members matches.
fn titles(pack: &RulePack, record: Value) -> Vec<String> {
    pack.evaluate(&Record::from_value(record), now())
        .map(|matched| {
            matched
                .rules
                .iter()
                .map(|rule| rule.title.clone())
                .collect()
        })
        .unwrap_or_default()
}

/// `event_source`, `event_name`, `required`, `evidence`, `effect`, `level`, `moved_to` and `members`
/// of each line.
pub(crate) fn billing_events() -> Vec<BTreeMap<String, String>> {
    let text = include_str!("../data/billing-events.tsv");
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split('\t').collect();
    lines
        .map(|line| {
            let fields = line.split('\t').map(str::to_owned);
            names
                .iter()
                .map(|name| (*name).to_owned())
                .zip(fields)
                .collect()
        })
        .collect()
}

/// A record of an event of the list, with the members that its line asks for.
pub(crate) fn record_of(event: &BTreeMap<String, String>) -> Value {
    let mut record: Value = match event["members"].as_str() {
        "" => json!({}),
        members => serde_json::from_str(members).unwrap(),
    };
    record["eventSource"] = json!(event["event_source"]);
    record["eventName"] = json!(event["event_name"]);
    record
}

#[test]
fn every_billing_event_is_covered_by_a_rule_of_its_level() {
    let pack = everything();
    let events = billing_events();
    assert_eq!(events.len(), 297);
    for event in events {
        let matched = pack.evaluate(&Record::from_value(record_of(&event)), now());
        let matched = matched.unwrap_or_else(|| panic!("no rule for {event:?}"));
        assert_eq!(matched.level.as_str(), event["level"], "{event:?}");
        // A security contact is also a contact.
        let both = [
            "Security contact changed or deleted",
            "Contact details changed",
        ];
        let titles: Vec<&str> = matched.rules.iter().map(|rule| &*rule.title).collect();
        assert!(titles.len() == 1 || titles == both, "{event:?}: {titles:?}");
    }
}

#[test]
fn every_rule_passes_its_tests() {
    let pack = pack();
    for rule in pack.rules() {
        let tests = tests_of(rule);
        for (kind, expected) in [("match", true), ("no_match", false)] {
            for record in &tests[kind] {
                let matched = titles(&pack, record.clone()).contains(&rule.title);
                assert_eq!(matched, expected, "{}: {kind} {record}", rule.file);
            }
        }
    }
}

fn tests_of(rule: &Rule) -> BTreeMap<String, Vec<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&rule.file);
    let path = path.with_extension("tests.json");
    let text = std::fs::read(&path).unwrap_or_else(|_| panic!("no {}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

/// Event source and event name, in lower case.
fn pair(record: &Value) -> (String, String) {
    let text = |name: &str| record[name].as_str().unwrap_or_default().to_lowercase();
    (text("eventSource"), text("eventName"))
}

#[test]
fn every_rule_has_two_tests_that_match_and_two_near_misses() {
    for rule in everything().rules() {
        let tests = tests_of(rule);
        let matching = &tests["match"];
        assert!(matching.len() >= 2, "{}: match", rule.file);
        let is_near = |record: &&Value| {
            let (source, name) = pair(record);
            matching.iter().any(|other| {
                let (other_source, other_name) = pair(other);
                source == other_source || name == other_name
            })
        };
        let near: Vec<&Value> = tests["no_match"].iter().filter(is_near).collect();
        assert!(near.len() >= 2, "{}: near misses", rule.file);
        // Another event of the same source, or the same event with other members; not a misspelling.
        let is_other = |record: &&Value| {
            let (source, name) = pair(record);
            let mut others = matching.iter().map(pair).filter(|other| other.0 == source);
            others.clone().any(|other| other.1 == name)
                || others.clone().next().is_some() && others.all(|other| !name.contains(&other.1))
        };
        assert!(
            near.iter().any(is_other),
            "{}: only misspellings",
            rule.file
        );
    }
}

#[test]
fn every_rule_says_why_it_matters_and_what_to_do() {
    let pack = pack();
    let readme = include_str!("../../README.md");
    let count = format!("against {} [Sigma]", pack.rules().count());
    assert!(readme.contains(&count), "README.md: not \"{count}\"");
    let pack = everything();
    for rule in pack.rules() {
        let file = &rule.file;
        assert!(rule.description.len() > 60, "{file}: description");
        assert!((2..=5).contains(&rule.response.len()), "{file}: response");
        assert!(!rule.false_positives.is_empty(), "{file}: falsepositives");
        assert!(!rule.references.is_empty(), "{file}: references");
        assert!(
            rule.tags.iter().any(|tag| tag.starts_with("attack.")),
            "{file}: tags"
        );
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains("author: billing-watch"), "{file}: author");
    }
}

#[test]
fn the_rule_for_unknown_actions_excludes_every_known_name() {
    let pack = everything();
    for event in billing_events() {
        let titles = titles(&pack, record_of(&event));
        assert!(
            !titles.contains(&"Unknown action on billing data".to_owned()),
            "{event:?}"
        );
    }
}

#[test]
fn a_rule_says_which_of_its_events_are_unverified() {
    let pack = everything();
    for event in billing_events() {
        if !["service model", "third party", "IAM action"].contains(&&*event["evidence"]) {
            continue;
        }
        let matched = pack.evaluate(&Record::from_value(record_of(&event)), now());
        let file = matched.unwrap().rules[0].file.clone();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&file);
        let text = std::fs::read_to_string(path).unwrap();
        let says_so = text.contains("Unverified") || text.contains("are unverified");
        assert!(says_so, "{file}: {event:?}");
    }
}

#[test]
fn every_bundled_rule_names_its_sources() {
    let pack = pack();
    assert_eq!(pack.unbounded_rules().count(), 0);
    let names = pack.sources();
    assert!(names.contains(CONSOLE));
    assert!(!names.contains("s3.amazonaws.com"));
    let readme = include_str!("../../README.md");
    let count = format!("all {} sources", names.len());
    assert!(readme.contains(&count), "README.md: not \"{count}\"");
}

#[test]
fn busy_sources_are_candidates_by_name_alone() {
    let pack = pack();
    let busy = [
        "bcm-data-exports.amazonaws.com",
        "billingconductor.amazonaws.com",
        "budgets.amazonaws.com",
        "ce.amazonaws.com",
        "cur.amazonaws.com",
        "freetier.amazonaws.com",
        "iam.amazonaws.com",
        "organizations.amazonaws.com",
        "signin.amazonaws.com",
        "sts.amazonaws.com",
        "support-subscription.amazonaws.com",
        "supportplans.amazonaws.com",
    ];
    for source in busy {
        assert!(pack.sources().contains(source), "{source}");
        let record = json!({"eventSource": source, "eventName": "SomethingElse"});
        let is_candidate = pack.candidates().include(&Record::from_value(record));
        assert!(!is_candidate, "{source}: a rule gives no event names");
    }
}

#[test]
fn optional_rules_apply_only_on_request_and_name_each_of_their_events() {
    let (without, with) = (pack(), everything());
    let bought =
        json!({"eventSource": "savingsplans.amazonaws.com", "eventName": "CreateSavingsPlan"});
    assert!(titles(&without, bought.clone()).is_empty());
    assert_eq!(
        titles(&with, bought.clone()),
        ["Reservation or Savings Plan bought"]
    );
    // Without them, nothing of these sources is a candidate, and none of them is watched.
    let added: Vec<&String> = with.sources().difference(without.sources()).collect();
    assert_eq!(added.len(), 15, "{added:?}");
    for pack in [&without, &with] {
        let include = |record| pack.candidates().include(&Record::from_value(record));
        assert_eq!(include(bought.clone()), pack.sources() == with.sources());
        for source in &added {
            assert!(
                !include(json!({"eventSource": source, "eventName": "SomethingElse"})),
                "{source}"
            );
        }
    }
    assert_ne!(without.identity(now()).digest, with.identity(now()).digest);
}

#[test]
fn a_user_s_rule_replaces_an_optional_one() {
    let id = "11111111-1111-4111-8111-111111111111";
    let optional: OptionalRules = "purchases".parse().unwrap();
    let pack = RulePack::load(&optional, &[]).unwrap().pack;
    let bought = pack
        .rules()
        .find(|rule| rule.title.contains("Savings Plan"))
        .unwrap();
    let own = RuleFile {
        name: "own.yml".to_owned(),
        text: OWN_RULE.replace(id, &bought.id),
    };
    let loaded = RulePack::load(&optional, &[own]).unwrap();
    assert_eq!(loaded.pack.identity(now()).rules_replaced, 1);
    let record =
        json!({"eventSource": "savingsplans.amazonaws.com", "eventName": "CreateSavingsPlan"});
    assert!(titles(&loaded.pack, record).is_empty());
}

#[test]
fn sources_and_names_match_without_regard_to_case() {
    let titles = titles(
        &pack(),
        json!({"eventSource": "BillingConsole.AmazonAWS.com", "eventName": "closeACCOUNT"}),
    );
    assert_eq!(titles, ["AWS account closed"]);
}

const OWN_RULE: &str = "\
title: Bucket deleted
id: 11111111-1111-4111-8111-111111111111
logsource: {product: aws, service: cloudtrail}
detection:
  selection:
    eventSource: s3.amazonaws.com
    eventName: DeleteBucket
  condition: selection
level: high
";

#[test]
fn a_user_rule_is_added_and_logged() {
    let loaded = load(&[("own.yml", OWN_RULE)]);
    assert_eq!(loaded.rejected, []);
    assert_eq!(
        loaded.changes,
        ["rule 11111111-1111-4111-8111-111111111111 `Bucket deleted` of own.yml added"]
    );
    let record = json!({"eventSource": "s3.amazonaws.com", "eventName": "DeleteBucket"});
    assert_eq!(titles(&loaded.pack, record), ["Bucket deleted"]);
    assert!(loaded.pack.sources().contains("s3.amazonaws.com"));
    let is_candidate = |name: &str| {
        let record = json!({"eventSource": "S3.amazonaws.com", "eventName": name});
        loaded
            .pack
            .candidates()
            .include(&Record::from_value(record))
    };
    assert!(is_candidate("deletebucket") && !is_candidate("GetObject"));
}

#[test]
fn a_user_rule_with_a_bundled_id_replaces_the_bundled_rule() {
    let pack = pack();
    let closed = pack
        .rules()
        .find(|rule| rule.title == "AWS account closed")
        .unwrap();
    let text = OWN_RULE
        .replace("11111111-1111-4111-8111-111111111111", &closed.id)
        .replace("Bucket deleted", "Closing is fine here")
        .replace("s3.amazonaws.com", CONSOLE)
        .replace("DeleteBucket", "CloseAccount")
        .replace("high", "low");
    let loaded = load(&[("own.yml", &text)]);
    assert!(loaded.changes[0].contains("replaces `AWS account closed`"));
    let matched = loaded
        .pack
        .evaluate(&Record::from_value(record("CloseAccount", "e")), now())
        .unwrap();
    assert_eq!(matched.level, Level::Low);
}

#[test]
fn a_broken_user_rule_is_left_out_with_file_line_and_remedy() {
    let with = |from: &str, to: &str| OWN_RULE.replace(from, to);
    for (text, expected) in [
        (
            with("level: high", "level: hgih"),
            "own.yml:9: invalid level: 'hgih'; use informational, low, medium, high or critical",
        ),
        (
            with("level: high\n", ""),
            "own.yml: the rule has no level; add level: informational, low, medium, high or critical",
        ),
        (
            with("condition: selection", "condition: selectoin"),
            "own.yml:8: the condition names `selectoin`, which the file does not define; correct the name, or define it",
        ),
        (
            with("condition: selection", "condition: all of typo_*"),
            "own.yml:8: the condition chooses `typo_*`, which fits no detection; correct the pattern",
        ),
        (
            with("condition: selection", "condition: 1 of typo_*"),
            "own.yml:8: the condition chooses `typo_*`, which fits no detection; correct the pattern",
        ),
        (
            with("service: cloudtrail", "service: guardduty"),
            "own.yml:3: the rule is for other logs; set product: aws and service: cloudtrail",
        ),
        (
            with("id: 11111111-1111-4111-8111-111111111111", "id: seven"),
            "own.yml:2: no UUID as id; add one (uuidgen makes one), or a bundled rule's to replace it",
        ),
        (
            with("eventName: DeleteBucket", "eventName|expand: '%names%'"),
            "own.yml:4: a placeholder (modifier `expand`) has no value here; write the values out",
        ),
        (
            with("  selection:", "  timeframe: 5m\n  selection:"),
            "own.yml:5: a timeframe needs memory across records; remove it",
        ),
        (
            with("title: Bucket deleted\n", ""),
            "own.yml: Missing required field 'title'; add 'title'",
        ),
        (
            format!("{OWN_RULE}---\n{OWN_RULE}"),
            "own.yml: several documents in one file; give each a file of its own",
        ),
        (
            String::new(),
            "own.yml: no Sigma document in it; write one rule or one filter, or remove the file",
        ),
    ] {
        let loaded = load(&[("good.yml", OWN_RULE), ("own.yml", &text)]);
        let problems: Vec<String> = loaded.rejected.iter().map(ToString::to_string).collect();
        assert_eq!(problems, [expected], "{text}");
        let record = json!({"eventSource": "s3.amazonaws.com", "eventName": "DeleteBucket"});
        assert_eq!(
            titles(&loaded.pack, record),
            ["Bucket deleted"],
            "the good rule stays"
        );
    }
}

#[test]
fn broken_yaml_is_reported_with_its_line() {
    for text in [
        "title: [",
        "title: a\n\tid: b",
        "title: a\ntitle: b\n",
        "just text",
        "- a list",
    ] {
        let loaded = load(&[("own.yml", text)]);
        assert_eq!(loaded.rejected.len(), 1, "{text}");
    }
    let loaded = load(&[("own.yml", "title: a\nid: 'open\n")]);
    assert!(loaded.rejected[0].line.is_some(), "{:?}", loaded.rejected);
}

#[test]
fn of_two_files_with_one_id_the_first_is_kept() {
    let loaded = load(&[("a.yml", OWN_RULE), ("b.yml", OWN_RULE)]);
    assert_eq!(
        loaded.rejected[0].to_string(),
        "b.yml:2: the id of a.yml again; give it an id of its own (uuidgen makes one)"
    );
}

#[test]
fn a_broken_bundled_rule_is_an_error() {
    let broken = RuleFile {
        name: "rules/broken.yml".to_owned(),
        text: OWN_RULE.replace("level: high", "level: hgih"),
    };
    let error = RulePack::load_over(&[broken], &[]).unwrap_err();
    assert_eq!(
        (error.file.as_str(), error.line),
        ("rules/broken.yml", Some(9))
    );
}

#[test]
fn a_rule_without_named_sources_says_why_and_makes_every_record_a_candidate() {
    for (detection, why) in [
        (
            "eventSource|endswith: .amazonaws.com",
            "its eventSource has a modifier",
        ),
        (
            "eventSource: '*.amazonaws.com'",
            "its eventSource has a wildcard",
        ),
        ("eventName: DeleteBucket", "it names no eventSource"),
    ] {
        let text = OWN_RULE.replace(
            "eventSource: s3.amazonaws.com\n    eventName: DeleteBucket",
            detection,
        );
        let loaded = load(&[("own.yml", &text)]);
        assert_eq!(*loaded.pack.candidates(), Candidates::All, "{detection}");
        let reasons: Vec<&str> = loaded.pack.unbounded_rules().map(|(_, why)| why).collect();
        assert_eq!(reasons, [why]);
    }
    let text = OWN_RULE.replace("condition: selection", "condition: not selection");
    let pack = load(&[("own.yml", &text)]).pack;
    assert_eq!(*pack.candidates(), Candidates::All);
}

fn filter(rules: &str, more: &str) -> String {
    format!(
        "\
title: Finance changes cards
id: 22222222-2222-4222-8222-222222222222
description: Finance owns the payment methods
{more}logsource: {{product: aws, service: cloudtrail}}
filter:
  rules: {rules}
  selection:
    userIdentity.arn|contains: assumed-role/Finance/
  condition: not selection
"
    )
}

fn closed_id() -> String {
    pack()
        .rules()
        .find(|rule| rule.title == "AWS account closed")
        .unwrap()
        .id
        .clone()
}

fn closing_by_finance() -> Record {
    let mut record = record("CloseAccount", "e");
    record["userIdentity"]["arn"] = json!("arn:aws:sts::111122223333:assumed-role/Finance/alice");
    Record::from_value(record)
}

#[test]
fn a_filter_suppresses_its_rules_and_no_others() {
    let loaded = load(&[("f.yml", &filter(&format!("[{}]", closed_id()), ""))]);
    assert_eq!(loaded.rejected, []);
    assert!(loaded.changes[0].ends_with("because: Finance owns the payment methods"));
    let matched = loaded.pack.evaluate(&closing_by_finance(), now()).unwrap();
    assert_eq!(matched.rules, []);
    assert_eq!(matched.filters, ["22222222-2222-4222-8222-222222222222"]);
    let others = Record::from_value(record("CloseAccount", "e"));
    assert_eq!(loaded.pack.evaluate(&others, now()).unwrap().rules.len(), 1);
}

#[test]
fn a_filter_suppresses_through_its_last_day() {
    for (date, suppresses) in [("2026-03-02", true), ("2026-03-01", false)] {
        let text = filter(&format!("[{}]", closed_id()), &format!("expires: {date}\n"));
        let loaded = load(&[("f.yml", &text)]);
        assert_eq!(loaded.rejected, []);
        let matched = loaded.pack.evaluate(&closing_by_finance(), now()).unwrap();
        assert_eq!(matched.rules.is_empty(), suppresses, "{date}");
        assert_eq!(matched.expired_filters.is_empty(), suppresses, "{date}");
        assert_eq!(
            loaded.pack.expired_filters(now()).count(),
            usize::from(!suppresses)
        );
    }
}

#[test]
fn a_filter_that_could_silence_everything_is_refused() {
    let id = closed_id();
    let good = filter(&format!("[{id}]"), "");
    for (text, expected) in [
        (filter("any", ""), "does not name its rules"),
        (filter("[]", ""), "does not name its rules"),
        (
            good.replace(&format!("  rules: [{id}]\n"), ""),
            "does not name its rules",
        ),
        (
            good.replace("condition: not selection", "condition: selection"),
            "must read `not <selection>`",
        ),
        (
            good.replace(
                "condition: not selection",
                "condition: not 1 of selection_*",
            ),
            "fits no detection",
        ),
        (
            good.replace("condition: not selection", "condition: not other"),
            "does not define",
        ),
        (
            good.replace("description: Finance owns the payment methods\n", ""),
            "without a reason",
        ),
        (
            good.replace("condition: not selection", "condition: not (not selection)"),
            "whatever its selections do not match",
        ),
        (
            good.replace(
                "condition: not selection",
                "condition: not (selection or not selection)",
            ),
            "whatever its selections do not match",
        ),
        (
            good.replace(
                "userIdentity.arn|contains: assumed-role/Finance/",
                "userIdentity.arn: []",
            ),
            "without any value",
        ),
        (
            filter("[33333333-3333-4333-8333-333333333333]", ""),
            "which does not exist",
        ),
        (
            filter(&format!("[{id}]"), "expires: soon\n"),
            "`expires` is not a date",
        ),
    ] {
        let loaded = load(&[("f.yml", &text)]);
        assert_eq!(loaded.rejected.len(), 1, "{text}");
        assert!(
            loaded.rejected[0].to_string().contains(expected),
            "{}",
            loaded.rejected[0]
        );
        assert_eq!(
            loaded
                .pack
                .evaluate(&closing_by_finance(), now())
                .unwrap()
                .rules
                .len(),
            1
        );
    }
}
