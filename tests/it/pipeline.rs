//! From an envelope to alerts, report and reply, over stores in memory.

use std::collections::BTreeSet;

use billing_watch::{
    cloudtrail::Sources,
    envelope::ErrorType,
    pipeline::{SinkError, Subscribers},
    rules::{Level, RuleFile, RulePack},
};
use serde_json::{Value, json};

use crate::{
    rules::billing_events,
    support::{
        BUCKET, Bench, finance_role, gzip, gzip_log, log_file, log_key, noise, record, record_with,
        run_envelope, s3_event,
    },
};

fn required() -> Vec<(String, Level)> {
    billing_events()
        .into_iter()
        .filter(|event| event["required"] == "yes")
        .map(|event| (event["event_name"].clone(), event["level"].parse().unwrap()))
        .collect()
}

/// All required events among noise, each by an actor of its own so that each is an alert.
fn required_file() -> Vec<u8> {
    let mut records = Vec::new();
    for (number, (name, _)) in required().iter().enumerate() {
        records.push(noise(number));
        let user = json!({"type": "IAMUser", "userName": name, "arn": format!("arn:aws:iam::111122223333:user/{name}")});
        records.push(record_with(
            name,
            &format!("event-{number}"),
            json!({"userIdentity": user}),
        ));
    }
    gzip_log(&records)
}

fn subjects_of(minimum: Level) -> BTreeSet<String> {
    let key = log_key("Abcdefgh12345678");
    let mut bench = Bench::new().with_object(&key, required_file());
    bench.settings.minimum_level = minimum;
    let ran = bench.run(&[&key]);
    assert_eq!(ran.report.findings, 32);
    ran.alerts.into_iter().map(|alert| alert.subject).collect()
}

#[test]
fn of_the_required_events_those_of_the_minimum_level_alert_each_at_its_level() {
    let required = required();
    assert_eq!(required.len(), 32);
    for minimum in Level::ALL {
        let expected: BTreeSet<String> = required
            .iter()
            .filter(|(_, level)| *level >= minimum)
            .map(|(name, level)| {
                let level = level.as_str().to_uppercase();
                let subject = format!("[{level}] {name} in 111122223333 by user {name}");
                if subject.len() > 99 {
                    format!("{}...", &subject[..96])
                } else {
                    subject
                }
            })
            .collect();
        assert_eq!(subjects_of(minimum), expected);
    }
    assert_eq!(subjects_of(Level::Informational).len(), 32);
}

#[test]
fn successors_alert_only_where_their_source_is_watched_and_are_counted_otherwise() {
    let key = log_key("Abcdefgh12345678");
    let mut successor = record("Instruments_Create", "e");
    successor["eventSource"] = json!("payments.amazonaws.com");
    let file = gzip_log(&[successor]);
    let ran = Bench::new().with_object(&key, file.clone()).run(&[&key]);
    assert_eq!((ran.report.unwatched, ran.alerts.len()), (1, 0));
    let mut bench = Bench::new().with_object(&key, file);
    bench.settings.watched = Sources::only(["payments.amazonaws.com"]);
    assert_eq!(bench.run(&[&key]).alerts.len(), 1);
}

#[test]
fn with_the_billing_family_every_known_action_alerts_wherever_aws_records_it() {
    let key = log_key("Abcdefgh12345678");
    let events = billing_events();
    let records: Vec<Value> = events
        .iter()
        .enumerate()
        .map(|(number, event)| {
            let mut record = record(&event["event_name"], &format!("event-{number}"));
            record["eventSource"] = json!(event["event_source"]);
            record
        })
        .collect();
    let mut bench = Bench::new().with_object(&key, gzip_log(&records));
    bench.settings.minimum_level = Level::Informational;
    bench.settings.watched = RulePack::load(&[]).unwrap().pack.sources();
    let ran = bench.run(&[&key]);
    assert_eq!((ran.report.findings, ran.report.published), (172, 172));
    let default = Bench::new()
        .with_object(&key, gzip_log(&records))
        .run(&[&key])
        .report;
    let alerting: Vec<_> = events
        .iter()
        .filter(|event| event["level"].parse::<Level>().unwrap() >= Level::Medium)
        .collect();
    let watched = alerting
        .iter()
        .filter(|event| event["event_source"] == "billingconsole.amazonaws.com")
        .count();
    assert_eq!(default.published, watched as u64);
    assert_eq!(default.unwatched, (alerting.len() - watched) as u64);
}

