//! Bad input of every kind: what it costs, and what is kept of it.

use std::io::Write as _;

use billing_watch::cloudtrail::{Candidates, ScanError, ScanLimits};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::support::{
    CONSOLE, Harness, gzip, gzip_log, log_file, log_key, noise, record, record_with, scan_both,
};

/// The outcome of one bad file: findings that alert, and the error, if any.
struct Case {
    name: &'static str,
    body: Vec<u8>,
    records: usize,
    end: Result<(), ScanError>,
}

fn case(
    name: &'static str,
    body: impl Into<Vec<u8>>,
    records: usize,
    end: Result<(), ScanError>,
) -> Case {
    Case {
        name,
        body: body.into(),
        records,
        end,
    }
}

/// A file of one good record, whatever `element` is, and another good record.
fn between(element: &[u8]) -> Vec<u8> {
    let good = |id| record("CloseAccount", id).to_string().into_bytes();
    [
        &b"{\"Records\":["[..],
        &good("a"),
        b",",
        element,
        b",",
        &good("b"),
        b"]}",
    ]
    .concat()
}

/// A billing console record with one more member, given as raw JSON.
fn with_member(member: &[u8]) -> Vec<u8> {
    [
        &b"{\"eventSource\":\"billingconsole.amazonaws.com\",\"eventName\":\"CloseAccount\",\"eventID\":\"odd\","[..],
        member,
        b"}",
    ]
    .concat()
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"{\"Records\":[{\"a\":\"").unwrap();
    for _ in 0..3 {
        encoder.write_all(&vec![b'a'; 1 << 20]).unwrap();
    }
    encoder.write_all(b"\"}]}").unwrap();
    encoder.finish().unwrap()
}

fn gzip_cases() -> Vec<Case> {
    let text = log_file(&[record("CloseAccount", "a"), noise(1)]);
    let good = gzip(&text);
    let length = good.len();
    let damaged = |at: usize, bits: u8| {
        let mut body = good.clone();
        body[at] ^= bits;
        body
    };
    vec![
        case(
            "cut in the header",
            &good[..5],
            0,
            Err(ScanError::TruncatedGzip),
        ),
        case(
            "cut after the first byte",
            &good[..1],
            0,
            Err(ScanError::TruncatedGzip),
        ),
        case(
            "cut in the checksum",
            &good[..length - 6],
            1,
            Err(ScanError::TruncatedGzip),
        ),
        case(
            "cut in the length",
            &good[..length - 1],
            1,
            Err(ScanError::TruncatedGzip),
        ),
        case(
            "wrong checksum",
            damaged(length - 8, 1),
            1,
            Err(ScanError::CorruptGzip),
        ),
        case(
            "wrong length",
            damaged(length - 1, 1),
            1,
            Err(ScanError::CorruptGzip),
        ),
        case(
            "wrong magic",
            damaged(1, 0xff),
            0,
            Err(ScanError::CorruptGzip),
        ),
        case(
            "unknown method",
            damaged(2, 0xff),
            0,
            Err(ScanError::CorruptGzip),
        ),
        case(
            "zeros behind",
            [&good[..], &[0; 8]].concat(),
            1,
            Err(ScanError::TrailingBytes),
        ),
        case(
            "text behind",
            [&good[..], b"{}"].concat(),
            1,
            Err(ScanError::TrailingBytes),
        ),
        case(
            "half a member behind",
            [&good[..], &good[..12]].concat(),
            1,
            Err(ScanError::NotJson { offset: 0 }),
        ),
        case(
            "a second file behind",
            [&good[..], &good[..]].concat(),
            1,
            Err(ScanError::NotJson {
                offset: text.len() as u64,
            }),
        ),
        case(
            "an empty member behind",
            [&good[..], &gzip(b"")].concat(),
            1,
            Ok(()),
        ),
        case(
            "empty members only",
            gzip(b""),
            0,
            Err(ScanError::NotJson { offset: 0 }),
        ),
        case("nothing", "", 0, Err(ScanError::Empty)),
        case(
            "a bomb",
            bomb(),
            0,
            Err(ScanError::OverCap { cap: 2 << 20 }),
        ),
        case(
            "gzip in gzip",
            gzip(&good),
            0,
            Err(ScanError::NotJson { offset: 0 }),
        ),
    ]
}

