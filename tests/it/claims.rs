//! Records that others hold, or that are known, among those of one object.

use std::time::Duration;

use billing_watch::envelope::ErrorType;
use serde_json::{Value, json};

use crate::{
    deadline::{Slow, crowd},
    support::{finance_role, gzip_log, log_file, log_key, record, record_with},
};

fn with_file(body: Vec<u8>) -> Slow {
    Slow::default().with(&log_key("Abcdefgh12345678"), &[(Duration::ZERO, body)])
}

fn subjects(slow: &Slow) -> Vec<String> {
    let alerts = slow.alerts.borrow();
    alerts.iter().map(|alert| alert.subject.clone()).collect()
}

#[test]
fn a_record_that_comes_free_late_has_a_message_of_its_own() {
    let slow = with_file(log_file(&[
        record("CloseAccount", "a"),
        record("SetPayInformation", "b"),
    ]));
    slow.claimed_by_another("a");
    let went = slow.handle(Some(60));
    assert_eq!((went.report.scanned, went.report.published), (1, 2));
    assert_eq!(
        subjects(&slow),
        [
            "[HIGH] SetPayInformation in 111122223333 by root",
            "[CRITICAL] CloseAccount in 111122223333 by root"
        ]
    );
}

#[test]
fn parts_are_numbered_on_when_a_record_comes_free_late() {
    let slow = with_file(crowd());
    slow.claimed_by_another("id-2999");
    let went = slow.handle(Some(60));
    assert_eq!(went.report.published, 3_000);
    let subjects = subjects(&slow);
    let numbered: Vec<bool> = subjects
        .iter()
        .enumerate()
        .map(|(index, subject)| subject.ends_with(&format!("(part {})", index + 1)))
        .collect();
    assert!(subjects.len() > 3, "{subjects:?}");
    assert_eq!(numbered, vec![true; subjects.len()], "{subjects:?}");
}

#[test]
fn more_busy_records_than_memory_holds_fail_at_once_and_come_again() {
    let padding = json!({"requestParameters": {"city": "x".repeat(150_000)}});
    let records: Vec<Value> = (0..12)
        .map(|number| record_with("CloseAccount", &format!("id-{number}"), padding.clone()))
        .collect();
    let slow = with_file(log_file(&records));
    for number in 0..12 {
        slow.claimed_by_another(&format!("id-{number}"));
    }
    let went = slow.handle(Some(60));
    assert_eq!(went.failures(), [ErrorType::LedgerBusy]);
    // Six records of 150 KB, and what is around each, make nearly 1 MiB.
    assert_eq!((went.report.published, went.report.failed_findings), (6, 6));
    assert_eq!(slow.handle(Some(60)).report.published, 6);
}

#[test]
fn once_a_record_is_known_the_further_groups_are_looked_up_first() {
    // Three flushes of an object full of duplicates: the first group's are created in vain.
    let slow = with_file(crowd());
    slow.handle(None);
    *slow.requests.borrow_mut() = 0;
    let went = slow.handle(None);
    assert_eq!(went.report.duplicate, 3_000);
    let requests = *slow.requests.borrow();
    assert!(requests > 3_000 && requests < 5_000, "{requests}");
}

#[test]
fn what_another_try_may_mend_is_told_before_what_it_can_not() {
    let role = json!({"userIdentity": finance_role()});
    let mut cut = gzip_log(&[
        record("CloseAccount", "a"),
        record_with("CloseAccount", "b", role),
    ]);
    let whole = cut.clone();
    cut.truncate(cut.len() - 3);
    // Refused, and corrupt: the first is told.
    let slow = with_file(cut);
    *slow.refusals.borrow_mut() = 2;
    assert_eq!(slow.handle(None).failures(), [ErrorType::AlertRefused]);
    // Refused, and busy: the second.
    let slow = with_file(whole);
    *slow.refusals.borrow_mut() = 1;
    slow.claimed_by_another("b");
    assert_eq!(slow.handle(Some(1)).failures(), [ErrorType::LedgerBusy]);
}

#[test]
fn each_part_of_a_group_records_its_own_findings() {
    // Control characters grow when they are made visible: what is held at a time makes several
    // messages.
    let records: Vec<Value> = (0..2_000)
        .map(|number| {
            json!({
                "eventSource": "billingconsole.amazonaws.com",
                "eventName": "SetContactAddress",
                "eventID": format!("id-{number:04}{}", "\u{1}".repeat(40)),
                "eventTime": "2026-03-02T16:44:04Z",
            })
        })
        .collect();
    let slow = with_file(log_file(&records));
    let went = slow.handle(Some(60));
    assert_eq!((went.report.published, went.report.failed), (2_000, 0));
    let alerts = slow.alerts.borrow().len();
    let again = slow.handle(Some(60));
    assert_eq!((again.report.duplicate, again.report.failed), (2_000, 0));
    assert_eq!(slow.alerts.borrow().len(), alerts);
}

#[test]
fn what_has_alerted_is_recorded_at_the_fourth_try_or_fails_the_object() {
    for (failures, told) in [(3, vec![]), (4, vec![ErrorType::LedgerUnavailable])] {
        let slow = with_file(log_file(&[record("CloseAccount", "a")]));
        *slow.ledger_failures.borrow_mut() = failures;
        let went = slow.handle(Some(60));
        assert_eq!((went.report.published, went.report.alerts), (1, 1));
        assert_eq!(went.failures(), told);
        // The claim, and four tries; the last one is answered, or nobody is left to ask.
        assert_eq!(*slow.requests.borrow(), 5);
        assert_eq!(slow.entry("a").unwrap().claim.is_none(), told.is_empty());
    }
}
