//! The ledger's rules: who may alert on a record, and when.

use std::cell::Cell;

use billing_watch::{
    alert::{Context, Escaped, FindingContent, RuleContents, Summary},
    cloudtrail::Record,
    envelope::ObjectRef,
    ledger::{
        Archive, ArchivedMessage, Claim, ClaimOutcome, ClaimRequest, Entry, Lease, Ledger,
        LedgerError, LedgerStore, MemoryLedgerStore, Publication, PublicationOutcome, RecordId,
        VersionedEntry, WriteOutcome,
    },
    rules::{Finding, OptionalRules, RulePack},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{TOPIC, block_on, now, record, style};

const KEY: &str = "2026/03/02/e.json";
const OTHER_TOPIC: &str = "arn:aws:sns:us-east-1:999988887777:others";

static LOG_FILE: std::sync::OnceLock<Escaped> = std::sync::OnceLock::new();

fn in_a_minute() -> Timestamp {
    now() + SignedDuration::from_secs(65)
}

fn archive() -> Archive {
    let object = ObjectRef {
        bucket: "logs".to_owned(),
        key: "k".to_owned(),
        version_id: None,
    };
    let style = style();
    let context = Context {
        object: Some(&object),
        file_account: None,
        backfill: false,
        now: now(),
        style: &style,
    };
    let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
    let record = Record::from_value(record("CloseAccount", "e"));
    let rules = pack.evaluate(&record, now()).unwrap().rules;
    let finding = Finding { record, rules };
    let words = FindingContent::of(&finding, &context, &mut RuleContents::default(), false);
    Archive {
        log_file: Some(log_file()),
        finding: Summary::of(&words),
        message: ArchivedMessage::InEntry("other".to_owned()),
    }
}

/// A memory that can lose the answers of writes and serve several ledgers.
#[derive(Default)]
struct Shared {
    memory: MemoryLedgerStore,
    /// Writes yet to come that take place and are answered as if somebody else had been faster.
    lost_answers: Cell<usize>,
    /// Whether writes fail.
    broken: Cell<bool>,
    requests: Cell<usize>,
    invocations: Cell<usize>,
}

impl Shared {
    fn answer(&self, written: WriteOutcome) -> Result<WriteOutcome, LedgerError> {
        self.requests.set(self.requests.get() + 1);
        if self.broken.get() {
            return Err(LedgerError::new("out of order".to_owned()));
        }
        let lost = self.lost_answers.get();
        self.lost_answers.set(lost.saturating_sub(1));
        Ok(if lost > 0 {
            WriteOutcome::PreconditionFailed
        } else {
            written
        })
    }
}

impl LedgerStore for &Shared {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        self.requests.set(self.requests.get() + 1);
        self.memory.read(key).await
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        self.answer(self.memory.create(key, entry).await?)
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        self.answer(self.memory.replace(key, etag, entry).await?)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        self.memory.list(prefix).await
    }
}

impl Shared {
    fn ledger(&self) -> Ledger<&Self> {
        Ledger::new(self)
    }

    /// The answer to a new invocation's claim.
    fn claim(&self, now: Timestamp) -> ClaimOutcome {
        self.invocations.set(self.invocations.get() + 1);
        let invocation = format!("invocation-{}", self.invocations.get());
        let record = id(KEY);
        let request = ClaimRequest {
            invocation: &invocation,
            now,
            expires_at: now + SignedDuration::from_secs(65),
            ..request(&record)
        };
        block_on(self.ledger().claim(&request)).unwrap().outcome
    }

    /// A claim of a new invocation.
    fn acquire(&self, now: Timestamp) -> Claim {
        acquired(self.claim(now))
    }

    fn record(&self, claim: &Claim, message_id: &str) -> PublicationOutcome {
        self.try_record(claim, TOPIC, message_id).unwrap()
    }

    fn try_record(
        &self,
        claim: &Claim,
        topic: &str,
        message_id: &str,
    ) -> Result<PublicationOutcome, LedgerError> {
        let publication = publication(topic, message_id);
        block_on(
            self.ledger()
                .record_publications(&mut claim.clone(), &[publication], true),
        )
    }

    fn entry(&self) -> Entry {
        block_on(self.memory.read(KEY)).unwrap().unwrap().entry
    }
}

fn log_file() -> Escaped {
    serde_json::from_value(json!("s3://logs/k")).unwrap()
}

fn publication(topic: &str, message_id: &str) -> Publication {
    Publication {
        topic: topic.to_owned(),
        message_id: message_id.to_owned(),
        accepted_at: now(),
        archive: Some(Box::new(archive())),
    }
}

/// The identity of the record that has this key.
fn id(key: &str) -> RecordId {
    let name = key.rsplit('/').next().unwrap().trim_end_matches(".json");
    let id = RecordId::of(&Record::from_value(record("CloseAccount", name)));
    assert!(id.key().ends_with(&format!("/{name}.json")));
    id
}

