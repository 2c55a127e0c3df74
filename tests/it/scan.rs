//! The scan against a slow reference that parses everything.

use std::{fmt::Write as _, sync::Arc};

use billing_watch::cloudtrail::{Candidates, Record, Scan, ScanError, ScanLimits, is_well_formed};
use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json, value::RawValue};

use crate::support::{CONSOLE, gzip, gzip_log, log_file, noise, record, run_scan, scan_both};

fn console() -> Candidates {
    Candidates::of([(CONSOLE, None)])
}

/// Candidates by name, as a rule pack with rules for busy sources has them.
fn named() -> Candidates {
    Candidates::of([
        (CONSOLE, Some("CloseAccount")),
        (CONSOLE, Some("SetPayInformation")),
        ("s3.amazonaws.com", Some("DeleteBucket")),
        ("account.amazonaws.com", None),
    ])
}

fn limits() -> ScanLimits {
    ScanLimits {
        expanded_bytes: 8 << 20,
        ..ScanLimits::default()
    }
}

/// The oracle: the whole text parsed by serde_json, each record then by itself.
fn reference(text: &[u8], candidates: &Candidates) -> Result<Vec<Value>, ()> {
    /// A key that may hold lone surrogates.
    struct Key(Vec<u8>);
    impl<'de> Deserialize<'de> for Key {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Bytes;
            impl Visitor<'_> for Bytes {
                type Value = Key;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a key")
                }

                fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Key, E> {
                    Ok(Key(bytes.to_vec()))
                }
            }
            deserializer.deserialize_bytes(Bytes)
        }
    }
    struct Records(Vec<Box<RawValue>>, bool);
    impl<'de> Visitor<'de> for &mut Records {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a log file")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(Key(key)) = map.next_key()? {
                if key == b"Records" {
                    self.0.extend(map.next_value::<Vec<Box<RawValue>>>()?);
                    self.1 = true;
                } else {
                    map.next_value::<Box<RawValue>>()?;
                }
            }
            Ok(())
        }
    }
    if !is_well_formed(text) {
        return Err(());
    }
    let mut records = Records(Vec::new(), false);
    let text = String::from_utf8_lossy(text);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    deserializer.deserialize_map(&mut records).map_err(|_| ())?;
    if !records.1 {
        return Err(());
    }
    Ok(records
        .0
        .iter()
        .filter(|raw| raw.get().starts_with('{'))
        .map(|raw| Record::parse(raw.get().as_bytes()).record)
        .filter(|record| candidates.include(record))
        .map(|record| record.as_value().clone())
        .collect())
}

/// A JSON string in one of many spellings.
fn spelled(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(0..12u8, text.len()).prop_map(move |choices| {
        let mut spelling = String::from("\"");
        for (character, choice) in text.chars().zip(choices) {
            match choice {
                0 => write!(spelling, "\\u{:04x}", u32::from(character)).unwrap(),
                1 => write!(spelling, "\\u{:04X}", u32::from(character)).unwrap(),
                _ => spelling.push(character),
            }
        }
        spelling + "\""
    })
}

fn plain(text: &'static str) -> impl Strategy<Value = String> {
    Just(format!("\"{text}\""))
}

fn source_value() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => plain("s3.amazonaws.com"),
        2 => plain("ec2.amazonaws.com"),
        3 => plain("billingconsole.amazonaws.com"),
        1 => plain("BillingConsole.AmazonAWS.com"),
        1 => plain("billingconsole.amazonaws.co"),
        1 => plain("billingconsole.amazonaws.comm"),
        1 => Just("\"billingconsole.amazonaws.com\\u0000\"".to_owned()),
        // The Kelvin sign is a k for Sigma, and no source has one: still a doubt.
        1 => Just("\"\u{212a}illing\"".to_owned()),
        2 => spelled("billingconsole.amazonaws.com"),
        1 => spelled("s3.amazonaws.com"),
        1 => Just("null".to_owned()),
        1 => Just("12".to_owned()),
        1 => Just("[\"x\",\"billingconsole.amazonaws.com\"]".to_owned()),
        1 => Just("{\"eventSource\":\"billingconsole.amazonaws.com\"}".to_owned()),
    ]
}

