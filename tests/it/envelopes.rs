//! Every envelope leads to its objects, and gets the reply that its sender understands.

use billing_watch::cloudtrail::{KeyKind, OtherKind, classify_key};
use billing_watch::envelope::{
    Delivery, DeliveryOutcome, Envelope, EnvelopeError, ErrorType, Failure, ObjectEventKind,
    ObjectRef,
};
use serde_json::{Value, json};

use crate::support::{BUCKET, form_encode, log_key, s3_event};

fn sample(name: &str) -> Value {
    let path = format!("{}/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn objects(envelope: &Envelope) -> Vec<ObjectRef> {
    let object_events = |delivery: &Delivery| delivery.object_events.clone();
    envelope
        .deliveries
        .iter()
        .flat_map(object_events)
        .filter(|object_event| object_event.kind == ObjectEventKind::Created)
        .map(|object_event| object_event.object)
        .collect()
}

fn check(payload: &Value, expected: &[&str]) {
    let envelope = Envelope::parse(payload).unwrap();
    let keys: Vec<String> = objects(&envelope)
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(keys, expected, "{payload}");
}

#[test]
fn every_sample_event_names_its_object_or_is_ignored_by_design() {
    let key = log_key("Abcdefgh12345678");
    let mut seen = 0;
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/events")).unwrap() {
        let name = entry.unwrap().path();
        let name = name.file_stem().unwrap().to_str().unwrap();
        let envelope = Envelope::parse(&sample(name)).unwrap();
        let nothing = [
            "self-test",
            "canary",
            "coverage",
            "unconfirmed",
            // These hold a record: tests/it/direct.rs.
            "direct-event",
            "cloudwatch-logs",
            "test-event",
            "validation",
            "removed",
        ]
        .iter()
        .any(|word| name.ends_with(word));
        let expected = ObjectRef {
            bucket: BUCKET.to_owned(),
            key: key.clone(),
            version_id: None,
        };
        assert_eq!(
            objects(&envelope),
            if nothing { vec![] } else { vec![expected] },
            "{name}"
        );
        assert!(
            envelope
                .deliveries
                .iter()
                .all(|part| part.problems.is_empty()),
            "{name}"
        );
        seen += 1;
    }
    assert_eq!(seen, 27);
}

#[test]
fn odd_characters_in_keys_survive_every_encoding() {
    for key in [
        "a b/c+d.json.gz",
        "100%/x=1&y=2.json.gz",
        "%2B%20.json.gz",
        "Übung/größe.json.gz",
        "監査/ログ.json.gz",
        "emoji 😀+.json.gz",
    ] {
        check(&s3_event(&[key]), &[key]);
        let notification = s3_event(&[key]).to_string();
        check(
            &json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": notification}}]}),
            &[key],
        );
        let mut bridge = sample("eventbridge");
        bridge["detail"]["object"]["key"] = json!(key);
        check(&bridge, &[key]);
        check(&json!({"s3Bucket": "b", "s3ObjectKey": [key]}), &[key]);
        let mut batch = sample("s3-batch-2");
        batch["tasks"][0]["s3Key"] = json!(form_encode(key));
        check(&batch, &[key]);
        batch["tasks"][0]["s3Key"] = json!(form_encode(key).replace('+', "%20"));
        check(&batch, &[key]);
    }
}

#[test]
fn a_cloudtrail_notification_may_name_several_keys() {
    check(
        &json!({"s3Bucket": "b", "s3ObjectKey": ["k1", "k+2"]}),
        &["k1", "k+2"],
    );
}

#[test]
fn a_notification_of_aws_config_names_one_key_as_a_string() {
    for (message_type, key) in [
        (
            "ConfigurationHistoryDeliveryCompleted",
            "AWSLogs/111122223333/Config/us-east-2/2026/3/2/ConfigHistory/111122223333_Config_us-east-2_ConfigHistory_AWS::CloudTrail::Trail_20260302T195818Z_20260302T195818Z_1.json.gz",
        ),
        (
            "ConfigurationSnapshotDeliveryCompleted",
            "AWSLogs/111122223333/Config/us-east-2/2026/3/2/ConfigSnapshot/111122223333_Config_us-east-2_ConfigSnapshot_20260302T195818Z_Abcdefgh12345678.json.gz",
        ),
    ] {
        let notification = json!({
            "messageType": message_type, "recordVersion": "1.1", "s3Bucket": "b", "s3ObjectKey": key,
        });
        check(&notification, &[key]);
        check(
            &json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": notification.to_string()}}]}),
            &[key],
        );
        // The pipeline skips such a key without a request to S3.
        let other = KeyKind::Other(OtherKind::OtherService);
        assert_eq!(classify_key(key, None), other);
    }
}

