//! A scan may leave out only records that no rule can match.

use billing_watch::{
    cloudtrail::Record,
    rules::{RuleFile, RulePack},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::now;

/// One item of a detection.
fn item() -> impl Strategy<Value = String> {
    let source = prop_oneof![
        4 => Just("eventSource: a.amazonaws.com"),
        2 => Just("eventSource: [a.amazonaws.com, B.amazonaws.com]"),
        1 => Just("eventSource|cased: b.amazonaws.com"),
        1 => Just("eventSource: '*.amazonaws.com'"),
        1 => Just("eventSource|startswith: a."),
        1 => Just("eventSource: null"),
    ];
    let name = prop_oneof![
        4 => Just("eventName: Kill"),
        2 => Just("eventName: [kill, Close]"),
        1 => Just("eventName|cased: Close"),
        1 => Just("eventName: 'C*'"),
        1 => Just("eventName|endswith: ll"),
        1 => Just("eventName|re: '^Cl'"),
    ];
    let other = prop_oneof![Just("userAgent: x"), Just("errorCode|exists: false")];
    prop_oneof![3 => source, 3 => name, 1 => other].prop_map(str::to_owned)
}

/// One named detection: items that must all match, or a list of such.
fn detection(name: &'static str) -> impl Strategy<Value = String> {
    let items = || {
        prop::collection::vec(item(), 1..4).prop_map(|mut items| {
            // A field stands once in a map.
            items.sort();
            items.dedup_by_key(|item| item.split([':', '|']).next().map(str::to_owned));
            items
        })
    };
    let all_of =
        items().prop_map(move |items| format!("  {name}:\n    {}\n", items.join("\n    ")));
    let any_of = prop::collection::vec(items(), 1..3).prop_map(move |maps| {
        let maps: Vec<String> = maps.iter().map(|items| items.join("\n      ")).collect();
        format!("  {name}:\n    - {}\n", maps.join("\n    - "))
    });
    prop_oneof![3 => all_of, 1 => any_of]
}

fn rule() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(vec![
        "sel_a and sel_b",
        "sel_a or sel_b",
        "sel_a and not sel_b",
        "not sel_a and sel_b",
        "1 of sel_*",
        "all of sel_*",
        "sel_a and (sel_b or sel_c)",
        "(sel_a or sel_b) and sel_c",
        "sel_a and sel_b and sel_c",
        "1 of them",
    ]);
    let detections = (detection("sel_a"), detection("sel_b"), detection("sel_c"));
    (detections, condition).prop_map(|((a, b, c), condition)| {
        format!(
            "title: Generated\nid: 44444444-4444-4444-8444-444444444444\nlevel: high\n\
             logsource:\n  product: aws\n  service: cloudtrail\ndetection:\n{a}{b}{c}  \
             condition: {condition}\n"
        )
    })
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let one = || prop::sample::select(choices);
    prop_oneof![
        8 => one().prop_map(|text| json!(text)),
        1 => prop::collection::vec(one(), 0..3).prop_map(|texts| json!(texts)),
        1 => Just(Value::Null),
    ]
}

fn record() -> impl Strategy<Value = Value> {
    let source = text(&[
        "a.amazonaws.com",
        "A.amazonaws.com",
        "b.amazonaws.com",
        "c.amazonaws.com",
    ]);
    // The first letter of the second name is the Kelvin sign, which is a k for Sigma.
    let name = text(&["Kill", "\u{212a}ill", "close", "Close", "Clone", "Get"]);
    (source, name, prop::bool::ANY).prop_map(|(source, name, agent)| {
        let agent = if agent { "x" } else { "y" };
        json!({"eventSource": source, "eventName": name, "userAgent": agent})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_record_that_a_rule_matches_is_a_candidate(
        text in rule(),
        records in prop::collection::vec(record(), 20),
    ) {
        let file = RuleFile { name: "generated.yml".to_owned(), text };
        let loaded = RulePack::load_over(&[], std::slice::from_ref(&file)).unwrap();
        prop_assert!(loaded.rejected.is_empty(), "{}: {:?}", file.text, loaded.rejected);
        for record in records {
            let record = Record::from_value(record);
            if loaded.pack.evaluate(&record, now()).is_some() {
                let is_candidate = loaded.pack.candidates().include(&record);
                prop_assert!(is_candidate, "{}{}", file.text, record.as_value());
            }
        }
    }
}
