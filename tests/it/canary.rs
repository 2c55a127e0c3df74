//! The canary: whether its record passes, is late, never comes, comes twice, or meets a broken ledger.

use std::cell::{Cell, RefCell};

use billing_watch::{
    alert::Audience,
    cloudtrail::{ScanLimits, Sources},
    envelope::{Envelope, ErrorType},
    ledger::{
        Entry, Ledger, LedgerError, LedgerStore, MemoryLedgerStore, VersionedEntry, WriteOutcome,
    },
    pipeline::{CanaryCallError, CanarySettings, Pipeline, Settings, app_name},
    report::Report,
    rules::{Level, OptionalRules, RulePack},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{
    MemorySink, MemoryStore, block_on, gzip_log, invocation, log_key, now, record, s3_event, style,
    topic,
};

const ROLE: &str = "arn:aws:iam::999988887777:role/billing-watch";
const FIRST: &str = "0123456789abcdef";
const SECOND: &str = "fedcba9876543210";

/// A ledger's store that can be away.
struct Bucket<'a>(&'a World);

impl Bucket<'_> {
    fn check(&self) -> Result<(), LedgerError> {
        if self.0.is_away.get() {
            return Err(LedgerError::new("the bucket does not answer".to_owned()));
        }
        Ok(())
    }
}

impl LedgerStore for Bucket<'_> {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        self.check()?;
        self.0.entries.read(key).await
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        self.check()?;
        self.0.entries.create(key, entry).await
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        self.check()?;
        self.0.entries.replace(key, etag, entry).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        self.check()?;
        self.0.entries.list(prefix).await
    }
}

/// What outlives an invocation.
struct World {
    entries: MemoryLedgerStore,
    is_away: Cell<bool>,
    is_off: Cell<bool>,
    sink: MemorySink,
    minutes: Cell<i64>,
    /// The nonces that were called.
    calls: RefCell<Vec<String>>,
    /// Whether calls are refused.
    refuses: Cell<bool>,
}

impl World {
    fn new() -> Self {
        Self {
            entries: MemoryLedgerStore::default(),
            is_away: Cell::new(false),
            is_off: Cell::new(false),
            sink: MemorySink::default(),
            minutes: Cell::new(0),
            calls: RefCell::default(),
            refuses: Cell::new(false),
        }
    }

    fn now(&self) -> Timestamp {
        now() + SignedDuration::from_mins(self.minutes.get())
    }

    fn pipeline(
        &self,
        store: MemoryStore,
    ) -> Pipeline<MemoryStore, &MemorySink, Bucket<'_>, impl Fn() -> Timestamp> {
        let pack = RulePack::bundled(&OptionalRules::default());
        let settings = Settings {
            watched: Sources::only(pack.sources()),
            topics: vec![topic(Audience::People, Level::Medium)],
            batch_alerts: false,
            style: style(),
            limits: ScanLimits::default(),
            canary: (!self.is_off.get()).then(|| CanarySettings {
                role_arn: ROLE.to_owned(),
                within: SignedDuration::from_mins(60),
            }),
        };
        let ledger = Ledger::new(Bucket(self));
        Pipeline::new(store, &self.sink, ledger, pack, settings, || self.now())
    }

    /// Runs `{"action": "canary"}` at a minute. Returns `CanaryMissing` and the failure.
    fn canary(&self, minute: i64, nonce: &str) -> (Option<u64>, Option<ErrorType>) {
        self.minutes.set(minute);
        let call = async |nonce: &str| {
            self.calls.borrow_mut().push(nonce.to_owned());
            if self.refuses.get() {
                return Err(CanaryCallError {
                    remedy: "allow it",
                    source: "AccessDeniedException: no".into(),
                });
            }
            Ok(())
        };
        let pipeline = self.pipeline(MemoryStore::default());
        let mut invocation = invocation();
        invocation.deadline = None;
        let (report, outcomes) = block_on(pipeline.canary(nonce, &invocation, call));
        let failure = outcomes[0].failures.first();
        (
            report.canary_missing,
            failure.map(|failure| failure.error_type),
        )
    }

    /// Scans a log file with these records at a minute. Returns the report, and how the object failed.
    fn scan(&self, minute: i64, records: &[Value]) -> (Report, Option<ErrorType>) {
        self.minutes.set(minute);
        let key = log_key("Abcdefgh12345678");
        let mut store = MemoryStore::default();
        store.objects.insert(key.clone(), gzip_log(records));
        let envelope = Envelope::parse(&s3_event(&[&key])).unwrap();
        let mut invocation = invocation();
        invocation.deadline = None;
        let (report, outcomes) = block_on(self.pipeline(store).handle(&envelope, &invocation));
        let failure = outcomes[0].failures.first();
        (report, failure.map(|failure| failure.error_type))
    }

    /// The seconds of each canary that a scan met, and the findings beside them.
    fn met(&self, minute: i64, record: Value) -> (Vec<f64>, u64) {
        let (report, failure) = self.scan(minute, &[record]);
        assert_eq!(failure, None);
        (report.canary_delay_seconds, report.findings)
    }
}

