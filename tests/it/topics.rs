//! Several topics: each has its level, and each gets what it is missing.

use std::collections::BTreeMap;

use billing_watch::{
    alert::{AccountNames, Audience},
    pipeline::Topic,
    rules::Level,
};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::support::{
    CHAT_TOPIC, FINDING_TOPIC, Harness, MemorySink, TOPIC, gzip_log, log_key, record, record_with,
    run_envelope, s3_event, topic,
};

const ALL: [Audience; 3] = [Audience::People, Audience::Chat, Audience::Machines];

fn topics(levels: [Level; 3]) -> Vec<Topic> {
    let pairs = ALL.into_iter().zip(levels);
    pairs
        .map(|(audience, level)| topic(audience, level))
        .collect()
}

/// The number of messages that each topic got.
fn counts(sink: &MemorySink) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (arn, _) in sink.messages.borrow().iter() {
        *counts.entry(arn.clone()).or_default() += 1;
    }
    counts
}

fn expected(counts: [(&str, usize); 3]) -> BTreeMap<String, usize> {
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    counts.map(|(arn, count)| (arn.to_owned(), count)).collect()
}

#[test]
fn each_topic_gets_the_findings_of_its_level() {
    let key = log_key("Abcdefgh12345678");
    let records = [
        record("CloseAccount", "a"),
        record("SetPayInformation", "b"),
        record("SetContactAddress", "c"),
        record("RedeemPromoCode", "d"),
        record("GetAddresses", "e"),
    ];
    let mut harness = Harness::new().with_object(&key, gzip_log(&records));
    harness.settings.topics = topics([Level::High, Level::Critical, Level::Low]);
    let (report, _) = run_envelope(&harness.pipeline(), &s3_event(&[&key]));
    // The lowest level of a topic decides what is below the level.
    assert_eq!((report.below_level, report.published), (1, 4));
    let counts = counts(&harness.sink);
    assert_eq!(
        counts,
        expected([(TOPIC, 1), (CHAT_TOPIC, 1), (FINDING_TOPIC, 4)])
    );
    assert_eq!(report.messages, 6);
    let messages = harness.sink.messages.take();
    let body = |arn: &str| {
        let message = messages.iter().find(|(other, _)| other == arn);
        message.map(|(_, message)| message.body.clone()).unwrap()
    };
    assert!(body(TOPIC).contains("ALL 2 FINDINGS") && !body(TOPIC).contains("SetContactAddress"));
    assert!(body(CHAT_TOPIC).contains("CloseAccount"));
    assert!(!body(CHAT_TOPIC).contains("SetPayInformation"));
}

#[test]
fn a_topic_that_fails_does_not_hold_up_the_others_and_the_retry_sends_what_is_missing() {
    let key = log_key("Abcdefgh12345678");
    let records = [
        record("CloseAccount", "a"),
        record("SetPayInformation", "b"),
    ];
    for broken in [TOPIC, CHAT_TOPIC, FINDING_TOPIC] {
        let mut harness = Harness::new().with_object(&key, gzip_log(&records));
        harness.settings.topics = topics([Level::Medium; 3]);
        let sink = MemorySink::default();
        let pipeline = harness.pipeline_to(&sink);
        let event = s3_event(&[&key]);
        sink.broken.borrow_mut().push(broken);
        for attempt in 0..3 {
            let (report, reply) = run_envelope(&pipeline, &event);
            let error = reply.unwrap_err().to_string();
            assert!(
                error.contains("failed to publish an alert on s3://"),
                "{error}"
            );
            assert_eq!(
                (report.failed, report.failed_findings, report.published),
                (1, 2, 0)
            );
            // The others were served at once, and once.
            let of = |arn, messages| (arn, if arn == broken { 0 } else { messages });
            let served = expected([of(TOPIC, 1), of(CHAT_TOPIC, 1), of(FINDING_TOPIC, 2)]);
            assert_eq!(counts(&sink), served, "attempt {attempt}");
        }
        sink.broken.borrow_mut().clear();
        let (report, reply) = run_envelope(&pipeline, &event);
        assert!(reply.is_ok());
        assert_eq!((report.published, report.failed_findings), (2, 0));
        assert_eq!(
            counts(&sink),
            expected([(TOPIC, 1), (CHAT_TOPIC, 1), (FINDING_TOPIC, 2)])
        );
        let (report, _) = run_envelope(&pipeline, &event);
        assert_eq!((report.duplicate, report.messages), (2, 0));
    }
}