fn json_cases() -> Vec<Case> {
    let good = log_file(&[record("CloseAccount", "a")]);
    let at_start = || Err(ScanError::NotJson { offset: 0 });
    vec![
        case("a list", "[]", 0, Err(ScanError::NoRecords)),
        case("a string", "\"Records\"", 0, Err(ScanError::NoRecords)),
        case("a number", "7", 0, Err(ScanError::NoRecords)),
        case("an empty object", "{}", 0, Err(ScanError::NoRecords)),
        case(
            "a digest",
            "{\"logFiles\":[]}",
            0,
            Err(ScanError::NoRecords),
        ),
        case(
            "Records is null",
            "{\"Records\":null}",
            0,
            Err(ScanError::NoRecords),
        ),
        case(
            "Records is an object",
            "{\"Records\":{}}",
            0,
            Err(ScanError::NoRecords),
        ),
        case(
            "records in lower case",
            "{\"records\":[]}",
            0,
            Err(ScanError::NoRecords),
        ),
        case("no records in it", "{\"Records\":[]}", 0, Ok(())),
        case(
            "white space alone",
            " \n ",
            0,
            Err(ScanError::NotJson { offset: 3 }),
        ),
        case("text", "hello", 0, at_start()),
        case(
            "UTF-16",
            "{\0\"\0".as_bytes(),
            0,
            Err(ScanError::NotJson { offset: 1 }),
        ),
        case("a BOM", [b"\xEF\xBB\xBF", &good[..]].concat(), 1, Ok(())),
        case(
            "two BOMs",
            [b"\xEF\xBB\xBF\xEF\xBB\xBF", &good[..]].concat(),
            0,
            Err(ScanError::NotJson { offset: 3 }),
        ),
        case(
            "half a BOM",
            [b"\xEF\xBB", &good[..]].concat(),
            0,
            Err(ScanError::NotJson { offset: 2 }),
        ),
        case(
            "a comma too many",
            "{\"Records\":[{},]}",
            0,
            Err(ScanError::NotJson { offset: 15 }),
        ),
        case(
            "a bracket too many",
            [&good[..], b"}"].concat(),
            1,
            Err(ScanError::NotJson {
                offset: good.len() as u64,
            }),
        ),
        case(
            "two lines of JSON",
            [&good[..], b"\n", &good[..]].concat(),
            1,
            Err(ScanError::NotJson {
                offset: good.len() as u64 + 1,
            }),
        ),
        case(
            "a line break behind",
            [&good[..], b"\n"].concat(),
            1,
            Ok(()),
        ),
        case(
            "cut where the tail looks whole",
            "{\"Records\":[{\"a\":[{\"b\":1}]}",
            0,
            Err(ScanError::TruncatedJson { expanded_bytes: 27 }),
        ),
        case(
            "two files in one",
            "{\"Records\":[{}]}{\"Records\":[{}]}",
            0,
            Err(ScanError::NotJson { offset: 16 }),
        ),
        case(
            "a missing comma",
            "{\"Records\":[{} {}]}",
            0,
            Err(ScanError::NotJson { offset: 15 }),
        ),
        case(
            "a tail twice",
            "{\"Records\":[{}]}]}",
            0,
            Err(ScanError::NotJson { offset: 16 }),
        ),
        case(
            "two million brackets",
            [&b"{\"Records\":["[..], &b"[".repeat((2 << 20) - 20)].concat(),
            0,
            Err(ScanError::TruncatedJson {
                expanded_bytes: (2 << 20) - 8,
            }),
        ),
        case(
            "Records twice",
            "{\"Records\":[],\"Records\":[{\"eventSource\":\"billingconsole.amazonaws.com\"}]}",
            1,
            Ok(()),
        ),
    ]
}