/// The record of a canary's call, as CloudTrail writes it.
fn canary_record(nonce: &str) -> Value {
    json!({
        "eventID": format!("canary-{nonce}"),
        "eventTime": "2026-03-02T16:44:04Z",
        "eventSource": "account.amazonaws.com",
        "eventName": "ListRegions",
        "userIdentity": {
            "type": "AssumedRole",
            "arn": "arn:aws:sts::999988887777:assumed-role/billing-watch/billing-watch",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": ROLE}},
        },
        "userAgent": format!("aws-sdk-rust/1.3.9 os/linux lang/rust#1.95.0 {}", user_agent(nonce)),
        "recipientAccountId": "999988887777",
    })
}

fn user_agent(nonce: &str) -> String {
    format!("app/{}", app_name(nonce))
}

#[test]
fn a_canary_passes() {
    let world = World::new();
    assert_eq!(world.canary(0, FIRST), (Some(0), None));
    assert_eq!(world.met(6, canary_record(FIRST)), (vec![360.0], 0));
    // The next run finds nothing missing, and calls another one.
    assert_eq!(world.canary(60, SECOND), (Some(0), None));
    assert_eq!(*world.calls.borrow(), [FIRST, SECOND]);
    assert_eq!(world.met(65, canary_record(SECOND)), (vec![300.0], 0));
    assert_eq!(world.sink.alerts.borrow().len(), 0);
}

#[test]
fn a_late_canary_is_missing_until_it_comes_and_is_still_recognized() {
    let world = World::new();
    world.canary(0, FIRST);
    assert_eq!(world.canary(60, SECOND), (Some(1), None));
    // The answer of that run may be lost, so the next one says it again.
    assert_eq!(world.canary(61, FIRST), (Some(1), None));
    assert_eq!(world.met(70, canary_record(FIRST)), (vec![4200.0], 0));
    assert_eq!(world.canary(70, FIRST), (Some(0), None));
    assert_eq!(world.met(71, canary_record(SECOND)), (vec![660.0], 0));
    assert_eq!(world.canary(120, FIRST), (Some(0), None));
}

#[test]
fn a_canary_that_never_comes_is_missing_in_each_run() {
    let world = World::new();
    world.canary(0, FIRST);
    for run in 1..20 {
        let nonce = format!("{run:016x}");
        assert_eq!(world.canary(60 * run, &nonce), (Some(1), None));
    }
}

#[test]
fn a_canary_that_comes_twice_counts_once() {
    let world = World::new();
    world.canary(0, FIRST);
    assert_eq!(world.met(5, canary_record(FIRST)), (vec![300.0], 0));
    assert_eq!(world.met(6, canary_record(FIRST)), (vec![], 0));
}

#[test]
fn a_canary_that_is_still_expected_is_called_again() {
    let world = World::new();
    world.refuses.set(true);
    assert_eq!(
        world.canary(0, FIRST),
        (Some(0), Some(ErrorType::CanaryNotSent))
    );
    world.refuses.set(false);
    assert_eq!(world.canary(1, SECOND), (Some(0), None));
    assert_eq!(*world.calls.borrow(), [FIRST, FIRST]);
    assert_eq!(world.met(6, canary_record(FIRST)), (vec![360.0], 0));
}

