//! What an invocation does with the time it has.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use billing_watch::{
    alert::{Audience, Escaped, Message},
    cloudtrail::{Record, ScanLimits, Sources},
    envelope::{DeliveryOutcome, Envelope, ErrorType, ObjectRef},
    ledger::{
        ClaimRequest, Entry, Ledger, LedgerError, LedgerStore, MemoryLedgerStore, RecordId,
        VersionedEntry, WriteOutcome,
    },
    pipeline::{
        AlertSink, Invocation, LogBody, LogStore, Pipeline, Settings, SinkError, StoreError,
        Subscriptions, Topic,
    },
    report::Report,
    rules::{Level, OptionalRules, RulePack},
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    CONSOLE, TOPIC, assert_identities, block_on, log_file, log_key, now, record, record_with,
    s3_event, style, topic,
};

pub(crate) const NEVER: Duration = Duration::from_hours(1);

/// Objects, a topic and a ledger, each as slow as a test wants.
#[derive(Default)]
pub(crate) struct SlowStores {
    /// Bodies by key, with the time that each chunk takes.
    objects: BTreeMap<String, Vec<(Duration, Vec<u8>)>>,
    pub(crate) publishing: Duration,
    claiming: Duration,
    /// Alerts that are refused before any is accepted.
    pub(crate) refusals: RefCell<usize>,
    /// Publications that the ledger fails to take before it takes any.
    pub(crate) ledger_failures: RefCell<usize>,
    /// Requests to the ledger.
    pub(crate) requests: RefCell<usize>,
    ledger: MemoryLedgerStore,
    opened: RefCell<usize>,
    pub(crate) alerts: RefCell<Vec<Message>>,
}

pub(crate) struct SlowBody(Vec<(Duration, Vec<u8>)>);

impl LogStore for &SlowStores {
    type Body = SlowBody;

    async fn open(&self, object: &ObjectRef) -> Result<SlowBody, StoreError> {
        *self.opened.borrow_mut() += 1;
        let mut chunks = self.objects[&object.key].clone();
        chunks.reverse();
        Ok(SlowBody(chunks))
    }
}

impl LogBody for SlowBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some((time, bytes)) = self.0.pop() else {
            return Ok(None);
        };
        sleep(time).await;
        Ok(Some(bytes.into()))
    }
}

impl AlertSink for &SlowStores {
    async fn publish(&self, _: &Topic, message: &Message) -> Result<String, SinkError> {
        sleep(self.publishing).await;
        if *self.refusals.borrow() > 0 {
            *self.refusals.borrow_mut() -= 1;
            return Err(SinkError {
                retryable: false,
                remedy: "",
                source: "no".into(),
            });
        }
        let mut alerts = self.alerts.borrow_mut();
        alerts.push(message.clone());
        Ok(format!("message-{}", alerts.len()))
    }

    async fn subscriptions(&self, _: &Topic) -> Result<Subscriptions, SinkError> {
        unreachable!("only a self-test asks")
    }
}

impl LedgerStore for &SlowStores {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        *self.requests.borrow_mut() += 1;
        self.ledger.read(key).await
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        *self.requests.borrow_mut() += 1;
        sleep(self.claiming).await;
        self.ledger.create(key, entry).await
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        *self.requests.borrow_mut() += 1;
        if entry.claim.is_none() && *self.ledger_failures.borrow() > 0 {
            *self.ledger_failures.borrow_mut() -= 1;
            return Err(LedgerError {
                remedy: "allow s3:PutObject",
                source: Some("AccessDenied: no".into()),
                ..LedgerError::new(format!("failed to write {key}"))
            });
        }
        self.ledger.replace(key, etag, entry).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        self.ledger.list(prefix).await
    }
}

/// How an invocation ended, and how many seconds it took.
pub(crate) struct Handled {
    pub(crate) report: Report,
    outcomes: Vec<DeliveryOutcome>,
    pub(crate) seconds: f64,
}

impl Handled {
    pub(crate) fn messages(&self) -> Vec<&str> {
        let failures = self.outcomes.iter().flat_map(|outcome| &outcome.failures);
        failures.map(|failure| failure.message.as_str()).collect()
    }

    pub(crate) fn failures(&self) -> Vec<ErrorType> {
        let failures = self.outcomes.iter().flat_map(|outcome| &outcome.failures);
        failures.map(|failure| failure.error_type).collect()
    }
}