fn name_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => plain("GetObject"),
        3 => plain("CloseAccount"),
        2 => plain("DeleteBucket"),
        1 => plain("closeaccount"),
        1 => plain("loseAccount"),
        1 => plain("CloseAccounts"),
        // A long s is an s for Sigma: a doubt.
        1 => Just("\"Clo\u{17f}eAccount\"".to_owned()),
        1 => spelled("CloseAccount"),
        1 => Just("null".to_owned()),
        1 => Just("[\"GetObject\",\"CloseAccount\"]".to_owned()),
    ]
}

fn string_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~éß漢]{0,24}".prop_map(|text| json!(text).to_string()),
        1 => Just(r#""\"eventSource\":\"billingconsole.amazonaws.com\"""#.to_owned()),
        1 => Just(r#""\\""#.to_owned()),
        1 => Just(r#""\\\\\"""#.to_owned()),
        1 => Just(r#""{[]},:""#.to_owned()),
        1 => Just(r#""\ud83d\ude00\u0041""#.to_owned()),
        1 => Just(r#""eventSource""#.to_owned()),
        1 => Just(r#""\ud800""#.to_owned()),
        1 => prop::collection::vec(Just("\\n"), 0..40).prop_map(|parts| format!("\"{}\"", parts.concat())),
    ]
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-12.5e3".to_owned()),
        Just("1e999".to_owned()),
        string_value(),
    ]
}

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\n\t"), 1 => Just("\r\n")]
}

fn member_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z]{1,8}".prop_map(|name| format!("\"{name}\"")),
        1 => plain("eventName"),
        1 => plain("eventsource"),
        1 => plain("eventSourc"),
        1 => Just("\"\\\"eventSource\"".to_owned()),
        1 => Just("\"\"".to_owned()),
        1 => Just("\"\\ud800\"".to_owned()),
    ]
}

fn nested() -> impl Strategy<Value = String> {
    leaf().prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec((space(), inner.clone(), space()), 0..4).prop_map(|members| {
                let members: Vec<String> = members
                    .into_iter()
                    .map(|(before, member, behind)| format!("{before}{member}{behind}"))
                    .collect();
                format!("[{}]", members.join(","))
            }),
            prop::collection::vec(
                (
                    prop_oneof![3 => member_name(), 1 => plain("eventSource")],
                    inner,
                    space()
                ),
                0..4
            )
            .prop_map(|members| object(&members)),
        ]
    })
}