fn request(record: &RecordId) -> ClaimRequest<'_> {
    ClaimRequest {
        record,
        topics: &[TOPIC],
        log_file: Some(LOG_FILE.get_or_init(log_file)),
        invocation: "i",
        read_first: false,
        now: now(),
        expires_at: in_a_minute(),
    }
}

fn acquired(outcome: ClaimOutcome) -> Claim {
    match outcome {
        ClaimOutcome::Acquired(claim) => *claim,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_published_record_never_alerts_again() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    assert_eq!(
        shared.record(&claim, "message-1"),
        PublicationOutcome::Recorded
    );
    assert_eq!(shared.claim(now()), ClaimOutcome::AlreadyAlerted);
    let years_later = now() + SignedDuration::from_hours(24 * 3650);
    assert_eq!(shared.claim(years_later), ClaimOutcome::AlreadyAlerted);
}

#[test]
fn a_claim_costs_one_request_recording_one_more_and_a_duplicate_two() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    assert_eq!(shared.requests.get(), 1);
    shared.record(&claim, "m");
    assert_eq!(shared.requests.get(), 2);
    shared.claim(now());
    assert_eq!(shared.requests.get(), 4);
    // One request where a duplicate is expected, and never a wrong answer.
    let ledger = shared.ledger();
    let claim = |key| {
        let record = id(key);
        let request = ClaimRequest {
            read_first: true,
            ..request(&record)
        };
        block_on(ledger.claim(&request)).unwrap().outcome
    };
    assert_eq!(claim(KEY), ClaimOutcome::AlreadyAlerted);
    assert_eq!(shared.requests.get(), 5);
    acquired(claim("new"));
    assert_eq!(shared.requests.get(), 7);
    assert_eq!(claim("new"), ClaimOutcome::ClaimedElsewhere);
    assert_eq!(shared.requests.get(), 8);
}

#[test]
fn a_claim_is_exclusive_until_it_expires_even_for_the_same_invocation() {
    let shared = Shared::default();
    let ledger = shared.ledger();
    let claim = |now| {
        let record = id(KEY);
        let request = ClaimRequest {
            now,
            ..request(&record)
        };
        block_on(ledger.claim(&request)).unwrap().outcome
    };
    acquired(claim(now()));
    assert_eq!(claim(now()), ClaimOutcome::ClaimedElsewhere);
    let last = in_a_minute() - SignedDuration::from_nanos(1);
    assert_eq!(claim(last), ClaimOutcome::ClaimedElsewhere);
    acquired(claim(in_a_minute()));
}

#[test]
fn a_write_whose_answer_was_lost_is_recognized() {
    let shared = Shared::default();
    shared.lost_answers.set(1);
    let claim = shared.acquire(now());
    // Taking over.
    shared.lost_answers.set(1);
    let later = shared.acquire(in_a_minute());
    assert_ne!(claim, later);
    shared.lost_answers.set(1);
    assert_eq!(shared.record(&later, "m"), PublicationOutcome::Recorded);
    assert_eq!(
        shared.entry().publication_on(TOPIC).unwrap().message_id,
        "m"
    );
}

#[test]
fn an_accepted_alert_is_recorded_although_somebody_took_the_claim_over() {
    let shared = Shared::default();
    let late = shared.acquire(now());
    let claim = shared.acquire(in_a_minute());
    assert_eq!(shared.record(&late, "first"), PublicationOutcome::Recorded);
    assert_eq!(shared.claim(in_a_minute()), ClaimOutcome::AlreadyAlerted);
    assert_eq!(
        shared.record(&claim, "second"),
        PublicationOutcome::SecondAlert
    );
    assert_eq!(
        shared.entry().publication_on(TOPIC).unwrap().message_id,
        "first"
    );
}

#[test]
fn an_accepted_alert_is_recorded_although_the_entry_was_deleted() {
    let shared = Shared::default();
    let elsewhere = Shared::default();
    let claim = elsewhere.acquire(now());
    assert_eq!(shared.record(&claim, "m"), PublicationOutcome::Recorded);
    assert_eq!(shared.claim(now()), ClaimOutcome::AlreadyAlerted);
}

#[test]
fn a_released_claim_is_free_and_releasing_the_claim_of_others_does_nothing() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    block_on(shared.ledger().release(&claim)).unwrap();
    // Each version differs from all before, since S3 makes the ETag from the content.
    let nonce = |entry: Entry| entry.claim.unwrap().nonce;
    let first = nonce(shared.entry());
    let next = shared.acquire(now());
    assert_ne!(first, nonce(shared.entry()));
    block_on(shared.ledger().release(&claim)).unwrap();
    assert_eq!(shared.claim(now()), ClaimOutcome::ClaimedElsewhere);
    shared.record(&next, "m");
    block_on(shared.ledger().release(&next)).unwrap();
    assert_eq!(shared.claim(now()), ClaimOutcome::AlreadyAlerted);
}

