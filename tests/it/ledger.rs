//! Who may alert on a record, and when.

use std::cell::Cell;

use billing_watch::{
    alert::{Context, Summary},
    cloudtrail::Record,
    envelope::ObjectRef,
    ledger::{
        Archive, Claim, Entry, Holder, Kept, Ledger, LedgerError, LedgerStore, MemoryLedger,
        Recorded, Tagged, Ticket, Written, record_key,
    },
    rules::{Finding, RulePack},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{TOPIC, block_on, now, record};

const KEY: &str = "2026/03/02/e.json";
const OTHER_TOPIC: &str = "arn:aws:sns:us-east-1:999988887777:others";

fn in_a_minute() -> Timestamp {
    now() + SignedDuration::from_secs(65)
}

fn archive() -> Archive {
    let object = ObjectRef {
        bucket: "logs".to_owned(),
        key: "k".to_owned(),
        version_id: None,
    };
    let context = Context {
        object: &object,
        file_account: None,
        now: now(),
        withhold_values: true,
    };
    let pack = RulePack::load(&[]).unwrap().pack;
    let record = Record::from_value(record("CloseAccount", "e"));
    let rules = pack.evaluate(&record, now()).unwrap().rules;
    Archive {
        log_file: "s3://logs/k".to_owned(),
        finding: Summary::of(&Finding { record, rules }, &context),
        alert: Kept::InEntry("other".to_owned()),
    }
}

/// A memory that can lose the answers of writes and serve several ledgers.
#[derive(Default)]
struct Shared {
    memory: MemoryLedger,
    /// Writes yet to come that take place and are answered as if somebody else had been faster.
    lost_answers: Cell<usize>,
    /// Whether writes fail.
    broken: Cell<bool>,
    requests: Cell<usize>,
    invocations: Cell<usize>,
}

impl Shared {
    fn answer(&self, written: Written) -> Result<Written, LedgerError> {
        self.requests.set(self.requests.get() + 1);
        if self.broken.get() {
            return Err(LedgerError {
                message: "out of order".to_owned(),
            });
        }
        let lost = self.lost_answers.get();
        self.lost_answers.set(lost.saturating_sub(1));
        Ok(if lost > 0 { Written::Conflict } else { written })
    }
}

impl LedgerStore for &Shared {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        self.requests.set(self.requests.get() + 1);
        self.memory.read(key).await
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        self.answer(self.memory.create(key, entry).await?)
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        self.answer(self.memory.replace(key, tag, entry).await?)
    }
}

impl Shared {
    fn ledger(&self) -> Ledger<&Self> {
        Ledger::new(self, TOPIC)
    }

    fn claim(&self, at: Timestamp) -> Claim {
        self.invocations.set(self.invocations.get() + 1);
        let invocation = format!("invocation-{}", self.invocations.get());
        let until = at + SignedDuration::from_secs(65);
        block_on(self.ledger().claim(KEY, &invocation, false, at, until)).unwrap()
    }

    fn ticket(&self, at: Timestamp) -> Ticket {
        ours(self.claim(at))
    }

    fn publish(&self, ticket: &Ticket, message_id: &str) -> Result<Recorded, LedgerError> {
        let ledger = self.ledger();
        block_on(ledger.publish(ticket, message_id, now(), &archive()))
    }

    fn entry(&self) -> Entry {
        block_on(self.memory.read(KEY)).unwrap().unwrap().entry
    }
}

