//! The real binary, from an envelope to a message in a queue that is subscribed to the topic.

use serde_json::{Value, json};

use crate::{
    lambda::{Aws, Function, command},
    support::{gzip_log, log_key, noise, record, record_with, s3_event_in},
};

/// The lines of metrics among what the function wrote.
fn metrics(lines: &[Value]) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| line.get("_aws").is_some())
        .collect()
}

#[test]
fn a_log_file_becomes_an_alert_in_the_queue_once() {
    let aws = Aws::new("one-alert");
    let key = log_key("Abcdefgh12345678");
    aws.put(
        &key,
        gzip_log(&[noise(1), record("CloseAccount", "event-1"), noise(2)]),
    );
    let function = Function::start(&aws, &[]);
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(
        (&report["Scanned"], &report["Published"]),
        (&json!(1), &json!(1))
    );
    let alerts = aws.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        alerts[0]["Subject"],
        "[CRITICAL] CloseAccount in 111122223333 by root"
    );
    assert!(
        alerts[0]["Message"]
            .as_str()
            .unwrap()
            .contains("Event id: event-1")
    );
    let attributes = &alerts[0]["MessageAttributes"];
    assert_eq!(
        attributes["level"],
        json!({"Type": "String", "Value": "critical"})
    );
    assert_eq!(attributes["account"]["Value"], "111122223333");
    let again = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(
        (&again["Published"], &again["Duplicate"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(aws.alerts().len(), 0);
    let lines = function.stop();
    let metrics = metrics(&lines);
    assert_eq!(metrics.len(), 2);
    assert_eq!(
        (&metrics[0]["ColdStart"], &metrics[1]["ColdStart"]),
        (&json!(1), &json!(0))
    );
    assert!(
        lines
            .iter()
            .all(|line| !line.to_string().contains("ASIAEXAMPLE")),
        "no record bodies"
    );
}

#[test]
fn an_s3_notification_through_a_queue_leads_to_an_alert() {
    let aws = Aws::new("own-notification");
    aws.notify_queue();
    let key = "AWSLogs/111122223333/CloudTrail/us-east-1/a b+c%3D=&ü漢.json.gz";
    aws.put(key, gzip_log(&[record("SetPayInformation", "event-1")]));
    let bodies: Vec<String> = aws
        .messages()
        .iter()
        .map(|message| message.body().unwrap().to_owned())
        .collect();
    assert!(bodies.len() >= 2, "a test event and a notification");
    let records: Vec<Value> = bodies
        .iter()
        .enumerate()
        .map(|(number, body)| {
            json!({"messageId": number.to_string(), "eventSource": "aws:sqs", "body": body})
        })
        .collect();
    let function = Function::start(&aws, &[]);
    let reply = function.invoke(&json!({"Records": records})).response();
    assert_eq!(reply, json!({"batchItemFailures": []}));
    let alerts = aws.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(
        alerts[0]["Subject"],
        "[HIGH] SetPayInformation in 111122223333 by root"
    );
}

#[test]
fn keys_with_odd_characters_are_fetched() {
    let aws = Aws::new("odd-keys");
    let keys = [
        "a b/c+d.json.gz",
        "100%/x=1&y=2.json.gz",
        "Übung/größe.json.gz",
        "監査/ログ '.json.gz",
    ];
    for (number, key) in keys.iter().enumerate() {
        aws.put(
            key,
            gzip_log(&[record("CloseAccount", &format!("event-{number}"))]),
        );
    }
    let function = Function::start(&aws, &[]);
    let report = function.invoke(&s3_event_in(&aws.bucket, &keys)).response();
    assert_eq!(
        (&report["Scanned"], &report["Published"]),
        (&json!(4), &json!(4))
    );
    assert_eq!(aws.alerts().len(), 4);
}

#[test]
fn failed_objects_are_named_and_the_good_one_alerts() {
    let aws = Aws::new("broken-object");
    let (good, broken, missing) = (log_key("Good"), log_key("Broken"), log_key("Missing"));
    aws.put(&good, gzip_log(&[record("CloseAccount", "event-1")]));
    aws.put(&broken, b"\x1f\x8bnot gzip at all".to_vec());
    let function = Function::start(&aws, &[]);
    let error = function
        .invoke(&s3_event_in(&aws.bucket, &[&broken, &missing, &good]))
        .error();
    assert_eq!(error["errorType"], "SeveralFailures");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(
        message.contains(&broken) && message.contains("the gzip data is corrupt"),
        "{message}"
    );
    assert!(
        message.contains(&missing) && message.contains("NoSuchKey"),
        "{message}"
    );
    assert_eq!(aws.alerts().len(), 1);
    let lines = function.stop();
    let failures = lines.iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!(failures, 2, "each failure once: {lines:?}");
}

#[test]
fn three_thousand_findings_pass_sns_in_parts() {
    let aws = Aws::new("many-findings");
    let key = log_key("Abcdefgh12345678");
    let parameters = json!({"requestParameters": {"city": "x".repeat(800)}});
    let records: Vec<Value> = (0..3000)
        .map(|number| {
            record_with(
                "SetContactAddress",
                &format!("id-{number}-end"),
                parameters.clone(),
            )
        })
        .collect();
    aws.put(&key, gzip_log(&records));
    let function = Function::start(&aws, &[]);
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(report["Published"], 3000);
    let text: String = aws
        .alerts()
        .iter()
        .map(|alert| alert["Message"].as_str().unwrap().to_owned())
        .collect();
    for number in 0..3000 {
        let line = format!(" UTC, id-{number}-end\n");
        assert_eq!(text.matches(&line).count(), 1, "{number}");
    }
}

#[test]
fn an_unknown_envelope_fails_with_an_error_that_describes_it() {
    let aws = Aws::new("unknown-envelope");
    let function = Function::start(&aws, &[]);
    let error = function.invoke(&json!({"hello": "world"})).error();
    assert_eq!(error["errorType"], "UnknownEnvelope");
    assert_eq!(
        error["errorMessage"],
        "unknown envelope: an object with the keys `hello`"
    );
}

#[test]
fn an_alert_that_sns_refuses_fails_the_invocation() {
    let aws = Aws::new("refusing-topic");
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[record("CloseAccount", "event-1")]));
    let nowhere = "arn:aws:sns:us-east-1:123456789012:nowhere";
    let function = Function::start(&aws, &[("ALERT_TOPIC_ARN", nowhere)]);
    let error = function.invoke(&s3_event_in(&aws.bucket, &[&key])).error();
    assert_eq!(error["errorType"], "AlertRefused", "{error}");
    let error = function.invoke(&json!({"action": "self-test"})).error();
    assert_eq!(error["errorType"], "AlertRefused", "{error}");
}