impl SlowStores {
    pub(crate) fn with(mut self, key: &str, chunks: &[(Duration, Vec<u8>)]) -> Self {
        self.objects.insert(key.to_owned(), chunks.to_vec());
        self
    }

    /// Handles all objects with so many seconds to go, or any number.
    pub(crate) fn handle(&self, seconds: Option<i64>) -> Handled {
        let keys: Vec<&str> = self.objects.keys().map(String::as_str).collect();
        self.handle_event(&s3_event(&keys), seconds)
    }

    pub(crate) fn handle_event(&self, payload: &Value, seconds: Option<i64>) -> Handled {
        block_on(async {
            let start = Instant::now();
            let settings = Settings {
                watched: Sources::only([CONSOLE]),
                topics: vec![topic(Audience::People, Level::Medium)],
                batch_alerts: false,
                style: style(),
                limits: ScanLimits::default(),
                canary: None,
            };
            let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
            let ledger = Ledger::new(self);
            let clock = || now() + start.elapsed();
            let pipeline = Pipeline::new(self, self, ledger, pack, settings, clock);
            let invocation = Invocation {
                id: "invocation".to_owned(),
                deadline: seconds.map(|seconds| now() + SignedDuration::from_secs(seconds)),
            };
            let envelope = Envelope::parse(payload).unwrap();
            let (report, outcomes) = pipeline.handle(&envelope, &invocation).await;
            assert_identities(&report);
            Handled {
                report,
                outcomes,
                seconds: start.elapsed().as_secs_f64(),
            }
        })
    }

    pub(crate) fn entry(&self, id: &str) -> Option<Entry> {
        let key = format!("2026/03/02/{id}.json");
        let tagged = block_on(self.ledger.read(&key)).unwrap()?;
        Some(tagged.entry)
    }
}

impl SlowStores {
    /// Lets somebody else hold the claim on a record for a second.
    pub(crate) fn claimed_by_another(&self, id: &str) {
        self.claimed_until(id, now() + SignedDuration::from_secs(1));
    }

    fn claimed_until(&self, id: &str, until: Timestamp) {
        let record = RecordId::of(&Record::from_value(record("CloseAccount", id)));
        let log_file = Escaped::name("another file", 100);
        let other = Ledger::new(self);
        block_on(other.claim(&claim_request(&record, &log_file, until))).unwrap();
    }
}

/// The claim of somebody else.
fn claim_request<'a>(
    record: &'a RecordId,
    log_file: &'a Escaped,
    expires_at: Timestamp,
) -> ClaimRequest<'a> {
    ClaimRequest {
        record,
        topics: &[TOPIC],
        log_file: Some(log_file),
        invocation: "other",
        read_first: false,
        now: now(),
        expires_at,
    }
}

pub(crate) fn closure(id: &str) -> Vec<u8> {
    log_file(&[record("CloseAccount", id)])
}

pub(crate) fn close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() < 0.05
}

#[test]
fn an_object_that_never_arrives_fails_before_the_deadline_and_the_other_alerts() {
    let stores = SlowStores::default()
        .with(&log_key("A"), &[(NEVER, closure("a"))])
        .with(&log_key("B"), &[(Duration::ZERO, closure("b"))]);
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
    assert_eq!((handled.report.scanned, handled.report.published), (1, 1));
    assert!(close(handled.seconds, 43.0), "{}", handled.seconds);
}

#[test]
fn records_read_before_the_deadline_alert() {
    let whole = closure("a");
    let (first, second) = whole.split_at(whole.len() - 1);
    let chunks = [(Duration::ZERO, first.to_vec()), (NEVER, second.to_vec())];
    let stores = SlowStores::default().with(&log_key("A"), &chunks);
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
    assert_eq!((handled.report.failed, handled.report.published), (1, 1));
}

#[test]
fn objects_are_not_opened_after_reading_stops() {
    let mut stores = SlowStores::default();
    for number in 0..160 {
        let chunk = (Duration::from_secs(20), closure(&format!("e{number}")));
        stores = stores.with(&log_key(&format!("F{number:03}")), &[chunk]);
    }
    let handled = stores.handle(Some(60));
    assert_eq!((handled.report.scanned, handled.report.failed), (100, 60));
    assert_eq!(*stores.opened.borrow(), 150);
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded; 60]);
}

#[test]
fn without_a_deadline_reading_does_not_stop() {
    let chunk = (Duration::from_mins(10), closure("a"));
    let stores = SlowStores::default().with(&log_key("A"), &[chunk]);
    let handled = stores.handle(None);
    assert_eq!((handled.report.scanned, handled.report.published), (1, 1));
}