#[test]
fn a_record_alerts_once_on_each_topic() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    shared.record(&claim, "here");
    let ledger = shared.ledger();
    let record = id(KEY);
    let request = ClaimRequest {
        topics: &[TOPIC, OTHER_TOPIC],
        ..request(&record)
    };
    let claim = || acquired(block_on(ledger.claim(&request)).unwrap().outcome);
    let released = claim();
    assert!(released.is_published_on(TOPIC) && !released.is_published_on(OTHER_TOPIC));
    block_on(ledger.release(&released)).unwrap();
    assert_eq!(shared.claim(now()), ClaimOutcome::AlreadyAlerted);
    shared.try_record(&claim(), OTHER_TOPIC, "there").unwrap();
    assert_eq!(
        block_on(ledger.claim(&request)).unwrap().outcome,
        ClaimOutcome::AlreadyAlerted
    );
    let published: Vec<_> = shared
        .entry()
        .published
        .into_iter()
        .map(|publication| (publication.topic, publication.message_id))
        .collect();
    assert_eq!(
        published,
        [
            (TOPIC.to_owned(), "here".to_owned()),
            (OTHER_TOPIC.to_owned(), "there".to_owned())
        ]
    );
}

#[test]
fn recording_late_keeps_what_other_topics_have_recorded_meanwhile() {
    let shared = Shared::default();
    let late = shared.acquire(now());
    let record = id(KEY);
    let request = ClaimRequest {
        topics: &[OTHER_TOPIC],
        now: in_a_minute(),
        expires_at: in_a_minute() + SignedDuration::from_secs(1),
        ..request(&record)
    };
    let claim = acquired(block_on(shared.ledger().claim(&request)).unwrap().outcome);
    shared.try_record(&claim, OTHER_TOPIC, "there").unwrap();
    assert_eq!(shared.record(&late, "here"), PublicationOutcome::Recorded);
    assert_eq!(shared.entry().published.len(), 2);
}

#[test]
fn releasing_after_a_late_recording_keeps_the_claim_of_others() {
    let shared = Shared::default();
    let mut late = shared.acquire(now());
    let other = shared.acquire(in_a_minute());
    let ledger = shared.ledger();
    let publications = [publication(TOPIC, "here")];
    block_on(ledger.record_publications(&mut late, &publications, false)).unwrap();
    block_on(ledger.release(&late)).unwrap();
    assert_eq!(shared.entry().claim.unwrap().expires_at, other.expires_at());
}

#[test]
fn what_several_topics_have_accepted_is_one_write() {
    let shared = Shared::default();
    let mut claim = shared.acquire(now());
    let publications = [
        publication(TOPIC, "here"),
        publication(OTHER_TOPIC, "there"),
    ];
    let ledger = shared.ledger();
    let recorded = block_on(ledger.record_publications(&mut claim, &publications, true));
    assert_eq!(recorded.unwrap(), PublicationOutcome::Recorded);
    let entry = shared.entry();
    let published = entry.published.iter();
    let topics: Vec<_> = published.map(|publication| &*publication.topic).collect();
    assert_eq!((topics, entry.claim), (vec![TOPIC, OTHER_TOPIC], None));
    // Again, as if the answer had been lost: nothing is written.
    shared.broken.set(true);
    let recorded = block_on(ledger.record_publications(&mut claim, &publications, true));
    assert_eq!(recorded.unwrap(), PublicationOutcome::Recorded);
}

#[test]
fn errors_of_the_store_are_returned() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    shared.broken.set(true);
    assert!(shared.try_record(&claim, TOPIC, "m").is_err());
    assert!(block_on(shared.ledger().release(&claim)).is_err());
    let record = id("k");
    let claim = block_on(shared.ledger().claim(&request(&record)));
    assert_eq!(claim.unwrap_err().to_string(), "ledger: out of order");
}

/// Answers every write as if somebody else had written before it.
struct Contended(Option<Entry>);

impl LedgerStore for Contended {
    async fn read(&self, _: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        Ok(self.0.clone().map(|entry| VersionedEntry {
            entry,
            etag: "t".to_owned(),
        }))
    }

    async fn create(&self, _: &str, _: &Entry) -> Result<WriteOutcome, LedgerError> {
        Ok(WriteOutcome::PreconditionFailed)
    }

    async fn replace(&self, _: &str, _: &str, _: &Entry) -> Result<WriteOutcome, LedgerError> {
        Ok(WriteOutcome::PreconditionFailed)
    }

    async fn list(&self, _: &str) -> Result<Vec<String>, LedgerError> {
        unreachable!("only the check on direct events lists")
    }
}