fn object(members: &[(String, String, &'static str)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value, space)| format!("{space}{name}{space}:{space}{value}{space}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The source and the name of a record: as CloudTrail writes them, in the other order, apart, escaped,
/// repeated, or one of them alone.
fn identity() -> impl Strategy<Value = Vec<(String, String)>> {
    let source = || prop_oneof![8 => plain("eventSource"), 2 => spelled("eventSource")];
    let name = || prop_oneof![8 => plain("eventName"), 1 => spelled("eventName")];
    let source = move || (source(), source_value());
    let name = move || (name(), name_value());
    let other = || (member_name(), nested());
    prop_oneof![
        6 => (source(), name()).prop_map(|(source, name)| vec![source, name]),
        1 => (name(), source()).prop_map(|(name, source)| vec![name, source]),
        1 => (source(), other(), name()).prop_map(|(source, other, name)| vec![source, other, name]),
        1 => (source(), name(), other(), name())
            .prop_map(|(source, name, other, again)| vec![source, name, other, again]),
        1 => (source(), name(), source()).prop_map(|(source, name, again)| vec![source, name, again]),
        1 => source().prop_map(|source| vec![source]),
        1 => name().prop_map(|name| vec![name]),
    ]
}

fn element() -> impl Strategy<Value = String> {
    let others = || prop::collection::vec((member_name(), nested()), 0..3);
    let identities = prop::collection::vec(identity(), 0..3);
    let members = (others(), identities, others(), space()).prop_map(
        |(before, identities, behind, space)| {
            let members = before
                .into_iter()
                .chain(identities.into_iter().flatten())
                .chain(behind);
            let members: Vec<_> = members.map(|(name, value)| (name, value, space)).collect();
            object(&members)
        },
    );
    prop_oneof![12 => members, 1 => nested()]
}

fn file_text() -> impl Strategy<Value = String> {
    let list = prop::collection::vec((space(), element(), space()), 0..8).prop_map(|elements| {
        let elements: Vec<String> = elements
            .into_iter()
            .map(|(before, element, behind)| format!("{before}{element}{behind}"))
            .collect();
        format!("[{}]", elements.join(","))
    });
    let other = || (member_name(), nested(), space());
    let name = prop_oneof![8 => plain("Records"), 1 => spelled("Records")];
    (
        name,
        list,
        prop::collection::vec(other(), 0..2),
        prop::collection::vec(other(), 0..2),
        space(),
        prop::bool::weighted(0.7),
    )
        .prop_map(|(name, list, before, behind, space, usual)| {
            if usual {
                return format!("{{\"Records\":{list}}}");
            }
            let mut members = before;
            members.push((name, list, space));
            members.extend(behind);
            format!("{space}{}{space}", object(&members))
        })
}

/// The text in one or several gzip members, or as it is.
fn body(text: &[u8], cuts: &[usize]) -> Vec<u8> {
    let Some((first, rest)) = cuts.split_first() else {
        return text.to_vec();
    };
    let mut cut = *first % (text.len() + 1);
    let mut body = gzip(&text[..cut]);
    for next in rest {
        let end = cut + next % (text.len() - cut + 1);
        body.extend(gzip(&text[cut..end]));
        cut = end;
    }
    body.extend(gzip(&text[cut..]));
    body
}

/// Generated files a test: `PROPTEST_CASES` if set.
#[allow(clippy::disallowed_methods, reason = "a test's own knob")]
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|cases| cases.parse().ok()).unwrap_or(2_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn probe_and_splitter_agree_with_the_reference_parser(
        text in file_text(),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
        sizes in prop::collection::vec(1..200usize, 1..6),
        buffer_bytes in prop_oneof![Just(256usize << 10), 16..300usize],
        replay_bytes in prop_oneof![Just(8usize << 20), 0..200usize],
        // At 0 nothing is replayed to be verified: what the probe passes is passed.
        verified_bytes in prop_oneof![3 => Just(0), 1 => Just(256 << 10)],
    ) {
        let body = body(text.as_bytes(), &cuts);
        let limits = ScanLimits { buffer_bytes, replay_bytes, verified_bytes, ..limits() };
        for candidates in [console(), named()] {
            let scanned = scan_both(&body, &candidates, limits, &sizes);
            let expected = reference(text.as_bytes(), &candidates);
            prop_assert_eq!(scanned.end, Ok(()), "{}", text);
            prop_assert_eq!(Ok(scanned.records), expected, "{}", text);
        }
    }

    #[test]
    fn every_record_is_returned_when_a_rule_names_no_sources(
        text in file_text(),
        sizes in prop::collection::vec(1..200usize, 1..4),
        buffer_bytes in 16..300usize,
    ) {
        let limits = ScanLimits { buffer_bytes, ..limits() };
        let scanned = scan_both(text.as_bytes(), &Candidates::All, limits, &sizes);
        prop_assert_eq!(scanned.end, Ok(()));
        prop_assert_eq!(Ok(scanned.records), reference(text.as_bytes(), &Candidates::All));
    }

    #[test]
    fn a_damaged_file_is_refused_exactly_where_the_reference_refuses_it(
        text in file_text(),
        at in any::<prop::sample::Index>(),
        with in prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b','), Just(b':'), Just(b'\\'), Just(b'x')],
        sizes in prop::collection::vec(1..50usize, 1..4),
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = with;
        let whole = scan_both(&bytes, &Candidates::All, limits(), &[]);
        let pieces = scan_both(&bytes, &Candidates::All, limits(), &sizes);
        prop_assert_eq!(whole.end.is_ok(), pieces.end.is_ok());
        prop_assert_eq!(&whole.records, &pieces.records);
        // With every record parsed, nothing malformed passes.
        prop_assert_eq!(whole.end.is_ok(), reference(&bytes, &Candidates::All).is_ok(), "{}", String::from_utf8_lossy(&bytes));
        // With few candidates, both scanners still say the same.
        scan_both(&bytes, &console(), limits(), &sizes);
        scan_both(&bytes, &named(), limits(), &sizes);
    }
}