#[test]
fn a_short_deadline_suffices_for_a_quick_object() {
    let chunk = (Duration::from_millis(900), closure("a"));
    let stores = SlowStores::default().with(&log_key("A"), &[chunk]);
    assert_eq!(stores.handle(Some(2)).report.published, 1);
    let chunk = (Duration::from_millis(1_100), closure("a"));
    let stores = SlowStores::default().with(&log_key("A"), &[chunk]);
    let handled = stores.handle(Some(2));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
    assert!(close(handled.seconds, 1.0), "{}", handled.seconds);
}

#[test]
fn a_claim_acquired_too_late_is_not_used() {
    let mut stores = SlowStores::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    stores.claiming = NEVER;
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
    assert_eq!(handled.report.failed_findings, 1);
    assert!(close(handled.seconds, 47.0), "{}", handled.seconds);
}

/// Findings of one actor that come to more than eight messages.
pub(crate) fn crowd() -> Vec<u8> {
    let padding = json!({"requestParameters": {"city": "x".repeat(1_000)}});
    let records: Vec<Value> = (0..3_000)
        .map(|number| {
            record_with(
                "SetContactAddress",
                &format!("id-{number:04}"),
                padding.clone(),
            )
        })
        .collect();
    log_file(&records)
}

#[test]
fn no_alert_is_begun_without_time_to_record_it() {
    let mut stores = SlowStores::default().with(&log_key("A"), &[(Duration::ZERO, crowd())]);
    stores.publishing = Duration::from_secs(10);
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
    // Begun at 0, 10, 20, 30 and 40 seconds; the next would have been at 50.
    assert_eq!((handled.report.messages, handled.report.failed), (5, 1));
    assert!(close(handled.seconds, 50.0), "{}", handled.seconds);
    let entries = (0..3_000).filter_map(|number| stores.entry(&format!("id-{number:04}")));
    let published = entries.filter(|entry| entry.publication_on(TOPIC).is_some());
    assert_eq!(published.count() as u64, handled.report.published);
}

#[test]
fn a_claim_too_old_for_its_alert_is_released() {
    for (deadline, claiming, alerts) in [
        (None, 46_999, 1),
        (None, 47_000, 0),
        (Some(60), 46_999, 1),
        (Some(10), 6_499, 1),
    ] {
        let mut stores =
            SlowStores::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
        stores.claiming = Duration::from_millis(claiming);
        let handled = stores.handle(deadline);
        assert_eq!(handled.report.messages, alerts, "{deadline:?} {claiming}");
        let claim = stores.entry("a").unwrap().claim;
        if alerts > 0 {
            assert_eq!(claim, None);
        } else {
            assert!(claim.unwrap().expires_at < now(), "given up");
            assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded]);
        }
    }
}

#[test]
fn a_topic_that_never_answers_fails_before_the_deadline() {
    let mut stores = SlowStores::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    stores.publishing = NEVER;
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::AlertNotSent]);
    assert!(close(handled.seconds, 59.0), "{}", handled.seconds);
    // Nobody knows what became of the alert, and no time is left: the claim runs out by itself.
    let claim = stores.entry("a").unwrap().claim.unwrap();
    assert_eq!(claim.expires_at, now() + SignedDuration::from_secs(65));
    let handled = stores.handle_event(&json!({"action": "self-test"}), Some(60));
    assert_eq!(handled.failures(), [ErrorType::AlertNotSent]);
    assert!(close(handled.seconds, 59.0), "{}", handled.seconds);
}

#[test]
fn the_sender_waits_for_another_invocations_claim_as_long_as_time_allows() {
    let mut stores = SlowStores::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    stores.claimed_until("a", now() + SignedDuration::from_secs(30));
    for (deadline, seconds) in [(Some(60), 3.0), (None, 3.0), (Some(2), 1.3)] {
        let handled = stores.handle(deadline);
        assert_eq!(
            handled.failures(),
            [ErrorType::ClaimedElsewhere],
            "{deadline:?}"
        );
        assert_eq!(handled.report.failed_findings, 1);
        assert!(close(handled.seconds, seconds), "{}", handled.seconds);
    }
    // One that runs out meanwhile is taken over.
    stores.ledger = MemoryLedgerStore::default();
    stores.claimed_by_another("a");
    let handled = stores.handle(Some(60));
    assert_eq!((handled.failures(), handled.report.published), (vec![], 1));
}