#[test]
fn records_without_an_id_come_in_the_same_order_every_time() {
    let key = log_key("Abcdefgh12345678");
    let mut records: Vec<Value> = (0..20)
        .map(|number| {
            let mut record = record("CloseAccount", "");
            record["sourceIPAddress"] = json!(format!("203.0.113.{number}"));
            record
        })
        .collect();
    let forwards = Bench::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    records.reverse();
    let backwards = Bench::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    assert_eq!(forwards.report.published, 20);
    assert_eq!(forwards.alerts, backwards.alerts);
}

#[test]
fn hits_before_a_senseless_end_are_not_called_skipped() {
    let text = format!(
        r#"{{"Records":[{}],"Records":null}}"#,
        record("CloseAccount", "e")
    );
    let ran = Bench::new()
        .with_object("x.json", text.into_bytes())
        .run(&["x.json"]);
    assert_eq!((ran.report.failed, ran.report.published), (1, 1));
}

#[test]
fn findings_of_one_actor_are_one_alert_and_nothing_is_left_out() {
    let key = log_key("Abcdefgh12345678");
    let role = json!({"userIdentity": finance_role()});
    let names = ["SetPayInformation", "SetContactAddress", "SetRISharing"];
    let mut records: Vec<Value> = names
        .iter()
        .map(|name| record(name, &format!("root-{name}")))
        .collect();
    records.push(record_with("SetTaxRegistration", "role-1", role.clone()));
    records.push(record_with("CloseAccount", "role-2", role));
    let forwards = Bench::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    assert_eq!(forwards.alerts.len(), 2);
    let text: String = forwards
        .alerts
        .iter()
        .map(|alert| alert.text.as_str())
        .collect();
    for id in [
        "root-SetPayInformation",
        "root-SetContactAddress",
        "root-SetRISharing",
        "role-1",
        "role-2",
    ] {
        assert!(text.contains(id), "{id}");
    }
    records.reverse();
    let backwards = Bench::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    assert_eq!(forwards.alerts, backwards.alerts, "order means nothing");
    assert_eq!(forwards.report, backwards.report);
}

