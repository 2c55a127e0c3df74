//! Direct events: CloudTrail records in the envelope itself, and the log files that confirm them.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use billing_watch::{
    alert::Audience,
    cloudtrail::CameBy,
    envelope::{DirectEventKind, Envelope, EnvelopeError, ErrorType},
    report::Report,
    rules::Level,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    CHAT_TOPIC, FINDING_TOPIC, Harness, MemoryPipeline, MemorySink, TOPIC, direct_event,
    finance_role, gzip_log, log_key, queue_of, record, record_with, run_envelope, s3_event, topic,
};

fn sample(name: &str) -> Value {
    let path = format!("{}/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn logs(message_type: &str, messages: &[&str]) -> Value {
    let log_events: Vec<Value> = messages
        .iter()
        .map(|message| json!({"id": "1", "timestamp": 1, "message": message}))
        .collect();
    logs_of(
        json!({"messageType": message_type, "logEvents": log_events})
            .to_string()
            .as_bytes(),
    )
}

fn logs_of(data: &[u8]) -> Value {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    json!({"awslogs": {"data": STANDARD.encode(encoder.finish().unwrap())}})
}

#[test]
fn each_envelope_of_a_direct_event_leads_to_its_record() {
    let event = sample("direct-event");
    let wrapped = |text: &str| json!({"Type": "Notification", "Message": text});
    let on_failure = json!({
        "version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": event,
    });
    let text = event.to_string();
    for (payload, came_by) in [
        (event.clone(), CameBy::EventBridge),
        (sample("sqs-direct-event"), CameBy::EventBridge),
        (sample("cloudwatch-logs"), CameBy::CloudWatchLogs),
        (wrapped(&text), CameBy::EventBridge),
        (
            json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": text}}]}),
            CameBy::EventBridge,
        ),
        (
            queue_of(&[("a", wrapped(&text).to_string())]),
            CameBy::EventBridge,
        ),
        (on_failure.clone(), CameBy::EventBridge),
        (
            queue_of(&[("a", on_failure.to_string())]),
            CameBy::EventBridge,
        ),
        (
            queue_of(&[("a", sample("cloudwatch-logs").to_string())]),
            CameBy::CloudWatchLogs,
        ),
    ] {
        let envelope = Envelope::parse(&payload).unwrap();
        let [delivery] = &envelope.deliveries[..] else {
            panic!("{payload}");
        };
        let [direct] = &delivery.direct_events[..] else {
            panic!("{payload}");
        };
        assert_eq!(
            direct.record.event_id(),
            Some("5923c499-063e-44ac-80fb-b40e5fc3a2d1")
        );
        assert_eq!(direct.record.came_by(), came_by);
        assert!(delivery.object_events.is_empty() && delivery.problems.is_empty());
    }
}

#[test]
fn every_detail_type_of_cloudtrail_is_known() {
    for (detail_type, kind) in [
        ("AWS API Call via CloudTrail", DirectEventKind::Record),
        ("AWS Console Action via CloudTrail", DirectEventKind::Record),
        ("AWS Service Event via CloudTrail", DirectEventKind::Record),
        // AWS writes it in both ways.
        (
            "AWS Console Sign In via CloudTrail",
            DirectEventKind::Record,
        ),
        ("AWS Console Signin via CloudTrail", DirectEventKind::Record),
        ("Amazon API Call via CloudTrail", DirectEventKind::Record),
        ("AWS Insight via CloudTrail", DirectEventKind::Insight),
        (
            "AWS Network Activity Event via CloudTrail",
            DirectEventKind::NetworkActivity,
        ),
    ] {
        let mut event = direct_event(&record("CloseAccount", "a"));
        event["detail-type"] = json!(detail_type);
        let envelope = Envelope::parse(&event).unwrap();
        assert_eq!(
            envelope.deliveries[0].direct_events[0].kind, kind,
            "{detail_type}"
        );
    }
    // S3's own events go on being events of objects.
    let envelope = Envelope::parse(&sample("eventbridge")).unwrap();
    assert_eq!(envelope.deliveries[0].object_events.len(), 1);
}

#[test]
fn a_direct_event_without_a_part_is_a_problem_that_names_it() {
    for (name, value, part) in [
        ("detail", json!("text"), "detail"),
        ("account", Value::Null, "account"),
        ("source", json!("my.app"), "source of AWS"),
    ] {
        let mut event = direct_event(&record("CloseAccount", "a"));
        event[name] = value;
        let error = Envelope::parse(&event).unwrap_err();
        let shape = "EventBridge event of CloudTrail";
        assert_eq!(error, EnvelopeError::Incomplete { shape, part }, "{name}");
    }
}

#[test]
fn data_of_a_subscription_is_read_whole_or_not_at_all() {
    let closure = record("CloseAccount", "a").to_string();
    let events = |payload: &Value| {
        let envelope = Envelope::parse(payload)?;
        let delivery = &envelope.deliveries[0];
        Ok::<_, EnvelopeError>((delivery.direct_events.len(), delivery.problems.len()))
    };
    assert_eq!(
        events(&logs("DATA_MESSAGE", &[&closure, &closure])),
        Ok((2, 0))
    );
    // A check whether somebody is there.
    assert_eq!(
        events(&logs("CONTROL_MESSAGE", &["CWL CONTROL MESSAGE"])),
        Ok((0, 0))
    );
    // What is no record is a problem, and the others are kept.
    assert_eq!(
        events(&logs("DATA_MESSAGE", &["hello", &closure, "[]"])),
        Ok((1, 2))
    );
    for payload in [
        json!({"awslogs": {}}),
        json!({"awslogs": {"data": "%%%"}}),
        json!({"awslogs": {"data": STANDARD.encode("not gzip")}}),
        logs_of(b"not JSON"),
        logs_of(b"{}"),
    ] {
        assert!(events(&payload).is_err(), "{payload}");
    }
    let bomb = [
        &b"{\"messageType\":\"DATA_MESSAGE\",\"x\":\""[..],
        &vec![b'x'; 9 << 20],
        b"\"}",
    ]
    .concat();
    let error = events(&logs_of(&bomb)).unwrap_err();
    assert!(
        error.to_string().contains("filter pattern on eventSource"),
        "{error}"
    );
    // No text of a record gets into an error.
    let error = events(&logs_of(b"{\"messageType\": \"secret value\"; }")).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

fn all_topics() -> Harness {
    let mut harness = Harness::new();
    harness.settings.topics = [Audience::People, Audience::Chat, Audience::Machines]
        .map(|audience| topic(audience, Level::Medium))
        .to_vec();
    harness
}

fn run(pipeline: &MemoryPipeline<'_>, payload: &Value) -> Report {
    let (report, reply) = run_envelope(pipeline, payload);
    assert!(reply.is_ok(), "{reply:?}");
    report
}

#[test]
fn whichever_comes_first_alerts_once_on_each_topic() {
    let key = log_key("Abcdefgh12345678");
    let closure = record("CloseAccount", "a");
    for direct_first in [true, false] {
        let mut harness = all_topics().with_object(&key, gzip_log(std::slice::from_ref(&closure)));
        let pipeline = harness.pipeline();
        let (direct, log_file) = (direct_event(&closure), s3_event(&[&key]));
        if direct_first {
            let first = run(&pipeline, &direct);
            assert_eq!(
                (first.direct_scanned, first.published, first.messages),
                (1, 1, 3)
            );
            assert_eq!(first.direct_alert_delay_seconds, [420.0]);
            let second = run(&pipeline, &log_file);
            assert_eq!((second.duplicate, second.messages), (1, 0));
            assert_eq!((second.came_directly, second.not_directly), (1, 0));
            // The second log file is no confirmation any more.
            let third = run(&pipeline, &log_file);
            assert_eq!((third.came_directly, third.not_directly), (0, 0));
        } else {
            let first = run(&pipeline, &log_file);
            assert_eq!((first.published, first.messages), (1, 3));
            assert_eq!((first.came_directly, first.not_directly), (0, 1));
            assert_eq!(first.log_file_alert_delay_seconds, [420.0]);
            let second = run(&pipeline, &direct);
            assert_eq!(
                (second.duplicate, second.messages, second.direct_scanned),
                (1, 0, 1)
            );
        }
        drop(pipeline);
        let mut arns: Vec<String> = harness
            .sink
            .messages
            .take()
            .into_iter()
            .map(|(arn, _)| arn)
            .collect();
        arns.sort_unstable();
        assert_eq!(arns, [TOPIC, CHAT_TOPIC, FINDING_TOPIC].map(str::to_owned));
    }
}

#[test]
fn a_forged_event_silences_nothing_in_either_order() {
    let key = log_key("Abcdefgh12345678");
    let truth = record("CloseAccount", "a");
    let forged = record_with("SetContactAddress", "a", json!({"userAgent": "other"}));
    let differs = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for forged_first in [true, false] {
        let mut harness = Harness::new().with_object(&key, gzip_log(std::slice::from_ref(&truth)));
        let pipeline = harness.pipeline();
        let (direct, log_file) = (direct_event(&forged), s3_event(&[&key]));
        let order = if forged_first {
            [&direct, &log_file]
        } else {
            [&log_file, &direct]
        };
        for payload in order {
            assert_eq!(run(&pipeline, payload).published, 1);
        }
        // Each once, however often they come.
        for payload in order {
            assert_eq!(run(&pipeline, payload).duplicate, 1);
        }
        // The true event arrives by the fast path, too.
        assert_eq!(run(&pipeline, &direct_event(&truth)).duplicate, 1);
        drop(pipeline);
        let alerts = harness.sink.alerts.take();
        assert_eq!(alerts.len(), 2);
        assert!(!differs(&alerts[0].body).contains("said something else"));
        let note = if forged_first {
            "a direct event with this event id said something else"
        } else {
            "another record with this event id says something else"
        };
        assert!(
            differs(&alerts[1].body).contains(note),
            "{}",
            alerts[1].body
        );
    }
}

#[test]
fn two_events_of_one_id_in_one_batch_alert_both() {
    let truth = direct_event(&record("CloseAccount", "a")).to_string();
    let forged = direct_event(&record("SetContactAddress", "a")).to_string();
    let mut harness = Harness::new();
    let report = run(
        &harness.pipeline(),
        &queue_of(&[("1", truth), ("2", forged)]),
    );
    assert_eq!((report.direct_events, report.published), (2, 2));
    let alerts = harness.sink.alerts.take();
    let text: String = alerts.iter().map(|alert| &*alert.body).collect();
    assert!(text.contains("CloseAccount") && text.contains("SetContactAddress"));
}

#[test]
fn log_files_of_two_trails_agree_whatever_their_records_say() {
    // CloudTrail may leave out in one account's copy what it writes in another's.
    let (one, other) = (log_key("Abcdefgh12345678"), log_key("Bcdefghi23456789"));
    let copy = record_with(
        "CloseAccount",
        "a",
        json!({"userIdentity": {"type": "Root"}}),
    );
    let mut harness = Harness::new()
        .with_object(&one, gzip_log(&[record("CloseAccount", "a")]))
        .with_object(&other, gzip_log(&[copy]));
    let pipeline = harness.pipeline();
    assert_eq!(run(&pipeline, &s3_event(&[&one])).published, 1);
    assert_eq!(run(&pipeline, &s3_event(&[&other])).duplicate, 1);
}

#[test]
fn events_of_one_invocation_share_their_groups() {
    let role = json!({"userIdentity": finance_role()});
    let events = [
        record("CloseAccount", "a"),
        record_with("SetContactAddress", "b", role.clone()),
        record("SetPayInformation", "c"),
        record_with("SetContactAddress", "d", role),
        record("GetAddresses", "e"),
        json!({"eventSource": "s3.amazonaws.com", "eventName": "GetObject", "recipientAccountId": "111122223333"}),
    ];
    let bodies = events
        .each_ref()
        .map(|record| direct_event(record).to_string());
    let ids = ["1", "2", "3", "4", "5", "6"];
    let messages: Vec<(&str, String)> = ids.into_iter().zip(bodies).collect();
    let mut harness = Harness::new();
    let report = run(&harness.pipeline(), &queue_of(&messages));
    assert_eq!((report.direct_events, report.direct_scanned), (6, 6));
    assert_eq!(
        (report.findings, report.below_level, report.published),
        (5, 1, 4)
    );
    let subjects = harness
        .sink
        .alerts
        .take()
        .into_iter()
        .map(|alert| alert.subject);
    assert_eq!(
        subjects.collect::<Vec<_>>(),
        [
            "[MEDIUM] SetContactAddress and 1 more in 111122223333 by role Finance",
            "[CRITICAL] CloseAccount and 1 more in 111122223333 by root",
        ]
    );
}

#[test]
fn a_failed_group_fails_each_delivery_that_had_a_part_in_it_and_no_other() {
    let role = json!({"userIdentity": finance_role()});
    let closure = direct_event(&record("CloseAccount", "a")).to_string();
    let messages = [
        ("root-1", closure.clone()),
        (
            "role",
            direct_event(&record_with("SetContactAddress", "b", role)).to_string(),
        ),
        (
            "root-2",
            direct_event(&record("SetPayInformation", "c")).to_string(),
        ),
        ("copy", closure),
        (
            "nothing",
            direct_event(&record("GetAddresses", "d")).to_string(),
        ),
    ];
    let payload = queue_of(&messages);
    let sink = MemorySink::default();
    let pipeline = Harness::new().pipeline_to(&sink);
    let attempt = |refusals| {
        *sink.refusals.borrow_mut() = refusals;
        let (report, reply) = run_envelope(&pipeline, &payload);
        let reply = reply.unwrap();
        let items = reply["batchItemFailures"].as_array().unwrap().iter();
        let ids = items.map(|item| item["itemIdentifier"].as_str().unwrap().to_owned());
        (
            report.direct_failed,
            report.direct_scanned,
            ids.collect::<Vec<_>>(),
        )
    };
    let (failed, scanned, ids) = attempt(2);
    assert_eq!((failed, scanned), (3, 1));
    assert_eq!(ids, ["root-1", "role", "root-2", "copy"]);
    // One refusal hits one of the two groups, which are sent at the same time.
    let (failed, scanned, ids) = attempt(1);
    let of_role = ids == ["role"];
    assert!(of_role || ids == ["root-1", "root-2", "copy"], "{ids:?}");
    assert_eq!((failed, scanned), if of_role { (1, 3) } else { (2, 2) });
    assert_eq!(attempt(0), (0, 4, Vec::new()));
    assert_eq!(sink.alerts.borrow().len(), 2);
}

#[test]
fn an_event_of_another_account_is_refused_and_the_others_alert() {
    let mut forged = direct_event(&record("CloseAccount", "a"));
    forged["account"] = json!("444455556666");
    let good = direct_event(&record("SetPayInformation", "b")).to_string();
    let mut harness = Harness::new();
    let payload = queue_of(&[("forged", forged.to_string()), ("good", good)]);
    let (report, reply) = run_envelope(&harness.pipeline(), &payload);
    assert_eq!((report.direct_failed, report.published), (1, 1));
    assert_eq!(
        reply.unwrap()["batchItemFailures"],
        json!([{"itemIdentifier": "forged"}])
    );
    let (_, reply) = run_envelope(&harness.pipeline(), &forged);
    let error = reply.unwrap_err();
    assert_eq!(error.error_type, ErrorType::DirectEventRefused);
    insta::assert_snapshot!(error, @"a direct event that account 444455556666 sent says that it was recorded in 111122223333; find out who may send to the queue of direct events");
}

#[test]
fn insights_and_network_activity_are_skipped_with_a_reason() {
    let mut insight = direct_event(&record("CloseAccount", "a"));
    insight["detail-type"] = json!("AWS Insight via CloudTrail");
    let mut harness = Harness::new();
    let report = run(&harness.pipeline(), &insight);
    assert_eq!((report.direct_events, report.direct_skipped), (1, 1));
    assert_eq!(report.skipped_because["insight"], 1);
}
