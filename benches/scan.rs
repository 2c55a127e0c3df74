//! What a scan costs beside inflating alone: `cargo bench --bench scan -- FOLDER` prints JSON lines.
//!
//! `make bench` makes the folder and the tables. The samples of one file are taken in turns, so that the
//! ratio to inflating alone is a ratio within one moment: a shared machine is faster in one second than in
//! the next, and a harness that measures one function after the other can't divide by that. Without a
//! folder, as `cargo test --benches` runs it, each function runs once on a tiny file.

#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::{
    hint::black_box,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use billing_watch::{
    cloudtrail::{Candidates, Record},
    rules::{OptionalRules, RuleFile, RulePack},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde_json::{Value, json};

mod support;

/// Samples of one file end after this time, but not before [`FEWEST`] were taken.
const TIME_EACH: Duration = Duration::from_secs(6);
const FEWEST: usize = 3;
const MOST: usize = 201;
/// What is shorter is repeated within one sample.
const SAMPLE_TIME: Duration = Duration::from_millis(2);
/// A larger file is not parsed as a whole: its values would need several GiB.
const LARGEST_PARSED: u64 = 64 << 20;

/// Something to measure, by its name.
type Case<'a> = (&'static str, Box<dyn Fn() + 'a>);

fn main() {
    let folder = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench");
    let Some(folder) = folder else {
        check();
        return;
    };
    for file in ["1kb", "30kb", "1mb", "30mb", "1gib"] {
        report(file, &read(&folder, file), clean_cases);
    }
    for kind in ["first", "percent", "all"] {
        for size in ["1mb", "30mb"] {
            let file = format!("{size}{kind}");
            report(&file, &read(&folder, &file), matching_cases);
        }
    }
    samples("rules", 0, &rule_cases());
}

fn read(folder: &str, file: &str) -> Bytes {
    let path = Path::new(folder).join(format!("{file}.json.gz"));
    std::fs::read(path)
        .expect("the file that `make bench` makes")
        .into()
}

/// Runs everything once on a tiny file.
fn check() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let text = json!({"Records": [{"eventSource": "s3.amazonaws.com", "eventName": "GetObject"}]});
    encoder
        .write_all(text.to_string().as_bytes())
        .expect("memory");
    let body = encoder.finish().expect("memory").into();
    for (_, run) in clean_cases(&body).into_iter().chain(rule_cases()) {
        run();
    }
}

fn report<'a>(file: &str, body: &'a Bytes, cases: impl Fn(&'a Bytes) -> Vec<Case<'a>>) {
    let expanded = support::inflate(body, |_| {});
    let mut cases = cases(body);
    cases.retain(|(name, _)| *name != "parse" || expanded <= LARGEST_PARSED);
    samples(file, expanded, &cases);
}

/// Takes samples of each case in turns and prints them, in nanoseconds.
fn samples(file: &str, expanded: u64, cases: &[Case]) {
    let counts: Vec<u32> = cases.iter().map(|(_, run)| runs_in_a_sample(run)).collect();
    let mut times = vec![Vec::new(); cases.len()];
    let began = Instant::now();
    while times[0].len() < FEWEST || (began.elapsed() < TIME_EACH && times[0].len() < MOST) {
        for (number, (_, run)) in cases.iter().enumerate() {
            let start = Instant::now();
            for _ in 0..counts[number] {
                run();
            }
            times[number].push(start.elapsed().as_nanos() / u128::from(counts[number]));
        }
    }
    for ((name, _), times) in cases.iter().zip(times) {
        let times: Vec<u64> = times
            .into_iter()
            .filter_map(|time| u64::try_from(time).ok())
            .collect();
        println!(
            "{}",
            json!({"file": file, "expanded_bytes": expanded, "case": name, "nanoseconds": times})
        );
    }
}

/// Warms up, and returns how many runs make a sample.
fn runs_in_a_sample(run: &dyn Fn()) -> u32 {
    run();
    let start = Instant::now();
    run();
    let once = start.elapsed().max(Duration::from_nanos(1));
    u32::try_from(SAMPLE_TIME.as_nanos() / once.as_nanos())
        .unwrap_or(u32::MAX)
        .max(1)
}