#[test]
fn the_records_do_not_depend_on_chunk_boundaries() {
    let text = log_file(&[noise(1), record("CloseAccount", "a"), noise(2)]);
    let unverified = ScanLimits {
        verified_bytes: 0,
        ..limits()
    };
    for body in [text.clone(), gzip(&text)] {
        for size in 1..body.len() {
            let scanned = scan_both(&body, &console(), unverified, &[size]);
            assert_eq!(scanned.end, Ok(()), "in pieces of {size}");
            assert_eq!(scanned.records.len(), 1, "in pieces of {size}");
        }
    }
    for buffer_bytes in 16..text.len() {
        let limits = ScanLimits {
            buffer_bytes,
            ..limits()
        };
        let scanned = scan_both(&gzip(&text), &console(), limits, &[]);
        assert_eq!(scanned.records.len(), 1, "through {buffer_bytes} bytes");
    }
}

#[test]
fn records_before_a_broken_end_are_returned_before_the_error() {
    let mut body = gzip_log(&[
        record("CloseAccount", "a"),
        record("SetPayInformation", "b"),
    ]);
    let checksum = body.len() - 6;
    body[checksum] ^= 1;
    let scanned = scan_both(&body, &console(), limits(), &[]);
    assert_eq!(scanned.records.len(), 2);
    assert_eq!(scanned.end, Err(ScanError::CorruptGzip));
}

#[test]
fn the_cap_is_exact_and_records_under_it_are_returned() {
    let text = log_file(&[record("CloseAccount", "a"), noise(1)]);
    let cap = text.len() as u64;
    for (expanded_bytes, end) in [
        (cap, Ok(())),
        (cap - 1, Err(ScanError::OverCap { cap: cap - 1 })),
    ] {
        let limits = ScanLimits {
            expanded_bytes,
            ..limits()
        };
        for body in [text.clone(), gzip(&text)] {
            let scanned = scan_both(&body, &console(), limits, &[7]);
            assert_eq!(scanned.end, end);
            assert_eq!(scanned.records.len(), 1);
        }
    }
}

#[test]
fn a_record_over_the_limit_fails_the_file_and_other_records_are_returned() {
    let long = record_long("CloseAccount");
    let text = log_file(&[
        record("CloseAccount", "a"),
        long,
        record("CloseAccount", "b"),
    ]);
    let limits = ScanLimits {
        record_bytes: 4096,
        ..limits()
    };
    for sizes in [&[][..], &[100]] {
        let scanned = scan_both(&text, &console(), limits, sizes);
        assert_eq!(scanned.records.len(), 2);
        assert_eq!(scanned.end, Err(ScanError::RecordTooLong { limit: 4096 }));
    }
    let mut other = record_long("PutObject");
    other["eventSource"] = json!("s3.amazonaws.com");
    let text = log_file(&[other, record("CloseAccount", "a")]);
    let scanned = scan_both(&text, &console(), limits, &[]);
    assert_eq!((scanned.records.len(), scanned.end), (1, Ok(())));
}

#[test]
fn compressed_bytes_that_inflate_to_nothing_are_not_kept() {
    // Empty members without end: only the bound on kept chunks stops them from piling up.
    let mut body = Vec::new();
    for _ in 0..500 {
        body.extend(gzip(b""));
    }
    body.extend(gzip_log(&[record("CloseAccount", "a")]));
    let limits = ScanLimits {
        replay_bytes: 1000,
        ..limits()
    };
    let scanned = scan_both(&body, &console(), limits, &[100]);
    assert_eq!((scanned.records.len(), scanned.end), (1, Ok(())));
}

#[test]
fn a_large_file_without_a_candidate_passes_the_probe_alone() {
    let records: Vec<Value> = (0..3000).map(noise).collect();
    let text = log_file(&records);
    assert!(text.len() as u64 > ScanLimits::default().verified_bytes);
    let scanned = scan_both(&gzip(&text), &console(), limits(), &[1000]);
    assert_eq!((scanned.records.len(), scanned.end), (0, Ok(())));
    // The one allowed difference, and only in files of that size.
    let broken = String::from_utf8(text)
        .unwrap()
        .replacen("noise-7", "noise\"-7", 1);
    let candidates = Arc::new(console());
    let probed = run_scan(
        Scan::new(Arc::clone(&candidates), limits()),
        broken.as_bytes(),
        &[],
    );
    assert_eq!(probed.end, Ok(()));
}

fn record_long(event_name: &str) -> Value {
    let mut long = record(event_name, "long");
    long["requestParameters"] = json!({"text": "x".repeat(8192)});
    long
}
