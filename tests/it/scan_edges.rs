//! The scan at its edges, where generated files seldom come: the longest spelling of a source, the
//! exact limits, a place in an error, depth beyond reason.

use std::fmt::Write as _;

use billing_watch::cloudtrail::{ScanError, ScanLimits, Sources};
use serde_json::Value;

use crate::support::{CONSOLE, record, run_scan, scan_both};

fn console() -> Sources {
    Sources::only([CONSOLE])
}

/// Every character as an escape, the longest way to write a text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        write!(escaped, "\\u{:04x}", u32::from(letter)).unwrap();
    }
    escaped
}

/// The records that are handed out of a file, the same in pieces of any size.
fn handed_out(text: &str) -> Vec<Value> {
    let whole = scan_both(text.as_bytes(), &console(), ScanLimits::default(), &[]);
    for size in 1..text.len() {
        let pieces = scan_both(text.as_bytes(), &console(), ScanLimits::default(), &[size]);
        assert_eq!(pieces, whole, "in pieces of {size}");
    }
    assert_eq!(whole.end, Ok(()), "{text}");
    whole.records
}

#[test]
fn a_source_spelled_as_long_as_can_be_is_seen_wherever_it_is_cut() {
    let text = format!(
        r#"{{"Records":[{{"{}":"{}"}}]}}"#,
        escaped("eventSource"),
        escaped(CONSOLE)
    );
    assert_eq!(handed_out(&text).len(), 1);
}

#[test]
fn only_the_records_own_source_counts() {
    let key = escaped("eventSource");
    for member in [
        // Deeper, and escaped so that no shortcut is taken.
        format!(r#""a":{{"{key}":"{CONSOLE}"}}"#),
        format!(r#""a":[{{"{key}":"{}"}}]"#, escaped(CONSOLE)),
        // Another key, escaped.
        format!(r#""\u0061":"{CONSOLE}""#),
        format!(r#""a\n":"{CONSOLE}""#),
        // A value that spells the key, and what follows it.
        format!(r#""a":"{key}","b":"{CONSOLE}""#),
        format!(r#""a":["{key}","{CONSOLE}"]"#),
        // Longer than any spelling of the source.
        format!(r#""eventSource":"{}{}""#, CONSOLE, "x".repeat(400)),
        format!(r#""eventSource":"{}x""#, escaped(CONSOLE)),
    ] {
        let text = format!(r#"{{"Records":[{{{member}}}]}}"#);
        assert_eq!(handed_out(&text), Vec::<Value>::new(), "{member}");
    }
}

#[test]
fn a_record_of_exactly_the_limit_is_kept_and_one_byte_more_is_not() {
    let text = record("CloseAccount", "a").to_string();
    let file = format!(r#"{{"Records":[{text},{text}]}}"#);
    for size in [1, 7, text.len() - 1, text.len(), file.len()] {
        for (record_bytes, kept) in [(text.len(), 2), (text.len() - 1, 0)] {
            let limits = ScanLimits {
                record_bytes,
                ..ScanLimits::default()
            };
            let scanned = scan_both(file.as_bytes(), &console(), limits, &[size]);
            assert_eq!(scanned.records.len(), kept, "in pieces of {size}");
            assert_eq!(scanned.end.is_ok(), kept == 2);
        }
    }
}

#[test]
fn an_error_names_its_place() {
    for (text, offset) in [
        (r#"{"Records":[{"a":]}]}"#, 17),
        (r#"{"Records":[{"a":1]]}"#, 18),
        (r#"{"Records":[{"a":[}]}]}"#, 18),
        (r#"{"Records":[{}{}]}"#, 14),
        (r#"{"Records":[{}]}x"#, 16),
        (r#"x{"Records":[{}]}"#, 0),
    ] {
        for size in [1, 2, 5, text.len()] {
            let scanned = scan_both(text.as_bytes(), &console(), ScanLimits::default(), &[size]);
            let expected = Err(ScanError::NotJson { offset });
            assert_eq!(scanned.end, expected, "{text} in pieces of {size}");
        }
    }
}

#[test]
fn depth_beyond_reason_hides_no_sibling() {
    let sibling = record("CloseAccount", "a");
    for depth in [(1 << 20) - 1, 1 << 20, (1 << 20) + 3] {
        let deep = format!(
            r#"{{"x":{}{},"eventSource":"other.amazonaws.com"}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let file = format!(r#"{{"Records":[{deep},{sibling}]}}"#);
        let sources = std::sync::Arc::new(console());
        let scan = billing_watch::cloudtrail::Scan::new(sources, ScanLimits::default());
        let scanned = run_scan(scan, file.as_bytes(), &[60_000]);
        assert_eq!((scanned.records.len(), scanned.end), (1, Ok(())), "{depth}");
    }
}
