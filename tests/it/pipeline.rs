//! From an envelope to alerts, report and reply, over stores in memory.

use std::collections::BTreeSet;

use billing_watch::{
    alert::Audience,
    cloudtrail::Sources,
    envelope::{Envelope, ErrorType},
    pipeline::Subscriptions,
    rules::{Level, OptionalRules, PackIdentity, RuleFile, RulePack},
};
use serde_json::{Value, json};

use crate::{
    rules::{billing_events, record_of},
    support::{
        BUCKET, Harness, block_on, finance_role, gzip, gzip_log, invocation, log_file, log_key,
        noise, record, record_with, run_envelope, s3_event, topic,
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
    let mut harness = Harness::new().with_object(&key, required_file());
    harness.settings.topics[0].minimum_level = minimum;
    let run = harness.run(&[&key]);
    assert_eq!(run.report.findings, 32);
    run.alerts.into_iter().map(|alert| alert.subject).collect()
}

#[test]
fn required_events_alert_from_the_minimum_level_on() {
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
fn an_event_of_an_unwatched_successor_source_is_counted_only() {
    let key = log_key("Abcdefgh12345678");
    let mut successor = record("Instruments_Create", "e");
    successor["eventSource"] = json!("payments.amazonaws.com");
    let file = gzip_log(&[successor]);
    let run = Harness::new().with_object(&key, file.clone()).run(&[&key]);
    assert_eq!((run.report.unwatched, run.alerts.len()), (1, 0));
    let mut harness = Harness::new().with_object(&key, file);
    harness.settings.watched = Sources::only(["payments.amazonaws.com"]);
    assert_eq!(harness.run(&[&key]).alerts.len(), 1);
}

#[test]
fn the_billing_family_alerts_on_every_known_action_of_every_source() {
    let key = log_key("Abcdefgh12345678");
    let events = billing_events();
    let records: Vec<Value> = events
        .iter()
        .enumerate()
        .map(|(number, event)| {
            let mut record = record(&event["event_name"], &format!("event-{number}"));
            let own = record_of(event);
            for (name, value) in own.as_object().unwrap() {
                record[name] = value.clone();
            }
            record
        })
        .collect();
    let mut harness = Harness::new().with_object(&key, gzip_log(&records));
    harness.settings.topics[0].minimum_level = Level::Informational;
    let bundled = RulePack::bundled(&OptionalRules::default());
    harness.settings.watched = Sources::only(bundled.sources());
    let run = harness.run(&[&key]);
    assert_eq!((run.report.findings, run.report.published), (272, 272));
    let default = Harness::new()
        .with_object(&key, gzip_log(&records))
        .run(&[&key])
        .report;
    let alerting: Vec<_> = events
        .iter()
        .filter(|event| event["level"].parse::<Level>().unwrap() >= Level::Medium)
        // The others are events of optional rules.
        .filter(|event| bundled.sources().contains(&event["event_source"]))
        .collect();
    let watched = alerting
        .iter()
        .filter(|event| event["event_source"] == "billingconsole.amazonaws.com")
        .count();
    assert_eq!(default.published, watched as u64);
    assert_eq!(default.unwatched, (alerting.len() - watched) as u64);
}

#[test]
fn records_without_an_id_are_listed_in_a_fixed_order() {
    let key = log_key("Abcdefgh12345678");
    let mut records: Vec<Value> = (0..20)
        .map(|number| {
            let mut record = record("CloseAccount", "");
            record["sourceIPAddress"] = json!(format!("203.0.113.{number}"));
            record
        })
        .collect();
    let forwards = Harness::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    records.reverse();
    let backwards = Harness::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    assert_eq!(forwards.report.published, 20);
    assert_eq!(forwards.alerts, backwards.alerts);
}

#[test]
fn a_file_with_records_and_an_invalid_end_fails_and_is_not_skipped() {
    let text = format!(
        r#"{{"Records":[{}],"Records":null}}"#,
        record("CloseAccount", "e")
    );
    let run = Harness::new()
        .with_object("x.json", text.into_bytes())
        .run(&["x.json"]);
    assert_eq!((run.report.failed, run.report.published), (1, 1));
}

#[test]
fn findings_of_one_actor_are_one_alert_that_lists_all_of_them() {
    let key = log_key("Abcdefgh12345678");
    let role = json!({"userIdentity": finance_role()});
    let names = ["SetPayInformation", "SetContactAddress", "SetRISharing"];
    let mut records: Vec<Value> = names
        .iter()
        .map(|name| record(name, &format!("root-{name}")))
        .collect();
    records.push(record_with("SetTaxRegistration", "role-1", role.clone()));
    records.push(record_with("CloseAccount", "role-2", role));
    let forwards = Harness::new()
        .with_object(&key, log_file(&records))
        .run(&[&key]);
    assert_eq!(forwards.alerts.len(), 2);
    let text: String = forwards
        .alerts
        .iter()
        .map(|alert| alert.body.as_str())
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
    let backwards = Harness::new()
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
    let run = Harness::new()
        .with_object(&key, gzip_log(&records))
        .run(&[&key]);
    assert_eq!(run.report.published, 3000);
    assert!(run.alerts.len() > 2, "{}", run.alerts.len());
    let mut subjects = BTreeSet::new();
    let mut listed = Vec::new();
    for (index, alert) in run.alerts.iter().enumerate() {
        assert!(alert.body.len() < 262_144);
        assert!(
            alert.subject.ends_with(&format!("(part {})", index + 1)),
            "{}",
            alert.subject
        );
        subjects.insert(alert.subject.clone());
        listed.extend(
            alert
                .body
                .lines()
                .filter_map(|line| Some(line.split_once(" UTC, ")?.1.to_owned())),
        );
    }
    assert_eq!(subjects.len(), run.alerts.len());
    assert_eq!(listed.len(), 3000);
    let expected: BTreeSet<String> = (0..3000)
        .map(|number| format!("id-{number:04}-end"))
        .collect();
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn only_log_files_of_a_control_tower_bucket_are_read() {
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
    let mut harness = Harness::new().with_object(&log, gzip_log(&[record("CloseAccount", "e")]));
    let mut keys: Vec<&str> = others.iter().map(String::as_str).collect();
    keys.push(&log);
    let payload = s3_event(&keys);
    let pipeline = harness.pipeline();
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
fn an_object_with_an_unknown_key_is_read_and_skipped_without_records() {
    let harness = Harness::new()
        .with_object("copy.json.gz", gzip_log(&[record("CloseAccount", "e")]))
        .with_object("other.json", b"{\"a\": 1}".to_vec())
        .with_object("flow.log.gz", gzip(b"2 111122223333 eni-1 10.0.0.1"))
        .with_object("empty.json", Vec::new())
        .with_object("cut.json", b"{\"Records\":[{".to_vec());
    let run = harness.run(&[
        "copy.json.gz",
        "other.json",
        "flow.log.gz",
        "empty.json",
        "cut.json",
    ]);
    assert_eq!(
        (run.report.scanned, run.report.skipped, run.report.failed),
        (1, 3, 1)
    );
    assert_eq!(run.alerts.len(), 1);
    assert_eq!(run.reply.unwrap_err().error_type, ErrorType::ObjectCorrupt);
}

#[test]
fn a_broken_object_fails_the_invocation_and_the_good_one_alerts() {
    let (good, broken) = (log_key("Good"), log_key("Broken"));
    let mut cut = gzip_log(&[record("SetPayInformation", "x")]);
    cut.truncate(cut.len() - 3);
    let harness = Harness::new()
        .with_object(&good, gzip_log(&[record("CloseAccount", "e")]))
        .with_object(&broken, cut);
    let run = harness.run(&[&broken, &good, "missing.json.gz"]);
    let error = run.reply.unwrap_err();
    assert!(
        error.message.contains(&broken) && error.message.contains("missing.json.gz"),
        "{error}"
    );
    assert!(!error.message.contains(&good));
    assert_eq!(error.error_type, ErrorType::SeveralFailures);
    assert_eq!(
        run.alerts.len(),
        2,
        "what was read of the broken one alerts as well"
    );
}

#[test]
fn a_record_alerts_once_however_often_it_is_delivered() {
    let (first, second) = (log_key("First"), log_key("Second"));
    let records = [record("CloseAccount", "e"), record("CloseAccount", "e")];
    let mut harness = Harness::new()
        .with_object(&first, gzip_log(&records))
        .with_object(&second, gzip_log(&records));
    let payload = s3_event(&[&first, &second, &first]);
    let pipeline = harness.pipeline();
    let (report, _) = run_envelope(&pipeline, &payload);
    assert_eq!(
        (report.objects, report.published, report.duplicate),
        (2, 1, 3)
    );
    let (report, _) = run_envelope(&pipeline, &payload);
    assert_eq!((report.published, report.duplicate), (0, 4));
    drop(pipeline);
    assert_eq!(harness.sink.alerts.borrow().len(), 1);
}

#[test]
fn a_refused_alert_fails_the_object_and_the_retry_sends_it() {
    let key = log_key("Abcdefgh12345678");
    let mut harness = Harness::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    *harness.sink.refusals.borrow_mut() = 1;
    let payload = s3_event(&[&key]);
    let pipeline = harness.pipeline();
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
fn findings_of_batch_tasks_stand_in_the_result_and_alert_only_on_request() {
    let body = gzip_log(&[
        record("CloseAccount", "e"),
        record("SetPayInformation", "f"),
    ]);
    for (batch_alerts, alerts) in [(false, 0), (true, 1)] {
        let mut harness = Harness::new()
            .with_object("a.json.gz", body.clone())
            .with_object("b.json.gz", gzip_log(&[noise(1)]));
        harness.settings.batch_alerts = batch_alerts;
        let pipeline = harness.pipeline();
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
        assert_eq!(report.result_only, if batch_alerts { 0 } else { 2 });
        assert_eq!(harness.sink.alerts.borrow().len(), alerts);
    }
}

#[test]
fn a_job_says_by_its_arguments_whether_its_findings_alert() {
    for (mode, configured, alerts) in [("report", true, 0), ("alert", false, 1)] {
        let mut harness =
            Harness::new().with_object("a.json.gz", gzip_log(&[record("CloseAccount", "e")]));
        harness.settings.batch_alerts = configured;
        let mut payload = batch(&["a.json.gz"]);
        payload["job"]["userArguments"] = json!({"mode": mode});
        let pipeline = harness.pipeline();
        let (_, reply) = run_envelope(&pipeline, &payload);
        drop(pipeline);
        let result = &reply.unwrap()["results"][0];
        assert_eq!(
            result["resultString"],
            "1 finding: critical CloseAccount succeeded e"
        );
        assert_eq!(harness.sink.alerts.borrow().len(), alerts, "{mode}");
    }
    let mut payload = batch(&["a.json.gz"]);
    payload["job"]["userArguments"] = json!({"mode": "page"});
    let error = Envelope::parse(&payload).unwrap_err().to_string();
    assert!(
        error.contains("page") && error.contains("report and alert"),
        "{error}"
    );
}

#[test]
fn alerts_of_a_backfill_are_marked_and_come_one_a_second() {
    let by = |user: &str| {
        let mut record = record("CloseAccount", user);
        record["userIdentity"] =
            json!({"type": "IAMUser", "userName": user, "accountId": "111122223333"});
        record
    };
    let records: Vec<Value> = ["ann", "ben", "cid", "dot"].map(by).into();
    let mut harness = Harness::new().with_object("a.json.gz", gzip_log(&records));
    harness.settings.topics = vec![
        topic(Audience::People, Level::Medium),
        topic(Audience::Chat, Level::Medium),
        topic(Audience::Machines, Level::Medium),
    ];
    let mut payload = batch(&["a.json.gz"]);
    payload["job"]["userArguments"] = json!({"mode": "alert"});
    let envelope = Envelope::parse(&payload).unwrap();
    let pipeline = harness.pipeline();
    let took = block_on(async {
        let began = tokio::time::Instant::now();
        pipeline.handle(&envelope, &invocation()).await;
        began.elapsed()
    });
    drop(pipeline);
    let messages = harness.sink.messages.borrow();
    assert_eq!(messages.len(), 12);
    // Those of people and chat; machines take as many as there are.
    assert!(took >= std::time::Duration::from_secs(8), "{took:?}");
    for (_, message) in &*messages {
        let attributes = &message.attributes;
        assert!(
            attributes
                .iter()
                .any(|attribute| attribute.name == "backfill")
        );
        let mark = [
            "a backfill of old log files has found it",
            "\"backfill\":true",
        ];
        assert!(
            mark.iter().any(|mark| message.body.contains(mark)),
            "{}",
            message.body
        );
    }
    let alerts = harness.sink.alerts.borrow();
    let subject = alerts[0].subject.as_str();
    assert_eq!(
        subject,
        "[CRITICAL, BACKFILL] CloseAccount in 111122223333 by user ann"
    );
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
fn a_filter_suppresses_a_finding_and_is_counted_by_its_id() {
    let key = log_key("Abcdefgh12345678");
    let mut harness = Harness::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    harness.rules.push(closures_filter());
    let run = harness.run(&[&key]);
    assert_eq!((run.report.suppressed, run.alerts.len()), (1, 0));
    assert_eq!(
        run.report.suppressed_by["22222222-2222-4222-8222-222222222222"],
        1
    );
}

#[test]
fn a_removed_log_file_is_skipped_and_an_s3_test_event_is_ignored() {
    let mut payload = s3_event(&[&log_key("Abcdefgh12345678")]);
    payload["Records"][0]["eventName"] = json!("ObjectRemoved:DeleteMarkerCreated");
    let mut harness = Harness::new();
    let pipeline = harness.pipeline();
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
    let mut harness = Harness::new();
    let (report, reply) = run_envelope(&harness.pipeline(), &json!({"action": "self-test"}));
    assert!(reply.is_ok());
    assert_eq!(report.messages, 1);
    let alerts = harness.sink.alerts.borrow();
    assert_eq!(
        alerts[0].subject,
        "[TEST] billing-watch self-test: nothing has happened"
    );
}

#[test]
fn a_self_test_names_the_rules_that_are_in_force() {
    let closed = "d32db5c1-5db7-5dd6-9281-d35b9f12acf5";
    let filter = |id: u8, rule: &str, expires: &str| RuleFile {
        name: format!("{id}.yml"),
        text: format!(
            "title: Planned\nid: 11111111-1111-4111-8111-1111111111{id}\ndescription: Planned.\n\
             logsource: {{product: aws, service: cloudtrail}}\nexpires: {expires}\nfilter:\n  \
             rules: [{rule}]\n  selection: {{sourceIPAddress: 203.0.113.7}}\n  condition: not selection\n"
        ),
    };
    let replacement = RuleFile {
        name: "own.yml".to_owned(),
        text: format!(
            "title: Own\nid: {closed}\nlevel: critical\nlogsource: {{product: aws, service: cloudtrail}}\n\
             detection: {{selection: {{eventSource: a.amazonaws.com}}, condition: selection}}\n"
        ),
    };
    let bundled = PackIdentity {
        version: env!("CARGO_PKG_VERSION"),
        digest: RulePack::bundled(&OptionalRules::default())
            .identity(crate::support::now())
            .digest,
        rules_replaced: 0,
        critical_filters: 0,
    };
    let mut harness = Harness::new();
    let identity = |harness: &mut Harness| {
        let (report, _) = run_envelope(&harness.pipeline(), &json!({"action": "self-test"}));
        report.rules.unwrap()
    };
    assert_eq!(identity(&mut harness), bundled);

    // Of these filters, one has expired and one is on a rule of level medium.
    harness.rules = vec![
        filter(21, closed, "2026-12-31"),
        filter(22, closed, "2026-03-01"),
        filter(23, "bc6d9b22-5f40-56dc-8d77-ebd8fbd7709f", "2026-12-31"),
        replacement,
    ];
    let own = identity(&mut harness);
    assert_eq!((own.rules_replaced, own.critical_filters), (1, 1));
    assert_ne!(own.digest, bundled.digest);
    harness.rules.reverse();
    harness.rules[0].name = "other.yml".to_owned();
    assert_eq!(identity(&mut harness), own);
    let alerts = harness.sink.alerts.borrow();
    insta::assert_snapshot!(alerts[1].body.replace(&own.digest, "DIGEST"), @"
    This is a test of billing-watch, asked for at 2026-03-02 16:51:04 UTC.

    If you can read this, alerts reach you on this subscription. Nothing has
    happened in any account, and there is nothing to do.

    Rules: version 0.1.0, digest DIGEST
    Bundled rules that yours replace: 1
    Filters that suppress a critical rule: 1
    ");
}

#[test]
fn a_self_test_fails_if_nobody_is_subscribed() {
    let fails = |subscriptions| {
        let mut harness = Harness::new();
        harness.sink.subscriptions = subscriptions;
        let (report, reply) = run_envelope(&harness.pipeline(), &json!({"action": "self-test"}));
        assert_eq!(report.messages, 1);
        reply.unwrap_err()
    };
    let error = fails(Ok(Subscriptions {
        confirmed: 0,
        pending: 2,
    }));
    assert_eq!(error.error_type, ErrorType::NoSubscribers);
    insta::assert_snapshot!(error, @"nobody receives alerts: the topic in ALERT_TOPIC_ARN has no confirmed subscription (2 wait to be confirmed); subscribe somebody, or follow the link in the email that asks to confirm");
    let error = fails(Err(false));
    assert_eq!(error.error_type, ErrorType::AlertRefused);
    insta::assert_snapshot!(error, @"SNS accepted the self-test's alert, but did not list the subscriptions of the topic in ALERT_TOPIC_ARN: the request was refused: AuthorizationError: no; allow it");
    let error = fails(Err(true));
    assert_eq!(error.error_type, ErrorType::AlertNotSent);
    insta::assert_snapshot!(error, @"SNS accepted the self-test's alert, but did not list the subscriptions of the topic in ALERT_TOPIC_ARN: the request failed: AuthorizationError: no; allow it");
}

#[test]
fn the_metrics_line_uses_the_names_of_the_report() {
    let key = log_key("Abcdefgh12345678");
    let run = Harness::new()
        .with_object(&key, gzip_log(&[record("CloseAccount", "e")]))
        .run(&[&key]);
    let line = billing_watch::metrics::emf_line(&run.report, "watch", true, crate::support::now());
    assert!(!line.contains('\n'));
    let line: Value = serde_json::from_str(&line).unwrap();
    let report = json!(run.report);
    let definitions = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(definitions["Dimensions"], json!([["FunctionName"]]));
    for metric in definitions["Metrics"].as_array().unwrap() {
        let name = metric["Name"].as_str().unwrap();
        assert!(!line[name].is_null(), "{name}");
        if ["RulesReplaced", "CriticalFilters"].contains(&name) {
            assert_eq!(line[name], report["Rules"][name], "{name}");
        } else if !["LogFileAlertDelay", "HandlingDelay", "ColdStart"].contains(&name) {
            assert_eq!(line[name], report[name], "{name}");
        }
    }
    assert_eq!(line["LogFileAlertDelay"], json!([420.0]));
    assert_eq!(line["NotDirectly"], 1);
    // What has no value where there are no direct events costs nothing.
    assert!(line["DirectEvents"].is_null() && line["CameDirectly"].is_null());
    assert_eq!(line["HandlingDelay"], json!([5.877]));
    assert_eq!(
        (&line["FunctionName"], &line["ColdStart"]),
        (&json!("watch"), &json!(1))
    );
}

#[test]
fn fetched_bytes_and_envelope_problems_are_counted() {
    let key = log_key("Abcdefgh12345678");
    let body = gzip_log(&[record("CloseAccount", "e")]);
    let bytes = body.len() as u64;
    let mut harness = Harness::new().with_object(&key, body);
    let message = |id: &str, body: String| json!({"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:999988887777:q", "messageId": id, "body": body});
    let payload = json!({"Records": [
        message("good", s3_event(&[&key]).to_string()),
        message("odd", "{\"a\": 1}".to_owned()),
        message("odder", "[]".to_owned()),
    ]});
    let (report, reply) = run_envelope(&harness.pipeline(), &payload);
    assert_eq!((report.fetched_bytes, report.envelope_problems), (bytes, 2));
    assert_eq!(
        reply.unwrap()["batchItemFailures"],
        json!([{"itemIdentifier": "odd"}, {"itemIdentifier": "odder"}])
    );
}

#[test]
fn a_file_over_the_cap_and_a_broken_one_fail_under_different_names() {
    let key = log_key("Abcdefgh12345678");
    let whole = gzip_log(&[record("CloseAccount", "e")]);
    let cut = whole[..whole.len() - 1].to_vec();
    for (body, expanded_bytes, expected) in [
        (whole, 100, ErrorType::ObjectTooLarge),
        (cut, 1 << 20, ErrorType::ObjectCorrupt),
    ] {
        let mut harness = Harness::new().with_object(&key, body);
        harness.settings.limits.expanded_bytes = expanded_bytes;
        let error = harness.run(&[&key]).reply.unwrap_err();
        assert_eq!(error.error_type, expected);
    }
}

#[test]
fn a_failure_names_its_object_all_causes_and_the_remedy() {
    let missing = Harness::new().run(&["missing.json.gz"]);
    insta::assert_snapshot!(missing.reply.unwrap_err(), @"failed to fetch s3://example-trail-logs/missing.json.gz: it does not exist: NoSuchKey");
    let key = "copy.json.gz";
    let closure = gzip_log(&[record("CloseAccount", "e")]);
    let harness = Harness::new().with_object(key, closure.clone());
    *harness.sink.refusals.borrow_mut() = 1;
    insta::assert_snapshot!(harness.run(&[key]).reply.unwrap_err(), @"failed to publish an alert on s3://example-trail-logs/copy.json.gz on the topic in ALERT_TOPIC_ARN: the request was refused: NotFound: no such topic; set ALERT_TOPIC_ARN to a topic that exists");
    let stores = crate::deadline::SlowStores::default()
        .with(&log_key("A"), &[(std::time::Duration::ZERO, closure)]);
    *stores.ledger_failures.borrow_mut() = 4;
    let handled = stores.handle(Some(60));
    insta::assert_snapshot!(handled.messages().join("\n"), @"s3://example-trail-logs/AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/111122223333_CloudTrail_us-east-1_20260302T1650Z_A.json.gz: ledger: failed to write 2026/03/02/e.json: AccessDenied: no; allow s3:PutObject");
}

#[test]
fn of_two_copies_of_a_record_the_one_of_the_higher_level_alerts() {
    let key = log_key("Abcdefgh12345678");
    let grave = record("CloseAccount", "same-id");
    let light = record("SetContactAddress", "same-id");
    for records in [[grave.clone(), light.clone()], [light, grave]] {
        let run = Harness::new()
            .with_object(&key, gzip_log(&records))
            .run(&[&key]);
        assert_eq!((run.report.published, run.report.duplicate), (1, 1));
        assert!(run.alerts[0].subject.starts_with("[CRITICAL]"));
    }
}

#[test]
fn rules_that_a_filter_leaves_alert_if_their_level_suffices() {
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
        let mut harness =
            Harness::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
        harness.settings.topics[0].minimum_level = minimum;
        harness.rules = vec![rule(level), closures_filter()];
        let run = harness.run(&[&key]);
        assert_eq!(run.report.suppressed, suppressed, "{level}");
        assert_eq!(run.alerts.len() as u64, 1 - suppressed, "{level}");
    }
    // A filter that concerns another rule leaves all as it is.
    let mut harness = Harness::new().with_object(&key, gzip_log(&[record("CloseAccount", "e")]));
    harness.rules = vec![rule("low")];
    assert_eq!(harness.run(&[&key]).alerts.len(), 1);
}

#[test]
fn a_task_result_lists_the_twenty_findings_of_the_highest_level() {
    let mut records: Vec<Value> = (0..25)
        .map(|number| record("SetContactAddress", &format!("e{number:02}")))
        .collect();
    records.push(record("CloseAccount", "highest"));
    let mut harness = Harness::new().with_object("a.json.gz", gzip_log(&records));
    let (_, reply) = run_envelope(&harness.pipeline(), &batch(&["a.json.gz"]));
    let reply = reply.unwrap();
    let result = reply["results"][0]["resultString"].as_str().unwrap();
    assert!(
        result.starts_with("26 findings: critical CloseAccount succeeded highest, medium"),
        "{result}"
    );
    assert!(result.ends_with("succeeded e18, …"), "{result}");
    assert_eq!(result.matches("succeeded").count(), 20);
}
