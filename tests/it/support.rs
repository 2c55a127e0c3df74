//! Log files, records, and stores and sinks that live in memory.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io::Write as _,
    sync::Arc,
};

use billing_watch::{
    alert::{AccountNames, Audience, Message, Style},
    cloudtrail::{Candidates, Scan, ScanError, ScanLimits, Sources, Step},
    envelope::{Envelope, ObjectRef},
    ledger::{Ledger, MemoryLedgerStore},
    pipeline::{
        AlertSink, Invocation, LogBody, LogStore, Pipeline, Settings, SinkError, StoreError,
        StoreErrorKind, Subscriptions, Topic,
    },
    report::Report,
    rules::{Level, OptionalRules, RuleFile, RulePack},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(crate) const BUCKET: &str = "example-trail-logs";
pub(crate) const CONSOLE: &str = "billingconsole.amazonaws.com";

/// The topic for people.
pub(crate) const TOPIC: &str = "arn:aws:sns:us-east-1:999988887777:alerts";
/// The topic for machines.
pub(crate) const FINDING_TOPIC: &str = "arn:aws:sns:us-east-1:999988887777:findings";
/// The topic for chat.
pub(crate) const CHAT_TOPIC: &str = "arn:aws:sns:us-east-1:999988887777:chat";

/// A topic with its audience.
pub(crate) fn topic(audience: Audience, minimum_level: Level) -> Topic {
    let arn = match audience {
        Audience::People => TOPIC,
        Audience::Chat => CHAT_TOPIC,
        Audience::Machines => FINDING_TOPIC,
    };
    Topic {
        arn: arn.to_owned(),
        audience,
        minimum_level,
    }
}

/// Alerts as they look by default.
pub(crate) fn style() -> Style {
    Style {
        withhold_values: true,
        account_names: AccountNames::default(),
        time_zone: None,
    }
}

/// An invocation without end.
pub(crate) fn invocation() -> Invocation {
    Invocation {
        id: "test-invocation".to_owned(),
        deadline: None,
    }
}

/// The time of every test: seven minutes after the records of [`record`].
pub(crate) fn now() -> Timestamp {
    "2026-03-02T16:51:04Z".parse().unwrap()
}

/// The key of a log file as CloudTrail names it; `name` makes it unique.
pub(crate) fn log_key(name: &str) -> String {
    format!(
        "AWSLogs/o-exampleorg1/111122223333/CloudTrail/us-east-1/2026/03/02/\
         111122223333_CloudTrail_us-east-1_20260302T1650Z_{name}.json.gz"
    )
}

/// A billing console record by the root user.
pub(crate) fn record(event_name: &str, event_id: &str) -> Value {
    json!({
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "Root",
            "principalId": "111122223333",
            "arn": "arn:aws:iam::111122223333:root",
            "accountId": "111122223333",
            "accessKeyId": "ASIAEXAMPLEROOTKEY00",
        },
        "eventTime": "2026-03-02T16:44:04Z",
        "eventSource": CONSOLE,
        "eventName": event_name,
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.7",
        "userAgent": "Mozilla/5.0",
        "requestParameters": null,
        "responseElements": null,
        "eventID": event_id,
        "readOnly": false,
        "eventType": "AwsConsoleAction",
        "recipientAccountId": "111122223333",
    })
}

/// [`record`] with members replaced or added.
pub(crate) fn record_with(event_name: &str, event_id: &str, members: Value) -> Value {
    let mut record = record(event_name, event_id);
    let Value::Object(members) = members else {
        panic!("members must be an object");
    };
    record.as_object_mut().unwrap().extend(members);
    record
}

/// Who acts in most tests that need a second actor.
pub(crate) fn finance_role() -> Value {
    json!({
        "type": "AssumedRole",
        "principalId": "AROAEXAMPLE:alice",
        "arn": "arn:aws:sts::111122223333:assumed-role/Finance/alice",
        "accountId": "111122223333",
        "accessKeyId": "ASIAEXAMPLEFINANCE00",
        "sessionContext": {"attributes": {"mfaAuthenticated": "true"}},
    })
}

/// A record that no rule is about.
pub(crate) fn noise(number: usize) -> Value {
    json!({
        "eventVersion": "1.08",
        "eventTime": "2026-03-02T16:44:04Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "eventID": format!("noise-{number}"),
        "recipientAccountId": "111122223333",
    })
}