#[test]
fn a_writer_that_others_always_precede_gives_up() {
    let shared = Shared::default();
    let claim = shared.acquire(now());
    for entry in [None, Some(Entry::default())] {
        let ledger = Ledger::new(Contended(entry));
        let outcome = block_on(ledger.claim(&request(&id(KEY)))).unwrap().outcome;
        assert_eq!(outcome, ClaimOutcome::ClaimedElsewhere);
        let publications = [publication(TOPIC, "m")];
        let mut claim = claim.clone();
        let recorded = ledger.record_publications(&mut claim, &publications, true);
        let error = block_on(recorded).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ledger: 2026/03/02/e.json was written by others in each of 4 attempts"
        );
    }
}

#[test]
fn only_a_write_that_others_preceded_waits_and_longer_each_time() {
    let waited = |entry: Entry| {
        let ledger = Ledger::new(Contended(Some(entry)));
        block_on(async {
            let start = tokio::time::Instant::now();
            let answer = ledger.claim(&request(&id(KEY))).await.unwrap();
            assert_eq!(answer.outcome, ClaimOutcome::ClaimedElsewhere);
            start.elapsed().as_millis()
        })
    };
    let others = waited(Entry::default());
    assert!((180..190).contains(&others), "30, 60 and 90 ms: {others}");
    let living = Entry {
        claim: Some(Lease {
            nonce: "other".to_owned(),
            expires_at: in_a_minute(),
        }),
        ..Entry::default()
    };
    assert_eq!(waited(living), 0);
}

#[test]
fn an_entry_that_lacks_a_field_is_refused_and_one_with_unknown_fields_is_read() {
    let claimed = Entry {
        claim: Some(Lease {
            nonce: "request/1".to_owned(),
            expires_at: now(),
        }),
        ..Entry::default()
    };
    let text = json!(claimed).to_string();
    assert_eq!(
        text,
        r#"{"claim":{"expires_at":"2026-03-02T16:51:04Z","nonce":"request/1"},"published":[]}"#
    );
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), claimed);
    for text in [
        "null",
        "[]",
        "{}",
        "[null]",
        "[null, null]",
        r#"{"state":"published"}"#,
        r#"{"claim":{"nonce":"request/1"},"published":[]}"#,
        r#"{"published":[{"topic":"t"}]}"#,
    ] {
        assert!(serde_json::from_str::<Entry>(text).is_err(), "{text}");
    }
    // As a newer version may write them.
    let newer = r#"{"claim":{"nonce":"request/1","expires_at":"2026-03-02T16:51:04Z","by":"x"},
        "published":[],"confirmed":{"source":"y"}}"#;
    assert_eq!(serde_json::from_str::<Entry>(newer).unwrap(), claimed);
    let mut publication =
        json!({"topic": TOPIC, "message_id": "m", "accepted_at": now(), "archive": archive()});
    let known: Entry = serde_json::from_value(json!({"published": [publication]})).unwrap();
    publication["path"] = json!("direct");
    publication["archive"]["finding"]["confidence"] = json!("high");
    let newer = json!({"published": [publication]});
    assert_eq!(serde_json::from_value::<Entry>(newer).unwrap(), known);
}

#[test]
fn the_memory_ledger_drops_the_oldest_of_more_than_ten_thousand_entries() {
    let memory = MemoryLedgerStore::default();
    let read = |number: usize| block_on(memory.read(&number.to_string())).unwrap();
    for number in 0..=10_000 {
        block_on(memory.create(&number.to_string(), &Entry::default())).unwrap();
    }
    assert_eq!((read(0), read(1).is_some()), (None, true));
}

#[test]
fn keys_are_date_and_event_id_or_a_hash() {
    let key = |members| RecordId::of(&Record::from_value(members)).key().to_owned();
    let at = "2026-03-02T16:44:04Z";
    assert_eq!(
        key(json!({"eventTime": at, "eventID": "5923c499-063e"})),
        "2026/03/02/5923c499-063e.json"
    );
    assert_eq!(
        key(json!({"eventID": "5923c499-063e"})),
        "undated/5923c499-063e.json"
    );
    let longest = "x".repeat(64);
    assert_eq!(
        key(json!({"eventID": longest})),
        format!("undated/{longest}.json")
    );
    let too_long = key(json!({"eventID": "x".repeat(65)}));
    assert!(too_long.starts_with("undated/hash_"), "{too_long}");
    let odd = key(json!({"eventTime": at, "eventID": "../../x"}));
    assert!(odd.starts_with("2026/03/02/hash_"), "{odd}");
    assert_eq!(odd.len(), "2026/03/02/hash_.json".len() + 32);
    let first = key(json!({"a": 1, "b": 2}));
    assert_eq!(first, key(json!({"b": 2, "a": 1})));
    assert_ne!(first, key(json!({"a": 1, "b": 3})));
}