#[test]
fn a_self_test_reaches_the_subscriber() {
    let aws = Aws::new("self-test");
    let function = Function::start(&aws, &[]);
    function.invoke(&json!({"action": "self-test"})).response();
    let alerts = aws.alerts();
    assert_eq!(
        alerts[0]["Subject"],
        "[TEST] billing-watch self-test: nothing has happened"
    );
}

const OWN_RULE: &str = "\
title: Bucket deleted
id: 11111111-1111-4111-8111-111111111111
logsource: {product: aws, service: cloudtrail}
detection:
  selection: {eventSource: s3.amazonaws.com, eventName: GetObject}
  condition: selection
level: high
";

#[test]
fn user_rules_are_read_from_s3_and_a_broken_one_is_counted() {
    let aws = Aws::new("own-rules");
    let key = log_key("Abcdefgh12345678");
    aws.put(
        &key,
        gzip_log(&[noise(1), record("CloseAccount", "event-1")]),
    );
    aws.put("rules/own.yml", OWN_RULE.into());
    aws.put("rules/broken.yml", OWN_RULE.replace("high", "hgih").into());
    aws.put("rules/readme.txt", b"no rule".to_vec());
    let uri = format!("s3://{}/rules/", aws.bucket);
    let sources = "billing-family,s3.amazonaws.com";
    let function = Function::start(&aws, &[("RULES_URI", &uri), ("EVENT_SOURCES", sources)]);
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(
        (&report["Published"], &report["RulesRejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(aws.alerts().len(), 2);
    let log = function.stop();
    let logged = |text: &str| log.iter().any(|line| line.to_string().contains(text));
    assert!(
        logged("rules/broken.yml:7: invalid level: 'hgih'"),
        "{log:?}"
    );
    assert!(
        logged("rule 11111111-1111-4111-8111-111111111111 `Bucket deleted`"),
        "{log:?}"
    );
}

#[test]
fn unreadable_rules_fail_each_invocation_until_they_can_be_read() {
    let aws = Aws::new("unreachable-rules");
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[record("CloseAccount", "event-1")]));
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules");
    let function = Function::start(&aws, &[("RULES_URI", rules.to_str().unwrap())]);
    let error = function.invoke(&s3_event_in(&aws.bucket, &[&key])).error();
    assert_eq!(error["errorType"], "RulesUnavailable");
    assert!(
        error["errorMessage"]
            .as_str()
            .unwrap()
            .contains("correct RULES_URI"),
        "{error}"
    );
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("own.yml"), OWN_RULE).unwrap();
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(report["Published"], 1);
}

#[test]
fn an_invalid_environment_stops_the_start_and_names_every_problem() {
    let aws = Aws::new("wrong-environment");
    let output = command(&aws)
        .env("ALERT_TOPIC_ARN", "topic")
        .env("MINIMUM_LEVEL", "urgent")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains("ALERT_TOPIC_ARN") && error.contains("MINIMUM_LEVEL"),
        "{error}"
    );
}

#[test]
fn the_removal_of_a_log_file_logs_a_warning() {
    let aws = Aws::new("removal");
    let mut event = s3_event_in(&aws.bucket, &[&log_key("Abcdefgh12345678")]);
    event["Records"][0]["eventName"] = json!("ObjectRemoved:Delete");
    let function = Function::start(&aws, &[]);
    assert_eq!(function.invoke(&event).response()["Skipped"], 1);
    let lines = function.stop();
    assert!(lines.iter().any(|line| line["level"] == "WARN"
        && line["message"] == "a log file was removed"
        && line["event"] == "ObjectRemoved:Delete"));
}

#[test]
fn a_deadline_in_the_past_is_ignored() {
    let aws = Aws::new("past-deadline");
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[record("CloseAccount", "e")]));
    let function = Function::start_within(&aws, &[], std::time::Duration::ZERO);
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(
        (&report["Scanned"], &report["Messages"]),
        (&json!(1), &json!(1))
    );
}