fn record_cases() -> Vec<Case> {
    let deep =
        |levels: usize| [&b"\"a\":"[..], &b"[".repeat(levels), &b"]".repeat(levels)].concat();
    let malformed = || Err(ScanError::MalformedRecord);
    let long = [&b"\"a\":\""[..], &b"x".repeat(200 << 10), b"\""].concat();
    let longest = [&b"\"a\":\""[..], &b"x".repeat(1 << 20), b"\""].concat();
    vec![
        case("null for a record", between(b"null"), 2, Ok(())),
        case("a number for a record", between(b"-1.5e3"), 2, Ok(())),
        case("a string for a record", between(b"\"eventSource\""), 2, Ok(())),
        case("a list for a record", between(b"[1,{\"eventSource\":\"billingconsole.amazonaws.com\"}]"), 2, Ok(())),
        case("an empty record", between(b"{}"), 2, Ok(())),
        case("a misspelt literal", between(b"nul"), 2, malformed()),
        case("100,000 levels in a record of interest", between(&with_member(&deep(100_000))), 3, Ok(())),
        case("100,000 levels in another record", between(&[b"{".as_slice(), &deep(100_000), b"}"].concat()), 2, Ok(())),
        case("100,000 levels for a record", between(&deep(100_000)[4..]), 2, Ok(())),
        case("bad UTF-8 in a value", between(&with_member(b"\"a\":\"\xff\xfe\"")), 3, Ok(())),
        case("bad UTF-8 in a key", between(&with_member(b"\"\xff\":1")), 3, Ok(())),
        case("a lone surrogate in a value", between(&with_member(br#""a":"\ud800""#)), 3, Ok(())),
        case("a lone surrogate in a key", between(&with_member(br#""\udc00":1"#)), 3, Ok(())),
        case("a number out of range", between(&with_member(b"\"a\":1e999")), 3, Ok(())),
        case("a raw control character", between(&with_member(b"\"a\":\"\x01\"")), 3, malformed()),
        case("a missing colon", between(&with_member(b"\"a\" 1")), 3, malformed()),
        case("a missing value", between(&with_member(b"\"a\":")), 3, malformed()),
        case("an unknown escape", between(&with_member(br#""a":"\x""#)), 3, malformed()),
        case("a bracket of the wrong kind", between(&with_member(b"\"a\":[}")), 1, Err(ScanError::NotJson { offset: 0 })),
        case("a string of 200 KB", between(&with_member(&long)), 3, Ok(())),
        case("a record over the limit", between(&with_member(&longest)), 2, Err(ScanError::RecordTooLong { limit: 512 << 10 })),
        case("the source twice, the last one wins", between(&with_member(b"\"eventSource\":\"s3.amazonaws.com\"")), 2, Ok(())),
        case("the source in a list", between(br#"{"eventSource":["billingconsole.amazonaws.com"]}"#), 3, Ok(())),
        case("an escaped key", between(br#"{"event\u0053ource":"billingconsole.amazonaws.com"}"#), 3, Ok(())),
        case("an escaped value", between(br#"{"eventSource":"\u0062illingconsole.amazonaws.com"}"#), 3, Ok(())),
        case("the source in a parameter", between(br#"{"eventSource":"x","requestParameters":{"eventSource":"billingconsole.amazonaws.com"}}"#), 2, Ok(())),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = gzip_cases();
    cases.extend(json_cases());
    cases.extend(record_cases());
    assert!(cases.len() >= 40, "{}", cases.len());
    cases
}

#[test]
fn every_kind_of_bad_file_ends_as_listed_and_other_records_alert() {
    let limits = ScanLimits {
        expanded_bytes: 2 << 20,
        record_bytes: 512 << 10,
        ..ScanLimits::default()
    };
    for case in cases() {
        for sizes in [&[][..], &[1000], &[1, 7]] {
            let scanned = scan_both(
                &case.body,
                &Candidates::of([(CONSOLE, None)]),
                limits,
                sizes,
            );
            assert_eq!(scanned.records.len(), case.records, "{}", case.name);
            match (&scanned.end, &case.end) {
                // Where a bracket is wrong depends on the brackets around it.
                (Err(ScanError::NotJson { .. }), Err(ScanError::NotJson { offset: 0 })) => {}
                (end, expected) => assert_eq!(end, expected, "{}", case.name),
            }
        }
    }
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_names_every_kind_of_bad_file_and_finds_what_is_in_the_others() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, body: &[u8]| {
            let name = log_key(name).rsplit('/').next().unwrap().to_owned();
            std::fs::write(folder.path().join(&name), body).unwrap();
            name
        };
        let bad = file("Bad0000000000000", &case.body);
        file(
            "Good000000000000",
            &gzip_log(&[record("CloseAccount", "good")]),
        );
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_billing-watch"))
            .args([
                "scan",
                "--quiet",
                "--format",
                "jsonl",
                "--max-expanded-bytes",
                "2097152",
            ])
            .arg(folder.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&done.stdout), text(&done.stderr));
        assert!(
            out.contains("\"event_id\":\"good\""),
            "{}: {out}",
            case.name
        );
        assert!(!err.contains("panicked"), "{}: {err}", case.name);
        let (status, says) = match case.end {
            Ok(()) => (0, String::new()),
            // The program allows longer records than these cases have.
            Err(ScanError::RecordTooLong { .. }) => continue,
            Err(ScanError::OverCap { .. }) => (4, "expands to more than 2097152 bytes".to_owned()),
            Err(ScanError::NotJson { .. }) => (4, "not JSON near expanded byte".to_owned()),
            Err(error) => (4, error.to_string()),
        };
        assert_eq!(done.status.code(), Some(status), "{}: {err}", case.name);
        assert!(err.contains(&says), "{}: {err}", case.name);
        assert!(status == 0 || err.contains(&bad), "{}: {err}", case.name);
    }
}

#[test]
fn a_file_cut_anywhere_fails_and_its_whole_records_alert() {
    let text = log_file(&[
        record("CloseAccount", "a"),
        noise(1),
        record("CloseAccount", "b"),
    ]);
    let first_end = text.windows(2).position(|pair| pair == b"},").unwrap();
    let limits = ScanLimits::default();
    for cut in 1..text.len() {
        let plain = scan_both(
            &text[..cut],
            &Candidates::of([(CONSOLE, None)]),
            limits,
            &[],
        );
        let zipped = scan_both(
            &gzip(&text[..cut]),
            &Candidates::of([(CONSOLE, None)]),
            limits,
            &[],
        );
        assert_eq!(plain, zipped);
        assert_eq!(
            plain.end,
            Err(ScanError::TruncatedJson {
                expanded_bytes: cut as u64
            })
        );
        assert!(plain.records.len() <= 2);
        if cut < first_end {
            assert!(plain.records.is_empty());
        }
    }
}

#[test]
fn a_record_with_a_wrong_type_in_any_field_alerts() {
    let whole = record_with(
        "CloseAccount",
        "e",
        json!({"errorCode": "x", "addendum": {}, "serviceEventDetails": {}, "additionalEventData": {}}),
    );
    let names: Vec<String> = whole.as_object().unwrap().keys().cloned().collect();
    for name in names {
        if name == "eventSource" || name == "eventName" {
            continue;
        }
        for odd in [
            json!(null),
            json!(7),
            json!(["a"]),
            json!({"b": {}}),
            json!(""),
            json!(true),
        ] {
            let mut record = whole.clone();
            record[&name] = odd.clone();
            let key = log_key("Abcdefgh12345678");
            let run = Harness::new()
                .with_object(&key, gzip_log(&[record]))
                .run(&[&key]);
            assert_eq!(run.alerts.len(), 1, "{name} = {odd}");
            assert!(run.reply.is_ok(), "{name} = {odd}");
        }
    }
}

#[test]
fn an_alert_names_the_members_that_could_not_be_read() {
    let key = log_key("Abcdefgh12345678");
    let deep = [
        &b"\"requestParameters\":"[..],
        &b"[".repeat(200),
        &b"]".repeat(200),
    ]
    .concat();
    let text = [&b"{\"Records\":["[..], &with_member(&deep), b"]}"].concat();
    let run = Harness::new().with_object(&key, gzip(&text)).run(&[&key]);
    assert!(run.reply.is_ok());
    assert!(
        run.alerts[0]
            .body
            .contains("could not be read, see the record itself: requestParameters"),
        "{}",
        run.alerts[0].body
    );
}

#[test]
fn a_record_of_huge_strings_fits_one_message() {
    let huge = "漢\u{202e}".repeat(20 << 10);
    let value: Value = json!({
        "userAgent": huge, "sourceIPAddress": huge, "errorCode": huge, "eventTime": huge, "awsRegion": huge,
        "userIdentity": {"type": huge, "arn": huge, "userName": huge},
        "requestParameters": {"a": huge, "type": huge},
    });
    let key = log_key("Abcdefgh12345678");
    let run = Harness::new()
        .with_object(&key, gzip_log(&[record_with("CloseAccount", &huge, value)]))
        .run(&[&key]);
    assert_eq!(run.alerts.len(), 1);
    assert!(
        run.alerts[0].body.len() < 100_000,
        "{}",
        run.alerts[0].body.len()
    );
}
