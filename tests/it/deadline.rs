//! What an invocation does with the time it has.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use billing_watch::{
    alert::Alert,
    cloudtrail::{ScanLimits, Sources},
    envelope::{DeliveryOutcome, Envelope, ErrorType, ObjectRef},
    ledger::{Entry, Ledger, LedgerError, LedgerStore, MemoryLedger, Tagged, Written},
    pipeline::{
        AlertSink, Invocation, LogBody, LogStore, Pipeline, Settings, SinkError, StoreError,
        Subscribers,
    },
    report::Report,
    rules::{Level, RulePack},
};
use bytes::Bytes;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{
    CONSOLE, TOPIC, assert_identities, block_on, log_file, log_key, now, record, record_with,
    s3_event,
};

const NEVER: Duration = Duration::from_hours(1);

/// Objects, a topic and a ledger, each as slow as a test wants.
#[derive(Default)]
pub(crate) struct Slow {
    /// Bodies by key, with the time that each chunk takes.
    objects: BTreeMap<String, Vec<(Duration, Vec<u8>)>>,
    publishing: Duration,
    claiming: Duration,
    /// Alerts that are refused before any is accepted.
    pub(crate) refusals: RefCell<usize>,
    /// Publications that the ledger fails to take before it takes any.
    pub(crate) ledger_failures: RefCell<usize>,
    /// Requests to the ledger.
    pub(crate) requests: RefCell<usize>,
    ledger: MemoryLedger,
    opened: RefCell<usize>,
    pub(crate) alerts: RefCell<Vec<Alert>>,
}

pub(crate) struct SlowBody(Vec<(Duration, Vec<u8>)>);

impl LogStore for &Slow {
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

impl AlertSink for &Slow {
    async fn publish(&self, alert: &Alert) -> Result<String, SinkError> {
        sleep(self.publishing).await;
        if *self.refusals.borrow() > 0 {
            *self.refusals.borrow_mut() -= 1;
            return Err(SinkError {
                message: "no".to_owned(),
                retryable: false,
            });
        }
        let mut alerts = self.alerts.borrow_mut();
        alerts.push(alert.clone());
        Ok(format!("message-{}", alerts.len()))
    }

    async fn subscribers(&self) -> Result<Subscribers, SinkError> {
        unreachable!("only a self-test asks")
    }
}

impl LedgerStore for &Slow {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        *self.requests.borrow_mut() += 1;
        self.ledger.read(key).await
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        *self.requests.borrow_mut() += 1;
        sleep(self.claiming).await;
        self.ledger.create(key, entry).await
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        *self.requests.borrow_mut() += 1;
        if entry.claim.is_none() && *self.ledger_failures.borrow() > 0 {
            *self.ledger_failures.borrow_mut() -= 1;
            return Err(LedgerError {
                message: "out of order".to_owned(),
            });
        }
        self.ledger.replace(key, tag, entry).await
    }
}

/// How an invocation went, and how many seconds it took.
pub(crate) struct Went {
    pub(crate) report: Report,
    outcomes: Vec<DeliveryOutcome>,
    seconds: f64,
}

impl Went {
    pub(crate) fn failures(&self) -> Vec<ErrorType> {
        let failures = self.outcomes.iter().flat_map(|outcome| &outcome.failures);
        failures.map(|failure| failure.error_type).collect()
    }
}

impl Slow {
    pub(crate) fn with(mut self, key: &str, chunks: &[(Duration, Vec<u8>)]) -> Self {
        self.objects.insert(key.to_owned(), chunks.to_vec());
        self
    }

    /// Handles all objects with so many seconds to go, or any number.
    pub(crate) fn handle(&self, seconds: Option<i64>) -> Went {
        let keys: Vec<&str> = self.objects.keys().map(String::as_str).collect();
        self.handle_event(&s3_event(&keys), seconds)
    }

