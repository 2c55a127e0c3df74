//! The real binary over a bad network: nothing lost, nothing twice; and what each failure is called.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    lambda::{Aws, Function},
    proxy::{Fault, Proxy, Request, header},
    support::{gzip_log, log_key, noise, queue_event_in, record, record_with, s3_event_in},
};

fn event_id(number: usize) -> String {
    format!("record-{number:04}")
}

/// The event ids that a text names.
fn ids_in(text: &str) -> BTreeSet<String> {
    text.match_indices("record-")
        .filter_map(|(at, _)| text.get(at..at + "record-0000".len()))
        .map(str::to_owned)
        .collect()
}

/// Closes its account, each by a user of their own, so that each is an alert.
fn closure(number: usize) -> Value {
    let arn = format!("arn:aws:iam::111122223333:user/user-{number}");
    record_with(
        "CloseAccount",
        &event_id(number),
        json!({"userIdentity": {"type": "IAMUser", "arn": arn, "userName": format!("user-{number}")}}),
    )
}

/// How often each record has alerted.
fn alerts_by_record(aws: &Aws) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for alert in aws.alerts() {
        for id in ids_in(alert["Message"].as_str().unwrap()) {
            *counts.entry(id).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_ledger_entry_archives_its_alert() {
    let aws = Aws::new("archive");
    let ledger = aws.ledger_bucket();
    let key = log_key("Abcdefgh12345678");
    let contact = json!({"requestParameters": {"city": "Springfield"}});
    aws.put(
        &key,
        gzip_log(&[
            record("CloseAccount", "event-1"),
            record_with("SetContactAddress", "event-2", contact),
            record("GetAddresses", "below-the-level"),
            noise(1),
        ]),
    );
    let function = Function::start(&aws, &[("LEDGER_BUCKET", &ledger)]);
    let keys = [key];
    function.invoke(&s3_event_in(&aws.bucket, &keys)).response();
    let alert = aws.alerts().pop().unwrap();
    assert_eq!(
        aws.keys(&ledger),
        ["2026/03/02/event-1.json", "2026/03/02/event-2.json"]
    );
    let entry = |name| -> Value { serde_json::from_str(&aws.get(&ledger, name)).unwrap() };
    let first = entry("2026/03/02/event-1.json");
    assert_eq!(first["claim"], Value::Null);
    let published = &first["published"][0];
    assert_eq!(published["topic"], aws.topic_arn);
    assert_eq!(published["message_id"], alert["MessageId"]);
    let archive = &published["archive"];
    let sent = &archive["message"]["here"];
    assert_eq!(
        (&sent["subject"], &sent["text"]),
        (&alert["Subject"], &alert["Message"])
    );
    assert!(!sent["text"].as_str().unwrap().contains("Springfield"));
    assert_eq!(sent["attributes"]["level"], json!(["critical"]));
    assert_eq!(
        archive["log_file"],
        format!("s3://{}/{}", aws.bucket, keys[0])
    );
    let second = entry("2026/03/02/event-2.json");
    let archive = &second["published"][0]["archive"];
    assert_eq!(
        archive["message"],
        json!({"in_entry": "2026/03/02/event-1.json"})
    );
    assert_eq!(
        archive["finding"],
        json!({
            "event_id": "event-2",
            "event_time": "2026-03-02T16:44:04Z",
            "event_source": "billingconsole.amazonaws.com",
            "event_name": "SetContactAddress",
            "region": "us-east-1",
            "affected_account": "111122223333",
            "actor_type": "Root",
            "actor": "arn:aws:iam::111122223333:root",
            "outcome": "succeeded",
            "level": "medium",
            "rules": archive["finding"]["rules"],
        })
    );
    // Another instance, with nothing in its memory.
    let other = Function::start(&aws, &[("LEDGER_BUCKET", &ledger)]);
    let report = other.invoke(&s3_event_in(&aws.bucket, &keys)).response();
    assert_eq!((&report["Duplicate"], aws.alerts().len()), (&json!(2), 0));
}

#[test]
fn the_ledger_costs_nothing_without_findings_and_two_requests_a_record() {
    let aws = Aws::new("requests");
    let ledger = aws.ledger_bucket();
    let (quiet, loud) = (log_key("Quiet"), log_key("Loud"));
    aws.put(&quiet, gzip_log(&[noise(1), record("GetAddresses", "e")]));
    aws.put(&loud, gzip_log(&[record("CloseAccount", "f"), noise(1)]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (watched, bucket) = (Arc::clone(&seen), ledger.clone());
    let proxy = Proxy::start(&aws.address, move |request| {
        if request.is_about(&bucket) {
            watched.lock().unwrap().push(request.method.clone());
        }
        Fault::None
    });
    let function = Function::start(
        &aws,
        &[
            ("LEDGER_BUCKET", &ledger),
            ("AWS_ENDPOINT_URL", &proxy.address),
        ],
    );
    function
        .invoke(&s3_event_in(&aws.bucket, &[quiet]))
        .response();
    assert_eq!(seen.lock().unwrap().len(), 0);
    let event = s3_event_in(&aws.bucket, &[loud]);
    function.invoke(&event).response();
    assert_eq!(*seen.lock().unwrap(), ["PUT", "PUT"]);
    function.invoke(&event).response();
    assert_eq!(*seen.lock().unwrap(), ["PUT", "PUT", "PUT", "GET"]);
}

#[test]
fn three_instances_with_one_ledger_alert_once_on_every_record() {
    let aws = Aws::new("three-instances");
    let ledger = aws.ledger_bucket();
    // Each record is in three files, and twice in each.
    let keys: Vec<String> = (0..12)
        .map(|number| log_key(&format!("F{number}")))
        .collect();
    for (number, key) in keys.iter().enumerate() {
        let records: Vec<Value> = (0..12)
            .map(|index| closure((number / 3) * 6 + index % 6))
            .collect();
        aws.put(key, gzip_log(&records));
    }
    let event = queue_event_in(&aws.bucket, &keys);
    let duplicates: u64 = std::thread::scope(|scope| {
        let instances: Vec<_> = (0..3)
            .map(|_| {
                let function = Function::start(&aws, &[("LEDGER_BUCKET", &ledger)]);
                let event = &event;
                scope.spawn(move || {
                    let mut function = function;
                    let mut event = event.clone();
                    // A record that is claimed elsewhere is delivered again.
                    loop {
                        let heard = function.invoke_for(&event, Duration::from_mins(1));
                        let failed = heard.unwrap().response()["batchItemFailures"].clone();
                        let failed = failed.as_array().unwrap().clone();
                        if failed.is_empty() {
                            break;
                        }
                        let ids: BTreeSet<&str> = failed
                            .iter()
                            .map(|one| one["itemIdentifier"].as_str().unwrap())
                            .collect();
                        let messages = event["Records"].as_array_mut().unwrap();
                        messages.retain(|one| ids.contains(one["messageId"].as_str().unwrap()));
                    }
                    let lines = function.stop();
                    lines
                        .iter()
                        .filter_map(|line| line["Duplicate"].as_u64())
                        .sum::<u64>()
                })
            })
            .collect();
        instances
            .into_iter()
            .map(|instance| instance.join().unwrap())
            .sum()
    });
    let counts = alerts_by_record(&aws);
    assert_eq!(counts.len(), 24);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    // Three instances met each record six times in each of three files, and one alerted.
    assert!(duplicates >= 24 * (3 * 6 - 1), "{duplicates}");
}

/// What went over the wire and may explain a second alert.
#[derive(Default)]
struct Trouble {
    requests: usize,
    faults: usize,
    /// Event ids, and whether the answer got through.
    publishes: Vec<(BTreeSet<String>, bool)>,
    /// Event ids whose publication did not reach the ledger, once a request.
    unrecorded: Vec<String>,
    /// Event ids that had alerted when the instance that held them was killed, once a kill.
    killed: Vec<String>,
}

fn note(trouble: &mut Trouble, request: &Request, fault: &Fault) {
    trouble.requests += 1;
    trouble.faults += usize::from(*fault != Fault::None);
    if request.is_publish() {
        let ids = ids_in(&String::from_utf8_lossy(&request.body));
        if fault.reaches_service() {
            trouble.publishes.push((ids, fault.loses_answer()));
        }
    } else if !matches!(fault, Fault::None | Fault::ResetAfter | Fault::Cut)
        && header(&request.head, "if-match").is_some()
    {
        trouble.unrecorded.extend(ids_in(&request.path));
    }
}

/// A quarter of all requests goes wrong, in one of all ways.
fn bad_luck(random: &mut fastrand::Rng) -> Fault {
    if random.f64() >= 0.25 {
        return Fault::None;
    }
    let error = |code| format!("<Error><Code>{code}</Code><Message>try again</Message></Error>");
    match random.u8(..6) {
        0 => Fault::Answer(500, error("InternalError")),
        1 => Fault::Answer(503, error("SlowDown")),
        2 => Fault::ResetBefore,
        3 => Fault::ResetAfter,
        4 => Fault::Cut,
        // Beyond the time of one try now and then.
        _ => Fault::Slow(Duration::from_millis(random.u64(50..3_000))),
    }
}

#[test]
fn nothing_is_lost_over_a_bad_network_with_killed_instances() {
    const FILES: usize = 64;
    const RECORDS: usize = 5;
    // Short, so that the claims of the killed run out soon.
    const TIMEOUT: Duration = Duration::from_secs(15);
    let aws = &Aws::alone("bad-network");
    let ledger = &aws.ledger_bucket();
    let mut deliveries = VecDeque::new();
    for file in 0..FILES {
        let key = log_key(&format!("F{file}"));
        let mut records: Vec<Value> = (0..RECORDS)
            .map(|index| closure(file * RECORDS + index))
            .collect();
        // One of the file before, as trails do.
        records.push(closure((file * RECORDS).saturating_sub(1)));
        aws.put(&key, gzip_log(&records));
        deliveries.push_back((Instant::now(), key.clone()));
        if file % 3 == 0 {
            deliveries.push_back((Instant::now(), key));
        }
    }
    let trouble = Arc::new(Mutex::new(Trouble::default()));
    let random = Mutex::new(fastrand::Rng::with_seed(20_260_302));
    let seen = Arc::clone(&trouble);
    let proxy = Proxy::start(&aws.address, move |request| {
        let fault = bad_luck(&mut random.lock().unwrap());
        note(&mut seen.lock().unwrap(), request, &fault);
        fault
    });
    let deliveries = Mutex::new(deliveries);
    let kills = Mutex::new(0);
    let start = || {
        let variables = [
            ("LEDGER_BUCKET", &**ledger),
            ("AWS_ENDPOINT_URL", &*proxy.address),
        ];
        Function::start_within(aws, &variables, TIMEOUT)
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for instance in 0..2 {
            let (deliveries, kills, start, trouble) = (&deliveries, &kills, &start, &trouble);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(instance);
                let mut function = start();
                loop {
                    let batch = due(&mut deliveries.lock().unwrap(), 4);
                    let Some(batch) = batch else { break };
                    if batch.is_empty() {
                        std::thread::sleep(Duration::from_millis(100));
                        continue;
                    }
                    let doomed = random.f64() < 0.15;
                    let time = if doomed {
                        Duration::from_millis(random.u64(20..2_000))
                    } else {
                        Duration::from_mins(1)
                    };
                    let heard = function.invoke_for(&queue_event_in(&aws.bucket, &batch), time);
                    let failed: BTreeSet<String> = if let Some(heard) = heard {
                        let failed = &heard.response()["batchItemFailures"];
                        let failed = failed.as_array().unwrap().iter();
                        failed
                            .map(|one| one["itemIdentifier"].as_str().unwrap().to_owned())
                            .collect()
                    } else {
                        *kills.lock().unwrap() += 1;
                        let trouble = &mut *trouble.lock().unwrap();
                        let alerted =
                            |id: &String| trouble.publishes.iter().any(|(ids, _)| ids.contains(id));
                        let records = batch.iter().flat_map(|key| records_of(key, RECORDS));
                        trouble.killed.extend(records.filter(alerted));
                        function = start();
                        batch.iter().cloned().collect()
                    };
                    let again = Instant::now() + Duration::from_secs(2);
                    deliveries
                        .lock()
                        .unwrap()
                        .extend(failed.into_iter().map(|key| (again, key)));
                }
            });
        }
    });
    let counts = alerts_by_record(aws);
    let trouble = trouble.lock().unwrap();
    let all: BTreeSet<String> = (0..FILES * RECORDS).map(event_id).collect();
    let alerted: BTreeSet<String> = counts.keys().cloned().collect();
    assert_eq!(alerted, all, "every record has alerted, and no other");
    let mut second = 0;
    for (id, count) in &counts {
        let lost_answers = trouble
            .publishes
            .iter()
            .filter(|(ids, lost)| *lost && ids.contains(id))
            .count();
        let times = |ids: &[String]| ids.iter().filter(|other| *other == id).count();
        let excused = lost_answers + times(&trouble.unrecorded) + times(&trouble.killed);
        assert!(*count <= 1 + excused, "{id} has alerted {count} times");
        second += count - 1;
    }
    let kills = kills.lock().unwrap();
    #[allow(clippy::print_stdout, reason = "figures for docs/testing.md")]
    {
        println!(
            "{} alerts, lost 0, {second} second ones, all within the window; {} requests, {} of \
             them faulty, {kills} kills, {:.0} s",
            counts.values().sum::<usize>(),
            trouble.requests,
            trouble.faults,
            began.elapsed().as_secs_f64()
        );
    }
    assert!(*kills > 0 && trouble.faults * 5 > trouble.requests);
}

/// The event ids in the file of that key, and the last one of the file before.
fn records_of(key: &str, each: usize) -> impl Iterator<Item = String> {
    let number = key.rsplit_once("_F").unwrap().1;
    let number: usize = number.strip_suffix(".json.gz").unwrap().parse().unwrap();
    ((number * each).saturating_sub(1)..(number + 1) * each).map(event_id)
}

/// Up to `most` deliveries that are due; none at all when everything is delivered.
fn due(deliveries: &mut VecDeque<(Instant, String)>, most: usize) -> Option<Vec<String>> {
    if deliveries.is_empty() {
        return None;
    }
    let mut batch = Vec::new();
    let now = Instant::now();
    for _ in 0..deliveries.len() {
        let Some((at, key)) = deliveries.pop_front() else {
            break;
        };
        if at <= now && batch.len() < most && !batch.contains(&key) {
            batch.push(key);
        } else {
            deliveries.push_back((at, key));
        }
    }
    Some(batch)
}

/// What a request is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum About {
    LogFile,
    Ledger,
    Topic,
}