#[test]
fn three_thousand_findings_arrive_in_parts_each_exactly_once() {
    let key = log_key("Abcdefgh12345678");
    let padding = "x".repeat(1500);
    let records: Vec<Value> = (0..3000)
        .map(|number| {
            record_with(
                "SetContactAddress",
                &format!("id-{number:04}-end"),
                json!({"requestParameters": {"city": padding}}),
            )
        })
        .collect();
    let ran = Bench::new()
        .with_object(&key, gzip_log(&records))
        .run(&[&key]);
    assert_eq!(ran.report.published, 3000);
    assert!(ran.alerts.len() > 2, "{}", ran.alerts.len());
    let mut subjects = BTreeSet::new();
    let mut listed = Vec::new();
    for (index, alert) in ran.alerts.iter().enumerate() {
        assert!(alert.text.len() < 262_144);
        assert!(
            alert.subject.ends_with(&format!("(part {})", index + 1)),
            "{}",
            alert.subject
        );
        subjects.insert(alert.subject.clone());
        listed.extend(
            alert
                .text
                .lines()
                .filter(|line| line.contains("MEDIUM  SetContactAddress succeeded"))
                .map(|line| line.rsplit("  ").next().unwrap().to_owned()),
        );
    }
    assert_eq!(subjects.len(), ran.alerts.len());
    assert_eq!(listed.len(), 3000);
    let expected: BTreeSet<String> = (0..3000)
        .map(|number| format!("id-{number:04}-end"))
        .collect();
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn a_control_tower_bucket_is_read_only_where_it_holds_log_files() {
    let log = log_key("Abcdefgh12345678");
    let account = "AWSLogs/o-exampleorg1/111122223333";
    let others = [
        format!(
            "{account}/CloudTrail-Digest/us-east-1/2026/03/02/111122223333_CloudTrail-Digest_us-east-1_x.json.gz"
        ),
        format!("{account}/CloudTrail-Insight/us-east-1/2026/03/02/x.json.gz"),
        format!("{account}/CloudTrail-Aggregated/us-east-1/2026/03/02/x.json.gz"),
        format!("{account}/CloudTrail-NetworkActivity/us-east-1/2026/03/02/x.json.gz"),
        format!("{account}/Config/us-east-1/2026/3/2/ConfigSnapshot/x.json.gz"),
        format!("{account}/Config/ConfigWritabilityCheckFile"),
        format!("{account}/vpcflowlogs/us-east-1/2026/03/02/x.log.gz"),
        format!("{account}/elasticloadbalancing/us-east-1/2026/03/02/x.log.gz"),
        format!("{account}/CloudTrail/"),
        format!("{account}/CloudTrail/us-east-1/2026/03/02/readme.txt"),
        "AWSLogs/111122223333/elasticloadbalancing/us-east-1/2026/03/02/x.log.gz".to_owned(),
        "access-logs/2026-03-02-00-00-00-ABCDEF".to_owned(),
    ];
    let mut bench = Bench::new().with_object(&log, gzip_log(&[record("CloseAccount", "e")]));
    let mut keys: Vec<&str> = others.iter().map(String::as_str).collect();
    keys.push(&log);
    let payload = s3_event(&keys);
    let pipeline = bench.pipeline();
    let (report, reply) = run_envelope(&pipeline, &payload);
    assert_eq!(reply.unwrap()["Skipped"], 12);
    assert_eq!((report.scanned, report.skipped, report.failed), (1, 12, 0));
    insta::assert_debug_snapshot!(report.skipped_because, @r#"
    {
        "aggregated": 1,
        "another service's log": 5,
        "digest": 1,
        "insight": 1,
        "marker": 1,
        "network activity": 1,
        "not named like a log file": 2,
    }
    "#);
}

#[test]
fn a_key_of_no_known_shape_is_read_and_skipped_if_it_holds_no_records() {
    let bench = Bench::new()
        .with_object("copy.json.gz", gzip_log(&[record("CloseAccount", "e")]))
        .with_object("other.json", b"{\"a\": 1}".to_vec())
        .with_object("flow.log.gz", gzip(b"2 111122223333 eni-1 10.0.0.1"))
        .with_object("empty.json", Vec::new())
        .with_object("cut.json", b"{\"Records\":[{".to_vec());
    let ran = bench.run(&[
        "copy.json.gz",
        "other.json",
        "flow.log.gz",
        "empty.json",
        "cut.json",
    ]);
    assert_eq!(
        (ran.report.scanned, ran.report.skipped, ran.report.failed),
        (1, 3, 1)
    );
    assert_eq!(ran.alerts.len(), 1);
    assert_eq!(ran.reply.unwrap_err().error_type, ErrorType::ObjectCorrupt);
}

#[test]
fn a_broken_object_fails_the_invocation_by_name_and_the_good_one_alerts() {
    let (good, broken) = (log_key("Good"), log_key("Broken"));
    let mut cut = gzip_log(&[record("SetPayInformation", "x")]);
    cut.truncate(cut.len() - 3);
    let bench = Bench::new()
        .with_object(&good, gzip_log(&[record("CloseAccount", "e")]))
        .with_object(&broken, cut);
    let ran = bench.run(&[&broken, &good, "missing.json.gz"]);
    let error = ran.reply.unwrap_err();
    assert!(
        error.message.contains(&broken) && error.message.contains("missing.json.gz"),
        "{error}"
    );
    assert!(!error.message.contains(&good));
    assert_eq!(error.error_type, ErrorType::SeveralFailures);
    assert_eq!(
        ran.alerts.len(),
        2,
        "what was read of the broken one alerts as well"
    );
}

#[test]
fn a_record_alerts_once_however_often_it_comes() {
    let (first, second) = (log_key("First"), log_key("Second"));
    let records = [record("CloseAccount", "e"), record("CloseAccount", "e")];
    let mut bench = Bench::new()
        .with_object(&first, gzip_log(&records))
        .with_object(&second, gzip_log(&records));
    let payload = s3_event(&[&first, &second, &first]);
    let pipeline = bench.pipeline();
    let (report, _) = run_envelope(&pipeline, &payload);
    assert_eq!(
        (report.objects, report.published, report.duplicate),
        (2, 1, 3)
    );
    let (report, _) = run_envelope(&pipeline, &payload);
    assert_eq!((report.published, report.duplicate), (0, 4));
    drop(pipeline);
    assert_eq!(bench.sink.alerts.borrow().len(), 1);
}

#[test]
fn a_refused_alert_fails_the_object_and_the_retry_sends_it() {
    let key = log_key("Abcdefgh12345678");
    let mut bench = Bench::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    *bench.sink.refusals.borrow_mut() = 1;
    let payload = s3_event(&[&key]);
    let pipeline = bench.pipeline();
    let (report, reply) = run_envelope(&pipeline, &payload);
    assert_eq!((report.failed, report.failed_findings), (1, 1));
    assert_eq!(reply.unwrap_err().error_type, ErrorType::AlertRefused);
    let (report, reply) = run_envelope(&pipeline, &payload);
    assert_eq!((report.scanned, report.published), (1, 1));
    assert!(reply.is_ok());
}

fn batch(keys: &[&str]) -> Value {
    let tasks: Vec<Value> = keys
        .iter()
        .map(|key| json!({"taskId": key, "s3Key": key, "s3Bucket": BUCKET}))
        .collect();
    json!({"invocationSchemaVersion": "2.0", "invocationId": "i", "job": {"id": "j"}, "tasks": tasks})
}

#[test]
fn batch_tasks_tell_their_findings_and_alert_only_if_asked_to() {
    let body = gzip_log(&[
        record("CloseAccount", "e"),
        record("SetPayInformation", "f"),
    ]);
    for (batch_alerts, alerts) in [(false, 0), (true, 1)] {
        let mut bench = Bench::new()
            .with_object("a.json.gz", body.clone())
            .with_object("b.json.gz", gzip_log(&[noise(1)]));
        bench.settings.batch_alerts = batch_alerts;
        let pipeline = bench.pipeline();
        let (report, reply) =
            run_envelope(&pipeline, &batch(&["a.json.gz", "b.json.gz", "c.json.gz"]));
        drop(pipeline);
        let results = reply.unwrap()["results"].clone();
        assert_eq!(
            results[0]["resultString"],
            "2 findings: critical CloseAccount succeeded e, high SetPayInformation succeeded f"
        );
        assert_eq!(results[0]["resultCode"], "Succeeded");
        assert_eq!(results[1]["resultString"], "no findings");
        assert_eq!(results[2]["resultCode"], "PermanentFailure");
        assert_eq!(report.told_only, if batch_alerts { 0 } else { 2 });
        assert_eq!(bench.sink.alerts.borrow().len(), alerts);
    }
}

/// A filter that takes out the bundled rule on closed accounts.
fn closures_filter() -> RuleFile {
    let id = include_str!("../../rules/account-closed.yml")
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap();
    RuleFile {
        name: "f.yml".to_owned(),
        text: format!(
            "title: t\nid: 22222222-2222-4222-8222-222222222222\ndescription: d\n\
             logsource: {{product: aws, service: cloudtrail}}\n\
             filter:\n  rules: [{id}]\n  selection:\n    recipientAccountId: '111122223333'\n  \
             condition: not selection\n"
        ),
    }
}

#[test]
fn a_filter_suppresses_and_is_counted_by_its_id() {
    let key = log_key("Abcdefgh12345678");
    let mut bench = Bench::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    bench.rules.push(closures_filter());
    let ran = bench.run(&[&key]);
    assert_eq!((ran.report.suppressed, ran.alerts.len()), (1, 0));
    assert_eq!(
        ran.report.suppressed_by["22222222-2222-4222-8222-222222222222"],
        1
    );
}

#[test]
fn a_removed_log_file_is_skipped_and_a_test_event_is_nothing() {
    let mut payload = s3_event(&[&log_key("Abcdefgh12345678")]);
    payload["Records"][0]["eventName"] = json!("ObjectRemoved:DeleteMarkerCreated");
    let mut bench = Bench::new();
    let pipeline = bench.pipeline();
    let (report, _) = run_envelope(&pipeline, &payload);
    assert_eq!(report.skipped_because["removed"], 1);
    let (report, reply) = run_envelope(
        &pipeline,
        &json!({"Service": "Amazon S3", "Event": "s3:TestEvent"}),
    );
    assert_eq!((report.objects, reply.is_ok()), (0, true));
}

#[test]
fn a_self_test_sends_one_marked_alert() {
    let mut bench = Bench::new();
    let (report, reply) = run_envelope(&bench.pipeline(), &json!({"action": "self-test"}));
    assert!(reply.is_ok());
    assert_eq!(report.alerts, 1);
    let alerts = bench.sink.alerts.borrow();
    assert_eq!(
        alerts[0].subject,
        "[TEST] billing-watch self-test: nothing has happened"
    );
}

#[test]
fn a_self_test_that_nobody_hears_fails_and_says_so() {
    let fails = |subscribers| {
        let mut bench = Bench::new();
        bench.sink.subscribers = subscribers;
        let (report, reply) = run_envelope(&bench.pipeline(), &json!({"action": "self-test"}));
        assert_eq!(report.alerts, 1);
        reply.unwrap_err()
    };
    let error = fails(Ok(Subscribers {
        confirmed: 0,
        pending: 2,
    }));
    assert_eq!(error.error_type, ErrorType::AlertUnheard);
    insta::assert_snapshot!(error, @"nobody hears alerts: the topic in ALERT_TOPIC_ARN has no confirmed subscription (2 wait to be confirmed); subscribe somebody, or follow the link in the mail that asks to confirm");
    for (retryable, error_type) in [
        (false, ErrorType::AlertRefused),
        (true, ErrorType::AlertNotSent),
    ] {
        let error = fails(Err(SinkError {
            message: "AuthorizationError: no".to_owned(),
            retryable,
        }));
        assert_eq!(error.error_type, error_type);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error, @"the self-test's alert was accepted, but SNS did not tell who hears it: AuthorizationError: no");
        }
    }
}