#[test]
fn object_versions_are_kept() {
    let mut payload = s3_event(&["k.json.gz"]);
    payload["Records"][0]["s3"]["object"]["versionId"] = json!("v1");
    let envelope = Envelope::parse(&payload).unwrap();
    assert_eq!(objects(&envelope)[0].version_id.as_deref(), Some("v1"));
}

#[test]
fn the_arn_of_an_access_point_stays_whole() {
    let mut batch = sample("s3-batch-1");
    let arn = "arn:aws:s3:us-east-1:111122223333:accesspoint/logs";
    batch["tasks"][0]["s3BucketArn"] = json!(arn);
    let envelope = Envelope::parse(&batch).unwrap();
    assert_eq!(objects(&envelope)[0].bucket, arn);
}

#[test]
fn an_unknown_shape_is_an_error_that_describes_it() {
    for (payload, expected) in [
        (json!({}), "unknown envelope: an empty object"),
        (json!([]), "unknown envelope: a list"),
        (json!(null), "unknown envelope: null"),
        (json!("x"), "unknown envelope: the text `x`"),
        (
            json!({"Records": []}),
            "unknown envelope: an object with the keys `Records`",
        ),
        (
            json!({"foo": 1, "bar": 2}),
            "unknown envelope: an object with the keys `bar, foo`",
        ),
        (
            json!({"Records": [{"eventSource": "aws:dynamodb"}]}),
            "unknown envelope: an object with the keys `eventSource`",
        ),
        (
            json!({"source": "aws.ec2", "detail-type": "x"}),
            "unknown envelope: an object with the keys `detail-type, source`",
        ),
        (
            json!({"invocationSchemaVersion": "3.0", "tasks": [{}]}),
            "unknown envelope: S3 Batch Operations with schema `\\\"3.0\\\"`",
        ),
        (
            json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "hello\u{202e}"}}]}),
            "unknown envelope: a text that is not JSON: `hello\\u{202e}`",
        ),
        (
            json!({"Records": [{"eventSource": "aws:s3"}]}),
            "S3 event without a usable s3",
        ),
        (
            json!({"Records": [{"eventSource": "aws:sqs"}]}),
            "SQS message without a usable messageId",
        ),
        (
            json!({"s3Bucket": "b", "s3ObjectKey": []}),
            "CloudTrail notification without a usable s3ObjectKey list",
        ),
        (
            json!({"s3Bucket": "b", "s3ObjectKey": ""}),
            "CloudTrail notification without a usable s3ObjectKey",
        ),
    ] {
        let error = Envelope::parse(&payload).unwrap_err();
        assert_eq!(error.to_string(), expected, "{payload}");
    }
}

#[test]
fn a_key_that_does_not_decode_is_a_problem_and_other_objects_are_kept() {
    let mut payload = s3_event(&["a.json.gz", "b.json.gz"]);
    payload["Records"][0]["s3"]["object"]["key"] = json!("%ff");
    let envelope = Envelope::parse(&payload).unwrap();
    assert_eq!(objects(&envelope).len(), 1);
    assert_eq!(
        envelope.deliveries[0].problems,
        [EnvelopeError::Incomplete {
            shape: "S3 event",
            part: "s3.object.key"
        }]
    );
}

#[test]
fn envelopes_nested_too_deep_are_refused() {
    let mut payload = s3_event(&["k.json.gz"]);
    for _ in 0..12 {
        payload = json!({"requestContext": {}, "requestPayload": payload});
    }
    assert_eq!(Envelope::parse(&payload), Err(EnvelopeError::TooDeep));
}