/// A proxy that does the same to every request about one thing.
fn proxy_against(aws: &Aws, ledger: &str) -> (Proxy, Arc<Mutex<(About, Fault)>>) {
    let rule = Arc::new(Mutex::new((About::Topic, Fault::None)));
    let (shared, ledger) = (Arc::clone(&rule), ledger.to_owned());
    let proxy = Proxy::start(&aws.address, move |request| {
        let about = if request.is_publish() {
            About::Topic
        } else if request.is_about(&ledger) {
            About::Ledger
        } else {
            About::LogFile
        };
        let rule = shared.lock().unwrap();
        if rule.0 == about {
            rule.1.clone()
        } else {
            Fault::None
        }
    });
    (proxy, rule)
}

#[test]
fn each_failure_has_a_name_and_a_remedy_and_loses_nothing() {
    use About::{Ledger, LogFile, Topic};
    let aws = Aws::new("failures");
    let ledger = aws.ledger_bucket();
    let (proxy, rule) = proxy_against(&aws, &ledger);
    let variables = [
        ("LEDGER_BUCKET", &*ledger),
        ("AWS_ENDPOINT_URL", &*proxy.address),
    ];
    let function = Function::start(&aws, &variables);
    let s3 = |code: &str, message: &str| {
        format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>")
    };
    let sns = |code: &str| {
        format!(
            "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message>\
             </Error><RequestId>r</RequestId></ErrorResponse>"
        )
    };
    let denied = |action: &str| {
        s3(
            "AccessDenied",
            &format!(
                "User: arn:aws:sts::1:assumed-role/a-kms-role/f is not authorized to perform: {action} on resource: x"
            ),
        )
    };
    let cases = [
        (
            LogFile,
            404,
            s3("NoSuchKey", "gone"),
            "ObjectMissing",
            "NoSuchKey: gone",
        ),
        (
            LogFile,
            404,
            s3("NoSuchBucket", "gone"),
            "ObjectMissing",
            "NoSuchBucket: gone",
        ),
        (
            LogFile,
            403,
            denied("s3:GetObject"),
            "ObjectAccessDenied",
            "allow s3:GetObject",
        ),
        (
            LogFile,
            403,
            denied("kms:Decrypt"),
            "KeyAccessDenied",
            "allow kms:Decrypt",
        ),
        (
            LogFile,
            400,
            s3("KMS.DisabledException", "off"),
            "KeyAccessDenied",
            "KMS.DisabledException",
        ),
        (
            LogFile,
            400,
            s3("KMS.ThrottlingException", "slow"),
            "ObjectThrottled",
            "KMS.ThrottlingException",
        ),
        (
            LogFile,
            503,
            s3("SlowDown", "slow"),
            "ObjectThrottled",
            "SlowDown",
        ),
        (
            LogFile,
            500,
            s3("InternalError", "oh"),
            "ObjectUnreadable",
            "InternalError",
        ),
        (
            Ledger,
            403,
            denied("s3:PutObject"),
            "LedgerUnavailable",
            "allow s3:GetObject, s3:PutObject",
        ),
        (
            Ledger,
            404,
            s3("NoSuchBucket", "gone"),
            "LedgerUnavailable",
            "set LEDGER_BUCKET",
        ),
        (
            Ledger,
            503,
            s3("SlowDown", "slow"),
            "LedgerUnavailable",
            "SlowDown",
        ),
        (
            Topic,
            403,
            sns("AuthorizationError"),
            "AlertRefused",
            "allow sns:Publish",
        ),
        (
            Topic,
            404,
            sns("NotFound"),
            "AlertRefused",
            "ALERT_TOPIC_ARN",
        ),
        (
            Topic,
            400,
            sns("KMSAccessDenied"),
            "AlertRefused",
            "kms:GenerateDataKey",
        ),
        (
            Topic,
            400,
            sns("KMSThrottling"),
            "AlertNotSent",
            "KMSThrottling",
        ),
        (
            Topic,
            500,
            sns("InternalFailure"),
            "AlertNotSent",
            "InternalFailure",
        ),
    ];
    for (number, (about, status, body, error_type, words)) in cases.into_iter().enumerate() {
        let key = log_key(&format!("Case{number}"));
        aws.put(&key, gzip_log(&[closure(number)]));
        let event = s3_event_in(&aws.bucket, std::slice::from_ref(&key));
        *rule.lock().unwrap() = (about, Fault::Answer(status, body));
        let error = function.invoke(&event).error();
        assert_eq!(error["errorType"], error_type, "case {number}: {error}");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(
            message.contains(words) && message.contains(&key),
            "{message}"
        );
        assert_eq!(aws.alerts().len(), 0, "case {number}");
        *rule.lock().unwrap() = (about, Fault::None);
        let report = function.invoke(&event).response();
        assert_eq!(report["Published"], 1, "case {number}: {report}");
        assert_eq!(aws.alerts().len(), 1, "case {number}");
    }
}