#[test]
fn the_metrics_line_has_the_reports_own_names() {
    let key = log_key("Abcdefgh12345678");
    let ran = Bench::new()
        .with_object(&key, gzip_log(&[record("CloseAccount", "e")]))
        .run(&[&key]);
    let line = billing_watch::metrics::emf_line(&ran.report, "watch", true, crate::support::now());
    assert!(!line.contains('\n'));
    let line: Value = serde_json::from_str(&line).unwrap();
    let report = json!(ran.report);
    let definitions = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(definitions["Dimensions"], json!([["FunctionName"]]));
    for metric in definitions["Metrics"].as_array().unwrap() {
        let name = metric["Name"].as_str().unwrap();
        assert!(!line[name].is_null(), "{name}");
        if !["AlertDelay", "HandlingDelay", "ColdStart"].contains(&name) {
            assert_eq!(line[name], report[name], "{name}");
        }
    }
    assert_eq!(line["AlertDelay"], json!([420.0]));
    assert_eq!(line["HandlingDelay"], json!([5.877]));
    assert_eq!(
        (&line["FunctionName"], &line["ColdStart"]),
        (&json!("watch"), &json!(1))
    );
}

#[test]
fn what_was_fetched_and_what_was_not_understood_is_counted() {
    let key = log_key("Abcdefgh12345678");
    let body = gzip_log(&[record("CloseAccount", "e")]);
    let bytes = body.len() as u64;
    let mut bench = Bench::new().with_object(&key, body);
    let message = |id: &str, body: String| json!({"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:999988887777:q", "messageId": id, "body": body});
    let payload = json!({"Records": [
        message("good", s3_event(&[&key]).to_string()),
        message("odd", "{\"a\": 1}".to_owned()),
        message("odder", "[]".to_owned()),
    ]});
    let (report, reply) = run_envelope(&bench.pipeline(), &payload);
    assert_eq!((report.fetched_bytes, report.envelope_problems), (bytes, 2));
    assert_eq!(
        reply.unwrap()["batchItemFailures"],
        json!([{"itemIdentifier": "odd"}, {"itemIdentifier": "odder"}])
    );
}