fn ours(claim: Claim) -> Ticket {
    match claim {
        Claim::Ours(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_published_record_is_a_duplicate_for_everybody_for_ever() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    assert_eq!(shared.publish(&ticket, "message-1"), Ok(Recorded::Yes));
    assert_eq!(shared.claim(now()), Claim::Duplicate);
    let years_later = now() + SignedDuration::from_hours(24 * 3650);
    assert_eq!(shared.claim(years_later), Claim::Duplicate);
}

#[test]
fn a_claim_costs_one_request_its_alert_one_more_and_a_duplicate_two() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    assert_eq!(shared.requests.get(), 1);
    shared.publish(&ticket, "m").unwrap();
    assert_eq!(shared.requests.get(), 2);
    shared.claim(now());
    assert_eq!(shared.requests.get(), 4);
    // One request where a duplicate is expected, and never a wrong answer.
    let ledger = shared.ledger();
    let claim = |key| block_on(ledger.claim(key, "i", true, now(), in_a_minute())).unwrap();
    assert_eq!(claim(KEY), Claim::Duplicate);
    assert_eq!(shared.requests.get(), 5);
    ours(claim("new"));
    assert_eq!(shared.requests.get(), 7);
    assert_eq!(claim("new"), Claim::Busy);
    assert_eq!(shared.requests.get(), 8);
}

#[test]
fn a_living_claim_is_neither_ours_nor_done_not_even_for_the_same_invocation() {
    let shared = Shared::default();
    let ledger = shared.ledger();
    let claim = |at| block_on(ledger.claim(KEY, "same", false, at, in_a_minute())).unwrap();
    ours(claim(now()));
    assert_eq!(claim(now()), Claim::Busy);
    let last = in_a_minute() - SignedDuration::from_nanos(1);
    assert_eq!(claim(last), Claim::Busy);
    ours(claim(in_a_minute()));
}

#[test]
fn a_write_whose_answer_was_lost_is_known_as_ones_own() {
    let shared = Shared::default();
    shared.lost_answers.set(1);
    let ticket = shared.ticket(now());
    // Taking over.
    shared.lost_answers.set(1);
    let later = shared.ticket(in_a_minute());
    assert_ne!(ticket, later);
    shared.lost_answers.set(1);
    assert_eq!(shared.publish(&later, "m"), Ok(Recorded::Yes));
    assert_eq!(shared.entry().on(TOPIC).unwrap().message_id, "m");
}

#[test]
fn what_has_alerted_is_recorded_whoever_holds_the_claim_by_then() {
    let shared = Shared::default();
    let late = shared.ticket(now());
    let ticket = shared.ticket(in_a_minute());
    assert_eq!(shared.publish(&late, "first"), Ok(Recorded::Yes));
    assert_eq!(shared.claim(in_a_minute()), Claim::Duplicate);
    assert_eq!(shared.publish(&ticket, "second"), Ok(Recorded::Second));
    assert_eq!(shared.entry().on(TOPIC).unwrap().message_id, "first");
}

#[test]
fn what_has_alerted_is_recorded_though_the_entry_was_deleted() {
    let shared = Shared::default();
    let elsewhere = Shared::default();
    let ticket = elsewhere.ticket(now());
    assert_eq!(shared.publish(&ticket, "m"), Ok(Recorded::Yes));
    assert_eq!(shared.claim(now()), Claim::Duplicate);
}

#[test]
fn a_released_claim_is_anybodys_and_releasing_what_others_hold_does_nothing() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    block_on(shared.ledger().release(&ticket)).unwrap();
    // Each version differs from all before, for S3 tells them apart by their content.
    let nonce = |entry: Entry| entry.claim.unwrap().nonce;
    let first = nonce(shared.entry());
    let next = shared.ticket(now());
    assert_ne!(first, nonce(shared.entry()));
    block_on(shared.ledger().release(&ticket)).unwrap();
    assert_eq!(shared.claim(now()), Claim::Busy);
    shared.publish(&next, "m").unwrap();
    block_on(shared.ledger().release(&next)).unwrap();
    assert_eq!(shared.claim(now()), Claim::Duplicate);
}

#[test]
fn each_topic_has_its_own_alert() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    shared.publish(&ticket, "here").unwrap();
    let other = Ledger::new(&shared, OTHER_TOPIC);
    let claim = || ours(block_on(other.claim(KEY, "i", false, now(), in_a_minute())).unwrap());
    let ticket = claim();
    block_on(other.release(&ticket)).unwrap();
    assert_eq!(shared.claim(now()), Claim::Duplicate);
    let ticket = claim();
    block_on(other.publish(&ticket, "there", now(), &archive())).unwrap();
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
fn an_alert_recorded_late_keeps_what_other_topics_have_recorded_meanwhile() {
    let shared = Shared::default();
    let late = shared.ticket(now());
    let other = Ledger::new(&shared, OTHER_TOPIC);
    let ticket = ours(
        block_on(other.claim(
            KEY,
            "i",
            false,
            in_a_minute(),
            in_a_minute() + SignedDuration::from_secs(1),
        ))
        .unwrap(),
    );
    block_on(other.publish(&ticket, "there", now(), &archive())).unwrap();
    assert_eq!(shared.publish(&late, "here"), Ok(Recorded::Yes));
    assert_eq!(shared.entry().published.len(), 2);
}