#[test]
fn a_dead_connection_leaves_time_for_the_other_objects() {
    let aws = Aws::new("dead-connection");
    let ledger = aws.ledger_bucket();
    let (proxy, rule) = proxy_against(&aws, &ledger);
    let variables = [
        ("LEDGER_BUCKET", &*ledger),
        ("AWS_ENDPOINT_URL", &*proxy.address),
    ];
    let timeout = Duration::from_secs(4);
    let function = Function::start_within(&aws, &variables, timeout);
    for (number, (about, error_type)) in [
        (About::LogFile, "DeadlineExceeded"),
        (About::Ledger, "DeadlineExceeded"),
        (About::Topic, "AlertNotSent"),
    ]
    .into_iter()
    .enumerate()
    {
        let key = log_key(&format!("Dead{number}"));
        aws.put(&key, gzip_log(&[closure(number)]));
        *rule.lock().unwrap() = (about, Fault::Slow(Duration::from_mins(1)));
        let began = Instant::now();
        let error = function.invoke(&s3_event_in(&aws.bucket, &[key])).error();
        assert_eq!(error["errorType"], error_type, "{error}");
        assert!(began.elapsed() < timeout, "{:?}", began.elapsed());
    }
}

#[test]
fn an_object_in_the_ledger_that_is_no_entry_fails_the_log_file() {
    let aws = Aws::new("odd-ledger");
    let ledger = aws.ledger_bucket();
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[closure(1), closure(2)]));
    let odd = r#"{"state": "from another program", "secret": 1}"#;
    aws.put_in(&ledger, "2026/03/02/record-0001.json", odd.into());
    let function = Function::start(&aws, &[("LEDGER_BUCKET", &ledger)]);
    let error = function.invoke(&s3_event_in(&aws.bucket, &[key])).error();
    assert_eq!(error["errorType"], "LedgerUnavailable");
    let message = error["errorMessage"].as_str().unwrap();
    assert!(
        message.contains("odd-ledger-ledger/2026/03/02/record-0001.json is not an entry")
            && message.contains("move it away")
            && !message.contains("secret"),
        "{message}"
    );
    assert_eq!(alerts_by_record(&aws), [(event_id(2), 1)].into());
}