/// A file without a match: under packs of 0, 1, about 30 and 500 rules, and under packs on busy sources.
fn clean_cases(body: &Bytes) -> Vec<Case<'_>> {
    let rare: Vec<(String, String)> = (0..500)
        .map(|number| {
            (
                format!("service{}.amazonaws.com", number % 50),
                format!("DeleteThing{number}"),
            )
        })
        .collect();
    let rare = compiled(
        rare.iter()
            .map(|(source, name)| (source.as_str(), name.as_str())),
    );
    let by_source =
        Candidates::of(["iam.amazonaws.com", "sts.amazonaws.com"].map(|source| (source, None)));
    vec![
        inflating(body),
        scanning("rules_0", Candidates::of([]), body, Some(0)),
        scanning("rules_1", support::one(), body, Some(0)),
        scanning(
            "rules_bundled",
            RulePack::bundled(&OptionalRules::default())
                .candidates()
                .clone(),
            body,
            Some(0),
        ),
        scanning("rules_500", rare.candidates().clone(), body, Some(0)),
        scanning(
            "busy_names_60",
            compiled(support::busy_pairs()).candidates().clone(),
            body,
            Some(0),
        ),
        scanning("busy_sources", by_source, body, None),
        splitting(body),
        parsing(body),
    ]
}

/// A file with matches, under a pack of one rule.
fn matching_cases(body: &Bytes) -> Vec<Case<'_>> {
    vec![
        inflating(body),
        scanning("rules_1", support::one(), body, None),
        splitting(body),
        parsing(body),
    ]
}

fn inflating(body: &Bytes) -> Case<'_> {
    (
        "inflate",
        Box::new(|| {
            black_box(support::inflate(body, |_| {}));
        }),
    )
}

/// A scan that must find `expected` candidates, where the number is known.
fn scanning<'a>(
    name: &'static str,
    candidates: Candidates,
    body: &'a Bytes,
    expected: Option<usize>,
) -> Case<'a> {
    let candidates = Arc::new(candidates);
    (
        name,
        Box::new(move || {
            let found = black_box(support::scan(&candidates, body));
            assert!(
                expected.is_none_or(|expected| expected == found),
                "{name} found {found} records"
            );
        }),
    )
}

fn splitting(body: &Bytes) -> Case<'_> {
    let candidates = Arc::new(support::one());
    (
        "splitter",
        Box::new(move || {
            black_box(support::split(&candidates, body));
        }),
    )
}

/// Inflates the whole file, and parses it into values.
fn parsing(body: &Bytes) -> Case<'_> {
    (
        "parse",
        Box::new(|| {
            let mut text = Vec::new();
            support::inflate(body, |piece| text.extend_from_slice(piece));
            black_box(serde_json::from_slice::<Value>(&text).expect("JSON"));
        }),
    )
}

/// Loading packs of rules, and matching one record.
fn rule_cases() -> Vec<Case<'static>> {
    let pack = RulePack::load(&OptionalRules::default(), &[])
        .expect("good rules")
        .pack;
    let record = Record::from_value(json!({
        "eventSource": "billingconsole.amazonaws.com",
        "eventName": "CloseAccount",
        "userIdentity": {"type": "Root"},
    }));
    vec![
        (
            "load_bundled",
            Box::new(|| {
                black_box(RulePack::load(&OptionalRules::default(), &[]).expect("good rules"));
            }),
        ),
        (
            "load_60",
            Box::new(|| {
                black_box(compiled(support::busy_pairs()));
            }),
        ),
        (
            "match_one_record",
            Box::new(move || {
                assert!(
                    pack.evaluate(black_box(&record), Timestamp::UNIX_EPOCH)
                        .is_some()
                );
            }),
        ),
    ]
}

/// Compiles a pack of one rule for each pair of event source and name, as a user writes them.
fn compiled<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> RulePack {
    let files: Vec<RuleFile> = pairs
        .enumerate()
        .map(|(number, (source, name))| RuleFile {
            name: format!("rule-{number}.yml"),
            text: format!(
                "title: {name}\nid: 00000000-0000-4000-8000-{number:012}\nstatus: test\n\
                 description: A rule of the benches.\nlogsource:\n  product: aws\n  service: cloudtrail\n\
                 detection:\n  selection:\n    eventSource: {source}\n    eventName: {name}\n  condition: selection\n\
                 level: medium\n"
            ),
        })
        .collect();
    let loaded = RulePack::load_over(&[], &files).expect("no bundled rules");
    assert!(loaded.rejected.is_empty(), "{:?}", loaded.rejected);
    loaded.pack
}
