//! Who may alert on a record, and when.

use billing_watch::{
    cloudtrail::Record,
    ledger::{Claim, Ledger, MemoryLedger, Ticket, record_key},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::{block_on, now};

fn ledger() -> Ledger<MemoryLedger> {
    Ledger::new(MemoryLedger::default(), SignedDuration::from_secs(65))
}

fn claim(ledger: &Ledger<MemoryLedger>, nonce: &str, at: Timestamp) -> Claim {
    block_on(ledger.claim("2026/03/02/e", nonce, at)).unwrap()
}

fn ours(claim: Claim) -> Ticket {
    match claim {
        Claim::Ours(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_published_record_is_a_duplicate_for_everybody_for_ever() {
    let ledger = ledger();
    let ticket = ours(claim(&ledger, "a", now()));
    block_on(ledger.publish(&ticket, "message-1", now())).unwrap();
    assert_eq!(claim(&ledger, "a", now()), Claim::Duplicate);
    let years_later = now() + SignedDuration::from_hours(24 * 3650);
    assert_eq!(claim(&ledger, "b", years_later), Claim::Duplicate);
}

#[test]
fn a_living_claim_of_another_is_neither_ours_nor_done() {
    let ledger = ledger();
    ours(claim(&ledger, "a", now()));
    assert_eq!(claim(&ledger, "b", now()), Claim::Busy);
}

#[test]
fn ones_own_claim_is_known_as_ones_own() {
    let ledger = ledger();
    let first = ours(claim(&ledger, "a", now()));
    assert_eq!(ours(claim(&ledger, "a", now())), first);
}

#[test]
fn a_claim_that_ran_out_is_taken_over_and_its_owner_learns_it() {
    let ledger = ledger();
    let late = ours(claim(&ledger, "a", now()));
    let after = now() + SignedDuration::from_secs(65);
    let ticket = ours(claim(&ledger, "b", after));
    assert!(block_on(ledger.publish(&late, "m", after)).is_err());
    block_on(ledger.publish(&ticket, "m", after)).unwrap();
}

#[test]
fn a_released_claim_is_anybodys() {
    let ledger = ledger();
    let ticket = ours(claim(&ledger, "a", now()));
    block_on(ledger.release(&ticket)).unwrap();
    ours(claim(&ledger, "b", now()));
}

#[test]
fn keys_are_date_and_event_id_or_a_hash() {
    let key = |members| record_key(&Record::from_value(members));
    let at = "2026-03-02T16:44:04Z";
    assert_eq!(
        key(json!({"eventTime": at, "eventID": "5923c499-063e"})),
        "2026/03/02/5923c499-063e"
    );
    assert_eq!(
        key(json!({"eventID": "5923c499-063e"})),
        "undated/5923c499-063e"
    );
    let odd = key(json!({"eventTime": at, "eventID": "../../x"}));
    assert!(odd.starts_with("2026/03/02/hash-"), "{odd}");
    let first = key(json!({"a": 1, "b": 2}));
    assert_eq!(first, key(json!({"b": 2, "a": 1})));
    assert_ne!(first, key(json!({"a": 1, "b": 3})));
}