const READER: &str = "arn:aws:iam::444455556666:role/log-reader";

#[test]
fn only_log_files_are_read_through_the_reader_role() {
    let aws = Aws::new("log-reader");
    let ledger = aws.ledger_bucket();
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[record("CloseAccount", "event-1")]));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let proxy = {
        let seen = Arc::clone(&seen);
        Proxy::start(&aws.address, move |request| {
            let signed = request.head.split("Credential=").nth(1).unwrap();
            let what = if request.body.is_empty() || !request.path.eq("/") {
                request.path.clone()
            } else {
                let body = String::from_utf8_lossy(&request.body).into_owned();
                body.split('&').next().unwrap().to_owned()
            };
            let who = signed.split('/').next().unwrap().to_owned();
            seen.lock().unwrap().push((what, who));
            Fault::None
        })
    };
    let variables = [
        ("LEDGER_BUCKET", &*ledger),
        ("LOG_READER_ROLE_ARN", READER),
        ("AWS_ENDPOINT_URL", &*proxy.address),
    ];
    let function = Function::start(&aws, &variables);
    let report = function
        .invoke(&s3_event_in(&aws.bucket, &[&key]))
        .response();
    assert_eq!(report["Messages"], 1);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 5, "{seen:?}");
    for (what, who) in seen.iter() {
        let is_log_file = what.starts_with(&format!("/{}/", aws.bucket));
        assert_eq!(who != "test", is_log_file, "{what} by {who}");
    }
    assert_eq!(seen[0].0, "Action=AssumeRole");
}