pub(crate) fn log_file(records: &[Value]) -> Vec<u8> {
    json!({"Records": records}).to_string().into_bytes()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn gzip_log(records: &[Value]) -> Vec<u8> {
    gzip(&log_file(records))
}

/// What a scan gave.
#[derive(Debug, PartialEq)]
pub(crate) struct Scanned {
    pub(crate) records: Vec<Value>,
    pub(crate) end: Result<(), ScanError>,
}

/// Runs a scan over `body` in pieces of the given sizes, over and over.
pub(crate) fn run_scan(mut scan: Scan, body: &[u8], sizes: &[usize]) -> Scanned {
    let mut chunks = VecDeque::new();
    let mut sizes = sizes.iter().cycle();
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        let size = (*sizes.next().unwrap_or(&rest.len())).clamp(1, rest.len());
        chunks.push_back(rest.split_to(size));
    }
    let mut records = Vec::new();
    let end = loop {
        match scan.next_step() {
            Ok(Step::Record(record)) => records.push(record.as_value().clone()),
            Ok(Step::NeedInput) => match chunks.pop_front() {
                Some(chunk) => scan.feed(chunk),
                None => scan.end_of_input(),
            },
            Ok(Step::Done) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Scanned { records, end }
}

/// Scans with the probe and without, asserts that both agree, and gives their result.
pub(crate) fn scan_both(
    body: &[u8],
    candidates: &Candidates,
    limits: ScanLimits,
    sizes: &[usize],
) -> Scanned {
    let candidates = Arc::new(candidates.clone());
    let with_probe = run_scan(Scan::new(Arc::clone(&candidates), limits), body, sizes);
    let without = run_scan(Scan::without_probe(candidates, limits), body, sizes);
    assert_eq!(with_probe, without, "the probe must change nothing");
    without
}

/// Objects in memory; reading can be made to fail by name.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) objects: BTreeMap<String, Vec<u8>>,
    pub(crate) opened: RefCell<Vec<String>>,
}

pub(crate) struct MemoryBody(VecDeque<Bytes>);

impl LogStore for MemoryStore {
    type Body = MemoryBody;

    async fn open(&self, object: &ObjectRef) -> Result<MemoryBody, StoreError> {
        self.opened.borrow_mut().push(object.key.clone());
        let body = self.objects.get(&object.key).ok_or_else(|| StoreError {
            kind: StoreErrorKind::Missing,
            remedy: "",
            source: "NoSuchKey".into(),
        })?;
        let chunks = body.chunks(4096).map(Bytes::copy_from_slice).collect();
        Ok(MemoryBody(chunks))
    }
}

impl LogBody for MemoryBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.pop_front())
    }
}

/// Alerts in memory; the first `refusals` are refused.
pub(crate) struct MemorySink {
    /// What the topic for people got.
    pub(crate) alerts: RefCell<Vec<Message>>,
    /// What all topics got, with their ARNs.
    pub(crate) messages: RefCell<Vec<(String, Message)>>,
    /// Topics that refuse everything.
    pub(crate) broken: RefCell<Vec<&'static str>>,
    pub(crate) refusals: RefCell<usize>,
    /// An error says whether it is retryable.
    pub(crate) subscriptions: Result<Subscriptions, bool>,
}

impl Default for MemorySink {
    fn default() -> Self {
        Self {
            alerts: RefCell::default(),
            messages: RefCell::default(),
            broken: RefCell::default(),
            refusals: RefCell::default(),
            subscriptions: Ok(Subscriptions {
                confirmed: 1,
                pending: 0,
            }),
        }
    }
}

impl AlertSink for &MemorySink {
    async fn publish(&self, topic: &Topic, message: &Message) -> Result<String, SinkError> {
        let is_broken = self.broken.borrow().contains(&&*topic.arn);
        if is_broken || *self.refusals.borrow() > 0 {
            if !is_broken {
                *self.refusals.borrow_mut() -= 1;
            }
            return Err(SinkError {
                retryable: false,
                remedy: "set ALERT_TOPIC_ARN to a topic that exists",
                source: "NotFound: no such topic".into(),
            });
        }
        if topic.audience == Audience::People {
            self.alerts.borrow_mut().push(message.clone());
        }
        let mut messages = self.messages.borrow_mut();
        messages.push((topic.arn.clone(), message.clone()));
        Ok(format!("message-{}", messages.len()))
    }

    async fn subscriptions(&self, _: &Topic) -> Result<Subscriptions, SinkError> {
        self.subscriptions.map_err(|retryable| SinkError {
            retryable,
            remedy: "allow it",
            source: "AuthorizationError: no".into(),
        })
    }
}

/// A whole pipeline in memory.
pub(crate) struct Harness {
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<RuleFile>,
    pub(crate) store: MemoryStore,
    pub(crate) sink: MemorySink,
}

pub(crate) type MemoryPipeline<'a> =
    Pipeline<MemoryStore, &'a MemorySink, MemoryLedgerStore, fn() -> Timestamp>;

impl Harness {
    pub(crate) fn new() -> Self {
        Self {
            settings: Settings {
                watched: Sources::only([CONSOLE]),
                topics: vec![topic(Audience::People, Level::Medium)],
                batch_alerts: false,
                style: style(),
                limits: ScanLimits::default(),
                canary: None,
            },
            rules: Vec::new(),
            store: MemoryStore::default(),
            sink: MemorySink::default(),
        }
    }