#[test]
fn large_groups_arrive_in_chat_in_numbered_parts_and_for_machines_one_by_one() {
    let key = log_key("Abcdefgh12345678");
    let records: Vec<Value> = (0..200)
        .map(|number| record("CloseAccount", &format!("event-{number:03}")))
        .collect();
    let mut harness = Harness::new().with_object(&key, gzip_log(&records));
    harness.settings.topics = topics([Level::Medium; 3]);
    let (report, _) = run_envelope(&harness.pipeline(), &s3_event(&[&key]));
    assert_eq!(report.published, 200);
    let messages = harness.sink.messages.take();
    let of = |arn: &str| -> Vec<_> {
        let own = messages.iter().filter(|(other, _)| other == arn);
        own.map(|(_, message)| message).collect()
    };
    assert_eq!((of(TOPIC).len(), of(FINDING_TOPIC).len()), (1, 200));
    let chat = of(CHAT_TOPIC);
    assert!(chat.len() > 3, "{}", chat.len());
    let all: String = chat.iter().map(|message| &*message.body).collect();
    for number in 0..200 {
        let id = format!("`event-{number:03}`");
        assert!(all.contains(&id), "{id}");
    }
    for (index, message) in chat.iter().enumerate() {
        let part = format!("(part {})", index + 1);
        assert!(message.subject.ends_with(&part), "{}", message.subject);
        let body: Value = serde_json::from_str(&message.body).unwrap();
        assert!(body["content"]["description"].as_str().unwrap().len() <= 6_400);
        assert!(body["content"]["title"].as_str().unwrap().ends_with(&part));
    }
}

#[test]
fn a_finding_too_long_for_a_chat_message_says_what_is_left_out() {
    let key = log_key("Abcdefgh12345678");
    let long = "\u{1}".repeat(2_000);
    let identity = json!({"type": "IAMUser", "arn": long, "userName": long, "accessKeyId": long});
    let closure = record_with("CloseAccount", "a", json!({"userIdentity": identity}));
    let mut harness = Harness::new().with_object(&key, gzip_log(&[closure]));
    harness.settings.topics = topics([Level::Medium; 3]);
    let (report, _) = run_envelope(&harness.pipeline(), &s3_event(&[&key]));
    assert_eq!((report.published, report.messages), (1, 3));
    let messages = harness.sink.messages.take();
    let chat = messages.iter().find(|(arn, _)| arn == CHAT_TOPIC).unwrap();
    let body: Value = serde_json::from_str(&chat.1.body).unwrap();
    let description = body["content"]["description"].as_str().unwrap();
    assert!(description.len() <= 6_400 && description.contains("more than a chat message holds"));
}

#[test]
fn names_of_accounts_are_read_in_each_form() {
    let names = |text: &str| AccountNames::parse(text);
    let name = |text: &str, id: &str| names(text).unwrap().get(id).map(|name| name.to_string());
    for text in [
        r#"{"111122223333": "Payments", "012345678901": "Sandbox"}"#,
        "\"111122223333\": Payments\n\"012345678901\": Sandbox\n",
        // YAML takes these for numbers.
        "111122223333: Payments\n012345678901: Sandbox\n",
        r#"{"Accounts": [{"Id": "111122223333", "Name": "Payments", "Status": "ACTIVE"}, {"Id": "012345678901", "Name": "Sandbox"}]}"#,
    ] {
        assert_eq!(
            name(text, "111122223333").as_deref(),
            Some("Payments"),
            "{text}"
        );
        assert_eq!(
            name(text, "012345678901").as_deref(),
            Some("Sandbox"),
            "{text}"
        );
        assert_eq!(name(text, "444455556666"), None);
    }
    assert!(names("{}").unwrap().is_empty());
    for text in [
        "",
        "[]",
        "text",
        r#"{"payments": "111122223333"}"#,
        r#"{"Accounts": [{"Name": "x"}]}"#,
        "{\"111122223333\": [1]}",
    ] {
        assert!(names(text).is_err(), "{text}");
    }
    // A name is somebody's text, too.
    let name = name("{\"111122223333\": \"\\u202e http://x\"}", "111122223333").unwrap();
    assert_eq!(name, "\\u{202e} http[:]//x");
}

#[test]
fn names_and_the_team_s_time_stand_beside_ids_and_utc() {
    let key = log_key("Abcdefgh12345678");
    let closure = record_with(
        "CloseAccount",
        "a",
        json!({"requestParameters": {"accountId": "444455556666"}}),
    );
    let mut harness = Harness::new().with_object(&key, gzip_log(&[closure]));
    harness.settings.style.account_names =
        AccountNames::parse(r#"{"111122223333": "Management", "444455556666": "Payments"}"#)
            .unwrap();
    harness.settings.style.time_zone = Some(TimeZone::get("Asia/Kolkata").unwrap());
    run_envelope(&harness.pipeline(), &s3_event(&[&key]))
        .1
        .unwrap();
    let alerts = harness.sink.alerts.take();
    let text = alerts[0]
        .body
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(
        text.contains("on account 444455556666 (Payments): AWS account closed."),
        "{text}"
    );
    assert!(
        text.contains(
            "444455556666 (Payments), by a call that was made in 111122223333 (Management)"
        ),
        "{text}"
    );
    assert!(
        text.contains("2026-03-02 16:44:04 UTC (2026-03-02 22:14:04 Asia/Kolkata; 7 minutes ago)"),
        "{text}"
    );
}
