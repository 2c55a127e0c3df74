//! The scan at its edges, where generated files seldom come: the longest spelling of a source, the
//! exact limits, a place in an error, depth beyond reason.

use std::{fmt::Write as _, sync::Arc};

use billing_watch::cloudtrail::{Candidates, Scan, ScanError, ScanLimits, Step};
use serde_json::Value;

use crate::support::{CONSOLE, gzip, log_file, noise, record, run_scan, scan_both};

fn console() -> Candidates {
    Candidates::of([(CONSOLE, None)])
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
    // Verified files are replayed in any case, which would hide what the probe lets pass.
    for verified_bytes in [0, 256 << 10] {
        let limits = ScanLimits {
            verified_bytes,
            ..ScanLimits::default()
        };
        for size in 1..text.len() {
            let pieces = scan_both(text.as_bytes(), &console(), limits, &[size]);
            assert_eq!(pieces, whole, "in pieces of {size}, {verified_bytes}");
        }
    }
    assert_eq!(whole.end, Ok(()), "{text}");
    whole.records
}

#[test]
fn a_fully_escaped_source_is_found_at_every_chunk_boundary() {
    let text = format!(
        r#"{{"Records":[{{"{}":"{}"}}]}}"#,
        escaped("eventSource"),
        escaped(CONSOLE)
    );
    assert_eq!(handed_out(&text).len(), 1);
}

#[test]
fn only_the_event_source_at_the_records_own_depth_counts() {
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
fn an_error_names_its_offset() {
    for (text, offset) in [
        (r#"{"Records":[{"a":]}]}"#, 17),
        (r#"{"Records":[{"a":1]]}"#, 18),
        (r#"{"Records":[{"a":[}]}]}"#, 18),
        (r#"{"Records":[{}{}]}"#, 14),
        (r#"{"Records":[{}]}x"#, 16),
        (r#"x{"Records":[{}]}"#, 0),
        (r#"{"a":x,"Records":[{}]}"#, 5),
        (r#"{"Records":[x]}"#, 12),
        (r#"{"Records":[{},x]}"#, 15),
        (r#"{"a\q":1,"Records":[{}]}"#, 6),
        (r#"{"a":01,"Records":[{}]}"#, 7),
    ] {
        for size in [1, 2, 5, text.len()] {
            let scanned = scan_both(text.as_bytes(), &console(), ScanLimits::default(), &[size]);
            let expected = Err(ScanError::NotJson { offset });
            assert_eq!(scanned.end, expected, "{text} in pieces of {size}");
        }
    }
}

#[test]
fn a_record_nested_too_deep_hides_no_other_record() {
    let sibling = record("CloseAccount", "a");
    for depth in [(1 << 20) - 1, 1 << 20, (1 << 20) + 3] {
        let deep = format!(
            r#"{{"x":{}{},"eventSource":"other.amazonaws.com"}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let file = format!(r#"{{"Records":[{deep},{sibling}]}}"#);
        let sources = Arc::new(console());
        let scan = Scan::new(sources, ScanLimits::default());
        let scanned = run_scan(scan, file.as_bytes(), &[60_000]);
        assert_eq!((scanned.records.len(), scanned.end), (1, Ok(())), "{depth}");
    }
}

#[test]
fn no_byte_beyond_the_cap_is_counted() {
    let text = format!(r#"{{"Records":[{}]}}"#, record("CloseAccount", "a"));
    for expanded_bytes in [1, 40, text.len() as u64 - 1] {
        for body in [text.clone().into_bytes(), gzip(text.as_bytes())] {
            let limits = ScanLimits {
                expanded_bytes,
                ..ScanLimits::default()
            };
            let mut scan = Scan::new(Arc::new(console()), limits);
            scan.feed(body.into());
            let end = loop {
                match scan.next_step() {
                    Ok(Step::NeedInput) => scan.end_of_input(),
                    Ok(Step::Record(_)) => {}
                    Ok(Step::Done) => panic!("the cap was not kept"),
                    Err(error) => break error,
                }
            };
            assert_eq!(
                end,
                ScanError::OverCap {
                    cap: expanded_bytes
                }
            );
            assert_eq!(scan.expanded_bytes(), expanded_bytes);
        }
    }
}

#[test]
fn bytes_after_a_gzip_member_are_refused_at_every_chunk_boundary() {
    let text = format!(r#"{{"Records":[{}]}}"#, record("CloseAccount", "a"));
    let good = gzip(text.as_bytes());
    let mut trailed = good.clone();
    trailed.extend(b"xy");
    let mut corrupt = good.clone();
    let checksum = corrupt.len() - 6;
    corrupt[checksum] ^= 1;
    for (body, end) in [
        (&good, Ok(())),
        (&trailed, Err(ScanError::TrailingBytes)),
        (&corrupt, Err(ScanError::CorruptGzip)),
    ] {
        for size in 1..body.len() {
            let scanned = scan_both(body, &console(), ScanLimits::default(), &[size]);
            assert_eq!(scanned.end, end, "in pieces of {size}");
        }
        let scanned = scan_both(body, &console(), ScanLimits::default(), &[good.len(), 1]);
        assert_eq!(scanned.end, end);
    }
}

#[test]
fn a_source_is_found_in_every_layout_and_escape() {
    // Head and tail are CloudTrail's, so that the probe does not doubt for their sake.
    let rest = CONSOLE.strip_prefix('b').unwrap();
    for member in [
        format!(r#""eventSource" : "{CONSOLE}""#),
        format!("\"eventSource\"\r\n\t:\n \"{CONSOLE}\""),
        format!(r#""eventSource": "{CONSOLE}""#),
        format!(r#""eventSource" :"{CONSOLE}""#),
        // A letter that the key does not have.
        format!(r#""eventSource":"\u0062{rest}""#),
    ] {
        let text = format!(r#"{{"Records":[{{{member}}}]}}"#);
        assert_eq!(handed_out(&text).len(), 1, "{member}");
    }
}

#[test]
fn a_candidate_is_found_wherever_it_stands_around_the_first_buffers_end() {
    let candidates = Candidates::of([(CONSOLE, Some("CloseAccount"))]);
    for position in (0..320).step_by(5) {
        let mut records: Vec<Value> = (0..320).map(noise).collect();
        records[position] = record("CloseAccount", "a");
        let file = log_file(&records);
        assert!(file.len() > 48 << 10);
        for body in [&file, &gzip(&file)] {
            for size in [700, 4_096, 40_000, 1 << 20] {
                let scanned = scan_both(body, &candidates, ScanLimits::default(), &[size]);
                assert_eq!(scanned.records.len(), 1, "{position}, in chunks of {size}");
            }
        }
    }
}