#[test]
fn a_reader_role_that_may_not_be_assumed_has_a_remedy_of_its_own() {
    let aws = Aws::new("refused-reader");
    let key = log_key("Abcdefgh12345678");
    aws.put(&key, gzip_log(&[record("CloseAccount", "event-1")]));
    let answer = Arc::new(Mutex::new(None));
    let proxy = {
        let answer = Arc::clone(&answer);
        Proxy::start(&aws.address, move |request| {
            let (status, code) = answer.lock().unwrap().unwrap_or_default();
            if status == 0 || !request.body.starts_with(b"Action=AssumeRole") {
                return Fault::None;
            }
            let error = format!(
                "<Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error>"
            );
            Fault::Answer(status, format!("<ErrorResponse>{error}</ErrorResponse>"))
        })
    };
    let variables = [
        ("LOG_READER_ROLE_ARN", READER),
        ("AWS_ENDPOINT_URL", &*proxy.address),
    ];
    let function = Function::start(&aws, &variables);
    let event = s3_event_in(&aws.bucket, &[&key]);
    let fails = |status, code| {
        *answer.lock().unwrap() = Some((status, code));
        let error = function.invoke(&event).error();
        let message = error["errorMessage"].as_str().unwrap().to_owned();
        (error["errorType"].as_str().unwrap().to_owned(), message)
    };
    let (error_type, message) = fails(403, "AccessDenied");
    assert_eq!(error_type, "ObjectAccessDenied");
    assert!(
        message.contains("sts:AssumeRole: AccessDenied: no; let the function's role assume"),
        "{message}"
    );
    let (error_type, message) = fails(503, "ServiceUnavailable");
    assert_eq!(error_type, "ObjectUnreadable", "{message}");
    *answer.lock().unwrap() = None;
    assert_eq!(function.invoke(&event).response()["Messages"], 1);
    let errors = function.stop();
    let logged = errors
        .iter()
        .filter(|line| line.to_string().contains("AssumeRole"));
    assert_eq!(logged.count(), 2, "{errors:?}");
}