    pub(crate) fn with_object(mut self, key: &str, body: Vec<u8>) -> Self {
        self.store.objects.insert(key.to_owned(), body);
        self
    }

    /// Takes the objects out of the harness into a pipeline that can be run again and again.
    pub(crate) fn pipeline(&mut self) -> MemoryPipeline<'_> {
        let store = std::mem::take(&mut self.store);
        pipeline_over(store, &self.sink, &self.rules, &self.settings)
    }

    /// The same over a sink of the caller's.
    pub(crate) fn pipeline_to<'a>(&mut self, sink: &'a MemorySink) -> MemoryPipeline<'a> {
        let store = std::mem::take(&mut self.store);
        pipeline_over(store, sink, &self.rules, &self.settings)
    }

    /// Handles one S3 event that names `keys`; gives the report, the reply and the alerts.
    pub(crate) fn run(mut self, keys: &[&str]) -> RunOutcome {
        let envelope = s3_event(keys);
        let (report, reply) = run_envelope(&self.pipeline(), &envelope);
        RunOutcome {
            report,
            reply,
            alerts: self.sink.alerts.into_inner(),
        }
    }
}

fn pipeline_over<'a>(
    store: MemoryStore,
    sink: &'a MemorySink,
    rules: &[RuleFile],
    settings: &Settings,
) -> MemoryPipeline<'a> {
    let pack = RulePack::load(&OptionalRules::default(), rules)
        .unwrap()
        .pack;
    let ledger = Ledger::new(MemoryLedgerStore::default());
    Pipeline::new(store, sink, ledger, pack, settings.clone(), now)
}

pub(crate) struct RunOutcome {
    pub(crate) report: Report,
    pub(crate) reply: Result<Value, billing_watch::envelope::InvocationError>,
    pub(crate) alerts: Vec<Message>,
}

pub(crate) fn run_envelope(
    pipeline: &MemoryPipeline<'_>,
    payload: &Value,
) -> (
    Report,
    Result<Value, billing_watch::envelope::InvocationError>,
) {
    let envelope = Envelope::parse(payload).unwrap();
    let (report, outcomes) = block_on(pipeline.handle(&envelope, &invocation()));
    assert_identities(&report);
    let reply = envelope.respond(&outcomes, json!(report));
    (report, reply)
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// The sums that hold for every report.
pub(crate) fn assert_identities(report: &Report) {
    assert_eq!(
        report.objects,
        report.scanned + report.skipped + report.failed,
        "{report:?}"
    );
    assert_eq!(
        report.direct_events,
        report.direct_scanned + report.direct_skipped + report.direct_failed,
        "{report:?}"
    );
    assert_eq!(
        report.findings,
        report.below_level
            + report.suppressed
            + report.unwatched
            + report.result_only
            + report.duplicate
            + report.published
            + report.failed_findings,
        "{report:?}"
    );
}

/// An S3 notification of newly created objects.
pub(crate) fn s3_event(keys: &[&str]) -> Value {
    s3_event_in(BUCKET, keys)
}

/// An S3 notification of newly created objects in any bucket.
pub(crate) fn s3_event_in(bucket: &str, keys: &[impl AsRef<str>]) -> Value {
    let records: Vec<Value> = keys
        .iter()
        .map(|key| {
            json!({
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2026-03-02T16:50:58.123Z",
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": {"name": bucket},
                    "object": {"key": form_encode(key.as_ref()), "size": 1024},
                },
            })
        })
        .collect();
    json!({"Records": records})
}

/// An SQS batch in which each message tells of one object, and has its key for an id.
pub(crate) fn queue_event_in(bucket: &str, keys: &[impl AsRef<str>]) -> Value {
    let body = |key| s3_event_in(bucket, std::slice::from_ref(key)).to_string();
    let messages: Vec<(&str, String)> = keys.iter().map(|key| (key.as_ref(), body(key))).collect();
    queue_of(&messages)
}

/// A record as `EventBridge` sends it.
pub(crate) fn direct_event(record: &Value) -> Value {
    json!({
        "version": "0",
        "id": "12345678-1234-1234-1234-123456789012",
        "detail-type": "AWS Console Action via CloudTrail",
        "source": "aws.billingconsole",
        "account": record["recipientAccountId"],
        "time": record["eventTime"],
        "region": record["awsRegion"],
        "resources": [],
        "detail": record,
    })
}

/// An SQS batch of messages, by id and body.
pub(crate) fn queue_of(messages: &[(&str, String)]) -> Value {
    let messages: Vec<Value> = messages
        .iter()
        .map(|(id, body)| {
            json!({
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:999988887777:direct",
                "messageId": id,
                "body": body,
            })
        })
        .collect();
    json!({"Records": messages})
}

/// As S3 encodes keys in notifications.
pub(crate) fn form_encode(key: &str) -> String {
    key.bytes()
        .map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' | b'*' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