#[test]
fn a_file_over_the_cap_is_told_from_a_broken_one() {
    let key = log_key("Abcdefgh12345678");
    let mut bench = Bench::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    bench.settings.limits.expanded_bytes = 100;
    let error = bench.run(&[&key]).reply.unwrap_err();
    assert_eq!(error.error_type, ErrorType::ObjectTooLarge);
}

#[test]
fn of_two_copies_of_a_record_the_graver_one_alerts() {
    let key = log_key("Abcdefgh12345678");
    let grave = record("CloseAccount", "same-id");
    let light = record("SetContactAddress", "same-id");
    for records in [[grave.clone(), light.clone()], [light, grave]] {
        let ran = Bench::new()
            .with_object(&key, gzip_log(&records))
            .run(&[&key]);
        assert_eq!((ran.report.published, ran.report.duplicate), (1, 1));
        assert!(ran.alerts[0].subject.starts_with("[CRITICAL]"));
    }
}

#[test]
fn what_a_filter_leaves_alerts_if_its_level_suffices() {
    let key = log_key("Abcdefgh12345678");
    let rule = |level: &str| RuleFile {
        name: "rule.yml".to_owned(),
        text: format!(
            "title: Closed too\nid: 33333333-3333-4333-8333-333333333333\ndescription: d\n\
             logsource: {{product: aws, service: cloudtrail}}\n\
             detection:\n  selection:\n    eventSource: billingconsole.amazonaws.com\n    \
             eventName: CloseAccount\n  condition: selection\nlevel: {level}\n"
        ),
    };
    for (level, minimum, suppressed) in [
        ("low", Level::Medium, 1),
        ("medium", Level::Medium, 0),
        ("high", Level::Medium, 0),
    ] {
        let mut bench = Bench::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
        bench.settings.minimum_level = minimum;
        bench.rules = vec![rule(level), closures_filter()];
        let ran = bench.run(&[&key]);
        assert_eq!(ran.report.suppressed, suppressed, "{level}");
        assert_eq!(ran.alerts.len() as u64, 1 - suppressed, "{level}");
    }
    // A filter that concerns another rule leaves all as it is.
    let mut bench = Bench::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    bench.rules = vec![rule("low")];
    assert_eq!(bench.run(&[&key]).alerts.len(), 1);
}

#[test]
fn the_completion_report_names_the_twenty_gravest_of_a_tasks_findings() {
    let mut records: Vec<Value> = (0..25)
        .map(|number| record("SetContactAddress", &format!("e{number:02}")))
        .collect();
    records.push(record("CloseAccount", "gravest"));
    let mut bench = Bench::new().with_object("a.json.gz", gzip_log(&records));
    let (_, reply) = run_envelope(&bench.pipeline(), &batch(&["a.json.gz"]));
    let reply = reply.unwrap();
    let told = reply["results"][0]["resultString"].as_str().unwrap();
    assert!(
        told.starts_with("26 findings: critical CloseAccount succeeded gravest, medium"),
        "{told}"
    );
    assert!(told.ends_with("succeeded e18, …"), "{told}");
    assert_eq!(told.matches("succeeded").count(), 20);
}