fn failure(error_type: ErrorType) -> DeliveryOutcome {
    DeliveryOutcome {
        failures: vec![Failure {
            error_type,
            message: format!("{error_type} happened"),
        }],
        result: String::new(),
    }
}

fn messages(count: usize, queue: &str) -> Value {
    let records: Vec<Value> = (0..count)
        .map(|number| {
            json!({
                "messageId": format!("m{number}"),
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:us-east-1:111122223333:{queue}"),
                "body": s3_event(&["k.json.gz"]).to_string(),
            })
        })
        .collect();
    json!({"Records": records})
}

#[test]
fn sqs_gets_the_ids_of_the_failed_messages() {
    let ok = DeliveryOutcome::default;
    let outcomes = [ok(), failure(ErrorType::ObjectCorrupt), ok()];
    for (queue, failed) in [("q", vec!["m1"]), ("q.fifo", vec!["m1", "m2"])] {
        let envelope = Envelope::parse(&messages(3, queue)).unwrap();
        let items: Vec<Value> = failed
            .iter()
            .map(|id| json!({"itemIdentifier": id}))
            .collect();
        assert_eq!(
            envelope.respond(&outcomes, json!({})).unwrap(),
            json!({"batchItemFailures": items})
        );
    }
    let envelope = Envelope::parse(&messages(1, "q")).unwrap();
    assert_eq!(
        envelope.respond(&[ok()], json!({})).unwrap(),
        json!({"batchItemFailures": []})
    );
}

#[test]
fn an_sqs_message_of_unknown_content_fails_alone() {
    let mut payload = messages(2, "q");
    payload["Records"][0]["body"] = json!("{\"Type\": \"SubscriptionConfirmation\"}");
    let envelope = Envelope::parse(&payload).unwrap();
    assert_eq!(envelope.deliveries[0].problems.len(), 1);
    assert_eq!(objects(&envelope).len(), 1);
}

#[test]
fn s3_batch_gets_a_result_code_for_each_task() {
    let mut payload = sample("s3-batch-1");
    payload["tasks"] = (0..3)
        .map(|id| json!({"taskId": id.to_string(), "s3Key": "k.gz", "s3BucketArn": "arn:aws:s3:::b"}))
        .collect();
    let envelope = Envelope::parse(&payload).unwrap();
    let with_findings = DeliveryOutcome {
        result: "1 finding".to_owned(),
        ..DeliveryOutcome::default()
    };
    let outcomes = [
        with_findings,
        failure(ErrorType::ObjectCorrupt),
        failure(ErrorType::ObjectThrottled),
    ];
    assert_eq!(
        envelope.respond(&outcomes, json!({})).unwrap(),
        json!({
            "invocationSchemaVersion": "1.0",
            "treatMissingKeysAs": "PermanentFailure",
            "invocationId": "EXAMPLEINVOCATION",
            "results": [
                {"taskId": "0", "resultCode": "Succeeded", "resultString": "1 finding"},
                {"taskId": "1", "resultCode": "PermanentFailure", "resultString": "ObjectCorrupt happened"},
                {"taskId": "2", "resultCode": "TemporaryFailure", "resultString": "ObjectThrottled happened"},
            ],
        })
    );
}

#[test]
fn other_senders_get_the_report_or_an_error_with_a_stable_name() {
    let envelope = Envelope::parse(&sample("s3-put")).unwrap();
    let fine = [DeliveryOutcome::default()];
    assert_eq!(
        envelope.respond(&fine, json!({"Objects": 1})).unwrap(),
        json!({"Objects": 1})
    );
    let error = envelope
        .respond(&[failure(ErrorType::ObjectCorrupt)], json!({}))
        .unwrap_err();
    assert_eq!(
        (error.error_type.as_str(), &*error.message),
        ("ObjectCorrupt", "ObjectCorrupt happened")
    );
    let mut both = failure(ErrorType::ObjectCorrupt);
    both.failures
        .extend(failure(ErrorType::AlertRefused).failures);
    let error = envelope.respond(&[both], json!({})).unwrap_err();
    assert_eq!(error.error_type, ErrorType::SeveralFailures);
    assert_eq!(
        error.message,
        "ObjectCorrupt happened; AlertRefused happened"
    );
}
