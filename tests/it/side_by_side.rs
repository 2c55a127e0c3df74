//! How many objects and messages of one envelope are handled at the same time.

use std::time::Duration;

use billing_watch::envelope::ErrorType;

use crate::{
    deadline::{Handled, NEVER, SlowStores, close, closure},
    support::{log_file, log_key, noise},
};

/// The chunks of a log file without findings that expands to more than 32 KiB. The last byte takes
/// `time`.
fn large_file(time: Duration) -> [(Duration, Vec<u8>); 2] {
    let mut first = log_file(&(0..300).map(noise).collect::<Vec<_>>());
    assert!(first.len() > 32 << 10);
    let last = first.pop().into_iter().collect();
    [(Duration::ZERO, first), (time, last)]
}

/// Handles `count` files of one envelope, without a deadline.
fn handle_all(count: usize, file: impl Fn(usize) -> Vec<(Duration, Vec<u8>)>) -> Handled {
    let mut stores = SlowStores::default();
    for number in 0..count {
        stores = stores.with(&log_key(&format!("F{number:03}")), &file(number));
    }
    let handled = stores.handle(None);
    assert_eq!(handled.report.scanned, count as u64);
    handled
}

#[test]
fn fifty_small_files_are_read_at_the_same_time() {
    let small = |number| vec![(Duration::from_secs(1), log_file(&[noise(number)]))];
    let handled = handle_all(101, small);
    assert!(close(handled.seconds, 3.0), "{}", handled.seconds);
}

#[test]
fn two_large_files_are_read_at_the_same_time() {
    let handled = handle_all(5, |_| large_file(Duration::from_secs(1)).to_vec());
    assert!(close(handled.seconds, 3.0), "{}", handled.seconds);
}

#[test]
fn small_files_do_not_wait_for_large_ones() {
    let mut stores = SlowStores::default();
    for number in 0..4 {
        stores = stores.with(&log_key(&format!("A{number}")), &large_file(NEVER));
        let file = closure(&format!("e{number}"));
        stores = stores.with(&log_key(&format!("B{number}")), &[(Duration::ZERO, file)]);
    }
    let handled = stores.handle(Some(60));
    assert_eq!(handled.failures(), [ErrorType::DeadlineExceeded; 4]);
    assert_eq!((handled.report.scanned, handled.report.published), (4, 4));
    assert!(close(handled.seconds, 43.0), "{}", handled.seconds);
}

#[test]
fn thirty_two_messages_are_published_at_the_same_time() {
    let mut stores = SlowStores::default();
    stores.publishing = Duration::from_secs(1);
    for number in 0..33 {
        let file = closure(&format!("e{number}"));
        let key = log_key(&format!("F{number:02}"));
        stores = stores.with(&key, &[(Duration::ZERO, file)]);
    }
    let handled = stores.handle(None);
    assert_eq!(handled.report.published, 33);
    assert!(close(handled.seconds, 2.0), "{}", handled.seconds);
}
