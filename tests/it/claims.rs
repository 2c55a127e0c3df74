//! Records that others hold, or that are known, among those of one object.

use std::time::Duration;

use billing_watch::envelope::ErrorType;
use serde_json::{Value, json};

use crate::{
    deadline::{SlowStores, crowd},
    support::{finance_role, gzip_log, log_file, log_key, record, record_with},
};

fn with_file(body: Vec<u8>) -> SlowStores {
    SlowStores::default().with(&log_key("Abcdefgh12345678"), &[(Duration::ZERO, body)])
}

fn subjects(stores: &SlowStores) -> Vec<String> {
    let alerts = stores.alerts.borrow();
    alerts.iter().map(|alert| alert.subject.clone()).collect()
}

#[test]
fn a_record_released_late_gets_its_own_message() {
    let stores = with_file(log_file(&[
        record("CloseAccount", "a"),
        record("SetPayInformation", "b"),
    ]));
    stores.claimed_by_another("a");
    let handled = stores.handle(Some(60));
    assert_eq!((handled.report.scanned, handled.report.published), (1, 2));
    assert_eq!(
        subjects(&stores),
        [
            "[HIGH] SetPayInformation in 111122223333 by root",
            "[CRITICAL] CloseAccount in 111122223333 by root"
        ]
    );
}

#[test]
fn part_numbers_continue_when_a_record_is_released_late() {
    let stores = with_file(crowd());
    stores.claimed_by_another("id-2999");
    let handled = stores.handle(Some(60));
    assert_eq!(handled.report.published, 3_000);
    let subjects = subjects(&stores);
    let numbered: Vec<bool> = subjects
        .iter()
        .enumerate()
        .map(|(index, subject)| subject.ends_with(&format!("(part {})", index + 1)))
        .collect();
    assert!(subjects.len() > 3, "{subjects:?}");
    assert_eq!(numbered, vec![true; subjects.len()], "{subjects:?}");
}

#[test]
fn records_held_elsewhere_beyond_the_memory_bound_fail_for_retry() {
    let padding = json!({"requestParameters": {"city": "x".repeat(150_000)}});
    let records: Vec<Value> = (0..12)
        .map(|number| record_with("CloseAccount", &format!("id-{number}"), padding.clone()))
        .collect();
    let stores = with_file(log_file(&records));
    for number in 0..12 {
        stores.claimed_by_another(&format!("id-{number}"));
    }
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::ClaimedElsewhere]);
    // Six records of 150 KB, and what is around each, make nearly 1 MiB.
    assert_eq!(
        (handled.report.published, handled.report.failed_findings),
        (6, 6)
    );
    assert_eq!(stores.handle(Some(60)).report.published, 6);
}

#[test]
fn after_a_duplicate_the_next_groups_are_read_before_they_are_claimed() {
    // Three flushes of an object full of duplicates: the first group's are created in vain.
    let stores = with_file(crowd());
    stores.handle(None);
    *stores.requests.borrow_mut() = 0;
    let handled = stores.handle(None);
    assert_eq!(handled.report.duplicate, 3_000);
    let requests = *stores.requests.borrow();
    assert!(requests > 3_000 && requests < 5_000, "{requests}");
}

#[test]
fn a_retryable_failure_is_reported_before_a_permanent_one() {
    let role = json!({"userIdentity": finance_role()});
    let mut cut = gzip_log(&[
        record("CloseAccount", "a"),
        record_with("CloseAccount", "b", role),
    ]);
    let whole = cut.clone();
    cut.truncate(cut.len() - 3);
    // Refused, and corrupt: the first is reported.
    let stores = with_file(cut);
    *stores.refusals.borrow_mut() = 2;
    assert_eq!(stores.handle(None).failures(), [ErrorType::AlertRefused]);
    // Refused, and claimed elsewhere: the second.
    let stores = with_file(whole);
    *stores.refusals.borrow_mut() = 1;
    stores.claimed_by_another("b");
    assert_eq!(
        stores.handle(Some(1)).failures(),
        [ErrorType::ClaimedElsewhere]
    );
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
    let stores = with_file(log_file(&records));
    let handled = stores.handle(Some(60));
    assert_eq!(
        (handled.report.published, handled.report.failed),
        (2_000, 0)
    );
    let alerts = stores.alerts.borrow().len();
    let again = stores.handle(Some(60));
    assert_eq!((again.report.duplicate, again.report.failed), (2_000, 0));
    assert_eq!(stores.alerts.borrow().len(), alerts);
}

#[test]
fn an_accepted_alert_is_recorded_at_the_fourth_attempt_or_fails_the_object() {
    for (failures, reported) in [(3, vec![]), (4, vec![ErrorType::LedgerUnavailable])] {
        let stores = with_file(log_file(&[record("CloseAccount", "a")]));
        *stores.ledger_failures.borrow_mut() = failures;
        let handled = stores.handle(Some(60));
        assert_eq!((handled.report.published, handled.report.messages), (1, 1));
        assert_eq!(handled.failures(), reported);
        // The claim, and four tries; the last one is answered, or nobody is left to ask.
        assert_eq!(*stores.requests.borrow(), 5);
        assert_eq!(
            stores.entry("a").unwrap().claim.is_none(),
            reported.is_empty()
        );
    }
}