#[test]
fn without_its_ledger_a_canary_is_not_called_and_its_record_fails_the_log_file() {
    let world = World::new();
    world.is_away.set(true);
    assert_eq!(
        world.canary(0, FIRST),
        (None, Some(ErrorType::LedgerUnavailable))
    );
    assert_eq!(world.calls.borrow().len(), 0);
    world.is_away.set(false);
    world.canary(1, FIRST);

    world.is_away.set(true);
    let (report, failure) = world.scan(6, &[canary_record(FIRST)]);
    assert_eq!(failure, Some(ErrorType::LedgerUnavailable));
    assert_eq!((report.scanned, report.failed, report.findings), (0, 1, 0));
    // The log file is delivered again.
    world.is_away.set(false);
    assert_eq!(world.met(8, canary_record(FIRST)), (vec![420.0], 0));
}

#[test]
fn a_canary_does_not_keep_other_records_from_alerting() {
    let world = World::new();
    world.canary(0, FIRST);
    let records = [
        record("CloseAccount", "a"),
        canary_record(FIRST),
        record("SetPayInformation", "b"),
    ];
    let (report, failure) = world.scan(5, &records);
    assert_eq!((failure, report.findings, report.published), (None, 2, 2));
    assert_eq!(report.canary_delay_seconds, [300.0]);
}

#[test]
fn no_other_call_passes_for_a_canary() {
    let other_role = "arn:aws:iam::999988887777:role/other";
    let changes = [
        (
            "another role",
            "/userIdentity/sessionContext/sessionIssuer/arn",
            json!(other_role),
        ),
        ("no role", "/userIdentity/sessionContext", json!(null)),
        (
            "no nonce",
            "/userAgent",
            json!("aws-sdk-rust/1.3.9 os/linux"),
        ),
        (
            "a nonce that was never sent",
            "/userAgent",
            json!(user_agent(SECOND)),
        ),
        ("half a nonce", "/userAgent", json!(user_agent(&FIRST[..8]))),
        (
            "a nonce that goes on",
            "/userAgent",
            json!(user_agent(&format!("{FIRST}0"))),
        ),
        (
            "the words elsewhere",
            "/userAgent",
            json!(format!("x{}", user_agent(FIRST))),
        ),
        ("another event", "/eventName", json!("GetRegionOptStatus")),
    ];
    for (what, place, value) in changes {
        let world = World::new();
        world.canary(0, FIRST);
        let mut record = canary_record(FIRST);
        *record.pointer_mut(place).unwrap() = value;
        // It is an ordinary read, below the minimum level.
        assert_eq!(world.met(5, record), (vec![], 1), "{what}");
        assert_eq!(world.canary(60, SECOND), (Some(1), None), "{what}");
    }
}

#[test]
fn a_canary_that_is_off_is_refused_and_its_record_is_an_ordinary_read() {
    let world = World::new();
    world.canary(0, FIRST);
    world.is_off.set(true);
    assert_eq!(world.canary(1, SECOND), (None, Some(ErrorType::CanaryOff)));
    assert_eq!(world.met(5, canary_record(FIRST)), (vec![], 1));
}

#[test]
fn the_metrics_of_a_canary_stand_only_where_they_belong() {
    let world = World::new();
    world.canary(0, FIRST);
    let line = |report: &Report| billing_watch::metrics::emf_line(report, "watch", false, now());
    let (report, _) = world.scan(6, &[canary_record(FIRST)]);
    assert!(line(&report).contains("\"CanaryDelay\":[360.0]"));
    assert!(!line(&report).contains("CanaryMissing"));
    let report = Report {
        canary_missing: Some(1),
        ..Report::default()
    };
    assert!(line(&report).contains("\"CanaryMissing\":1"));
    assert!(!line(&report).contains("CanaryDelay"));
}