#[test]
fn errors_of_the_store_are_passed_on() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    shared.broken.set(true);
    assert!(shared.publish(&ticket, "m").is_err());
    assert!(block_on(shared.ledger().release(&ticket)).is_err());
    let claim = block_on(shared.ledger().claim("k", "i", false, now(), in_a_minute()));
    assert_eq!(claim.unwrap_err().to_string(), "ledger: out of order");
}

/// Says of every write that somebody was faster.
struct Contended(Option<Entry>);

impl LedgerStore for Contended {
    async fn read(&self, _: &str) -> Result<Option<Tagged>, LedgerError> {
        Ok(self.0.clone().map(|entry| Tagged {
            entry,
            tag: "t".to_owned(),
        }))
    }

    async fn create(&self, _: &str, _: &Entry) -> Result<Written, LedgerError> {
        Ok(Written::Conflict)
    }

    async fn replace(&self, _: &str, _: &str, _: &Entry) -> Result<Written, LedgerError> {
        Ok(Written::Conflict)
    }
}

#[test]
fn who_is_never_fast_enough_gives_up() {
    let shared = Shared::default();
    let ticket = shared.ticket(now());
    for entry in [None, Some(Entry::default())] {
        let ledger = Ledger::new(Contended(entry), TOPIC);
        let claim = block_on(ledger.claim(KEY, "i", false, now(), in_a_minute()));
        assert_eq!(claim, Ok(Claim::Busy));
        let error = block_on(ledger.publish(&ticket, "m", now(), &archive())).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ledger: others keep writing 2026/03/02/e.json"
        );
    }
}

#[test]
fn only_a_forestalled_write_waits_and_longer_each_time() {
    let waited = |entry: Entry| {
        let ledger = Ledger::new(Contended(Some(entry)), TOPIC);
        block_on(async {
            let start = tokio::time::Instant::now();
            let claim = ledger.claim(KEY, "i", false, now(), in_a_minute()).await;
            assert_eq!(claim, Ok(Claim::Busy));
            start.elapsed().as_millis()
        })
    };
    let others = waited(Entry::default());
    assert!((180..190).contains(&others), "30, 60 and 90 ms: {others}");
    let living = Entry {
        claim: Some(Holder {
            nonce: "other".to_owned(),
            until: in_a_minute(),
        }),
        ..Entry::default()
    };
    assert_eq!(waited(living), 0);
}

#[test]
fn what_is_not_understood_is_no_entry() {
    let claimed = Entry {
        claim: Some(Holder {
            nonce: "request/1".to_owned(),
            until: now(),
        }),
        ..Entry::default()
    };
    let text = json!(claimed).to_string();
    assert_eq!(
        text,
        r#"{"claim":{"nonce":"request/1","until":"2026-03-02T16:51:04Z"},"published":[]}"#
    );
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), claimed);
    for text in [
        "null",
        "[]",
        "{}",
        "[null]",
        "[null, null]",
        r#"{"published":[],"state":"published"}"#,
        r#"{"published":[{"topic":"t"}]}"#,
    ] {
        assert!(serde_json::from_str::<Entry>(text).is_err(), "{text}");
    }
}

#[test]
fn memory_forgets_the_oldest_of_ten_thousand() {
    let memory = MemoryLedger::default();
    let read = |number: usize| block_on(memory.read(&number.to_string())).unwrap();
    for number in 0..=10_000 {
        block_on(memory.create(&number.to_string(), &Entry::default())).unwrap();
    }
    assert_eq!((read(0), read(1).is_some()), (None, true));
}

#[test]
fn keys_are_date_and_event_id_or_a_hash() {
    let key = |members| record_key(&Record::from_value(members));
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