    pub(crate) fn handle_event(&self, payload: &Value, seconds: Option<i64>) -> Went {
        block_on(async {
            let start = Instant::now();
            let settings = Settings {
                watched: Sources::only([CONSOLE]),
                minimum_level: Level::Medium,
                batch_alerts: false,
                withhold_values: true,
                limits: ScanLimits::default(),
            };
            let pack = RulePack::load(&[]).unwrap().pack;
            let ledger = Ledger::new(self, TOPIC);
            let clock = || now() + start.elapsed();
            let pipeline = Pipeline::new(self, self, ledger, pack, settings, clock);
            let invocation = Invocation {
                id: "invocation".to_owned(),
                deadline: seconds.map(|seconds| now() + SignedDuration::from_secs(seconds)),
            };
            let envelope = Envelope::parse(payload).unwrap();
            let (report, outcomes) = pipeline.handle(&envelope, &invocation).await;
            assert_identities(&report);
            Went {
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

impl Slow {
    /// Lets somebody else hold the claim on a record for a second.
    pub(crate) fn claimed_by_another(&self, id: &str) {
        let key = format!("2026/03/02/{id}.json");
        let until = now() + SignedDuration::from_secs(1);
        let other = Ledger::new(self, TOPIC);
        block_on(other.claim(&key, "other", false, now(), until)).unwrap();
    }
}

fn closure(id: &str) -> Vec<u8> {
    log_file(&[record("CloseAccount", id)])
}

fn close(actual: f64, expected: f64) -> bool {
    (actual - expected).abs() < 0.05
}

#[test]
fn an_object_that_never_comes_fails_in_time_and_its_sibling_alerts() {
    let slow = Slow::default()
        .with(&log_key("A"), &[(NEVER, closure("a"))])
        .with(&log_key("B"), &[(Duration::ZERO, closure("b"))]);
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::OutOfTime]);
    assert_eq!((went.report.scanned, went.report.published), (1, 1));
    assert!(close(went.seconds, 43.0), "{}", went.seconds);
}

#[test]
fn what_was_read_before_the_time_ran_out_alerts() {
    let whole = closure("a");
    let (first, second) = whole.split_at(whole.len() - 1);
    let chunks = [(Duration::ZERO, first.to_vec()), (NEVER, second.to_vec())];
    let slow = Slow::default().with(&log_key("A"), &chunks);
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::OutOfTime]);
    assert_eq!((went.report.failed, went.report.published), (1, 1));
}

#[test]
fn objects_that_time_does_not_reach_are_not_begun() {
    let mut slow = Slow::default();
    for number in 0..16 {
        let chunk = (Duration::from_secs(20), closure(&format!("e{number}")));
        slow = slow.with(&log_key(&format!("F{number:02}")), &[chunk]);
    }
    let went = slow.handle(Some(60));
    assert_eq!((went.report.scanned, went.report.failed), (8, 8));
    assert_eq!(*slow.opened.borrow(), 12);
    assert_eq!(went.failures(), [ErrorType::OutOfTime; 8]);
}

#[test]
fn without_a_deadline_nothing_is_cut() {
    let chunk = (Duration::from_mins(10), closure("a"));
    let slow = Slow::default().with(&log_key("A"), &[chunk]);
    let went = slow.handle(None);
    assert_eq!((went.report.scanned, went.report.published), (1, 1));
}

#[test]
fn a_short_deadline_is_enough_for_what_is_quick() {
    let chunk = (Duration::from_millis(900), closure("a"));
    let slow = Slow::default().with(&log_key("A"), &[chunk]);
    assert_eq!(slow.handle(Some(2)).report.published, 1);
    let chunk = (Duration::from_millis(1_100), closure("a"));
    let slow = Slow::default().with(&log_key("A"), &[chunk]);
    let went = slow.handle(Some(2));
    assert_eq!(went.failures(), [ErrorType::OutOfTime]);
    assert!(close(went.seconds, 1.0), "{}", went.seconds);
}

#[test]
fn a_claim_that_comes_too_late_is_not_used() {
    let mut slow = Slow::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    slow.claiming = NEVER;
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::OutOfTime]);
    assert_eq!(went.report.failed_findings, 1);
    assert!(close(went.seconds, 47.0), "{}", went.seconds);
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
fn no_alert_is_begun_whose_entry_could_come_too_late() {
    let mut slow = Slow::default().with(&log_key("A"), &[(Duration::ZERO, crowd())]);
    slow.publishing = Duration::from_secs(10);
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::OutOfTime]);
    // Begun at 0, 10, 20, 30 and 40 seconds; the next would have been at 50.
    assert_eq!((went.report.alerts, went.report.failed), (5, 1));
    assert!(close(went.seconds, 50.0), "{}", went.seconds);
    let entries = (0..3_000).filter_map(|number| slow.entry(&format!("id-{number:04}")));
    let published = entries.filter(|entry| entry.on(TOPIC).is_some());
    assert_eq!(published.count() as u64, went.report.published);
}

#[test]
fn a_claim_too_old_for_its_alert_is_given_up() {
    for (deadline, claiming, alerts) in [
        (None, 46_999, 1),
        (None, 47_000, 0),
        (Some(60), 46_999, 1),
        (Some(10), 6_499, 1),
    ] {
        let mut slow = Slow::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
        slow.claiming = Duration::from_millis(claiming);
        let went = slow.handle(deadline);
        assert_eq!(went.report.alerts, alerts, "{deadline:?} {claiming}");
        let claim = slow.entry("a").unwrap().claim;
        if alerts > 0 {
            assert_eq!(claim, None);
        } else {
            assert!(claim.unwrap().until < now(), "given up");
            assert_eq!(went.failures(), [ErrorType::OutOfTime]);
        }
    }
}

#[test]
fn a_topic_that_never_answers_is_given_up_before_the_deadline() {
    let mut slow = Slow::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    slow.publishing = NEVER;
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::AlertNotSent]);
    assert!(close(went.seconds, 59.0), "{}", went.seconds);
    // Nobody knows what became of the alert, and no time is left: the claim runs out by itself.
    let claim = slow.entry("a").unwrap().claim.unwrap();
    assert_eq!(claim.until, now() + SignedDuration::from_secs(65));
    let went = slow.handle_event(&json!({"action": "self-test"}), Some(60));
    assert_eq!(went.failures(), [ErrorType::AlertNotSent]);
    assert!(close(went.seconds, 59.0), "{}", went.seconds);
}

#[test]
fn the_claim_of_another_is_waited_for_as_long_as_time_allows() {
    let mut slow = Slow::default().with(&log_key("A"), &[(Duration::ZERO, closure("a"))]);
    let other = Ledger::new(&slow, TOPIC);
    let until = now() + SignedDuration::from_secs(30);
    block_on(other.claim("2026/03/02/a.json", "other", false, now(), until)).unwrap();
    for (deadline, seconds) in [(Some(60), 3.0), (None, 3.0), (Some(2), 1.3)] {
        let went = slow.handle(deadline);
        assert_eq!(went.failures(), [ErrorType::LedgerBusy], "{deadline:?}");
        assert_eq!(went.report.failed_findings, 1);
        assert!(close(went.seconds, seconds), "{}", went.seconds);
    }
    // One that runs out meanwhile is taken over.
    slow.ledger = MemoryLedger::default();
    let other = Ledger::new(&slow, TOPIC);
    let until = now() + SignedDuration::from_secs(1);
    block_on(other.claim("2026/03/02/a.json", "other", false, now(), until)).unwrap();
    let went = slow.handle(Some(60));
    assert_eq!((went.failures(), went.report.published), (vec![], 1));
}
