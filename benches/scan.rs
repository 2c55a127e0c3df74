//! What a scan costs beside inflating alone, in one run: `cargo bench --bench scan`.
//!
//! Compare medians: `no_hit`, `early_hit` and `splitter_alone` against `inflate_alone`.

#![allow(clippy::print_stderr, reason = "says what was measured")]

use std::{io::Write as _, sync::Arc};

use billing_watch::cloudtrail::{Candidates, Record, Scan, ScanLimits, Step};
use billing_watch::rules::RulePack;
use bytes::Bytes;
use divan::{Bencher, black_box};
use flate2::{Compression, Decompress, FlushDecompress, Status, write::GzEncoder};
use jiff::Timestamp;
use serde_json::json;

/// Expanded size of the file that is scanned.
const FILE_BYTES: usize = 30 << 20;
/// As bodies arrive from S3.
const CHUNK_BYTES: usize = 64 << 10;

fn main() {
    let body = log_file(false);
    eprintln!(
        "{} MiB expanded, {} bytes gzipped",
        FILE_BYTES >> 20,
        body.len()
    );
    divan::main();
}

/// A log file of records that differ as CloudTrail's do; the first one may be a hit.
fn log_file(hit: bool) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut size = 0;
    let mut number: u64 = 0;
    let mut text = String::from("{\"Records\":[");
    while size < FILE_BYTES {
        let scrambled = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let source = if hit && number == 0 {
            "billingconsole.amazonaws.com"
        } else {
            ["s3.amazonaws.com", "ec2.amazonaws.com", "kms.amazonaws.com"][(number % 3) as usize]
        };
        let name = ["GetObject", "DescribeInstances", "Decrypt"][(number % 3) as usize];
        let record = json!({
            "eventVersion": "1.08",
            "userIdentity": {
                "type": "AssumedRole",
                "principalId": format!("AROA{scrambled:016X}:session"),
                "arn": format!("arn:aws:sts::111122223333:assumed-role/Example-{}/session-{scrambled:x}", number % 17),
                "accountId": "111122223333",
                "accessKeyId": format!("ASIA{:016X}", scrambled.rotate_left(17)),
                "sessionContext": {"attributes": {"creationDate": "2026-03-02T16:00:00Z", "mfaAuthenticated": "false"}},
            },
            "eventTime": "2026-03-02T16:44:04Z",
            "eventSource": source,
            "eventName": name,
            "awsRegion": "us-east-1",
            "sourceIPAddress": format!("203.0.113.{}", scrambled % 250),
            "userAgent": "[aws-sdk-java/2.25.11 Linux/5.10 OpenJDK_64-Bit_Server_VM/17]",
            "requestParameters": {"bucketName": format!("example-{}", number % 91), "key": format!("data/{scrambled:016x}/part-{number}.parquet")},
            "responseElements": null,
            "additionalEventData": {"bytesTransferredOut": scrambled % 100_000, "x-amz-id-2": format!("{:032x}", u128::from(scrambled) * u128::from(number + 7))},
            "requestID": uuid(scrambled.rotate_left(31)),
            "eventID": uuid(scrambled),
            "readOnly": true,
            "eventType": "AwsApiCall",
            "recipientAccountId": "111122223333",
        });
        if number > 0 {
            text.push(',');
        }
        text += &record.to_string();
        size += text.len();
        encoder.write_all(text.as_bytes()).expect("memory");
        text.clear();
        number += 1;
    }
    encoder.write_all(b"]}").expect("memory");
    encoder.finish().expect("memory").into()
}

/// Text as hard to compress as a random UUID.
fn uuid(seed: u64) -> String {
    let more = (seed ^ (seed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let digits = format!("{seed:016x}{more:016x}");
    let groups = [0..8, 8..12, 12..16, 16..20, 20..32];
    groups.map(|group| &digits[group]).join("-")
}

fn candidates() -> Arc<Candidates> {
    Arc::new(Candidates::of([("billingconsole.amazonaws.com", None)]))
}

fn run(mut scan: Scan, body: &Bytes) -> usize {
    let mut rest = body.clone();
    let mut records = 0;
    loop {
        match scan.next_step().expect("a good file") {
            Step::Record(_) => records += 1,
            Step::NeedInput if rest.is_empty() => scan.end_of_input(),
            Step::NeedInput => scan.feed(rest.split_to(rest.len().min(CHUNK_BYTES))),
            Step::Done => return records,
        }
    }
}

/// The same library into one reused buffer of the same size, looking at nothing.
#[divan::bench]
fn inflate_alone(bencher: Bencher) {
    let body = log_file(false);
    bencher.bench(|| {
        let mut inflate = Decompress::new_gzip(15);
        let mut buffer = vec![0; ScanLimits::default().buffer_bytes];
        for chunk in body.chunks(CHUNK_BYTES) {
            let mut input = chunk;
            loop {
                let (read, written) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(input, &mut buffer, FlushDecompress::None);
                input = &input[usize::try_from(inflate.total_in() - read).expect("small")..];
                let full = inflate.total_out() - written == buffer.len() as u64;
                let ended = status.expect("good data") == Status::StreamEnd;
                if ended || (input.is_empty() && !full) {
                    break;
                }
            }
        }
        black_box(inflate.total_out())
    });
}

#[divan::bench]
fn no_hit(bencher: Bencher) {
    let body = log_file(false);
    let run = || run(Scan::new(candidates(), ScanLimits::default()), &body);
    bencher.bench(|| assert_eq!(run(), 0));
}

#[divan::bench]
fn no_hit_for_all_sources_of_the_bundled_rules(bencher: Bencher) {
    let body = log_file(false);
    let candidates = Arc::new(RulePack::bundled().candidates().clone());
    bencher.bench(|| {
        let scan = Scan::new(Arc::clone(&candidates), ScanLimits::default());
        assert_eq!(run(scan, &body), 0);
    });
}

#[divan::bench]
fn early_hit(bencher: Bencher) {
    let body = log_file(true);
    let run = || run(Scan::new(candidates(), ScanLimits::default()), &body);
    bencher.bench(|| assert_eq!(run(), 1));
}

#[divan::bench]
fn splitter_alone(bencher: Bencher) {
    let body = log_file(false);
    bencher.bench(|| {
        let scan = Scan::without_probe(candidates(), ScanLimits::default());
        assert_eq!(run(scan, &body), 0);
    });
}

#[divan::bench]
fn load_the_bundled_rules(bencher: Bencher) {
    bencher.bench(|| {
        RulePack::load(&[])
            .expect("good rules")
            .pack
            .rules()
            .count()
    });
}

#[divan::bench]
fn match_one_record(bencher: Bencher) {
    let pack = RulePack::load(&[]).expect("good rules").pack;
    let record = Record::from_value(json!({
        "eventSource": "billingconsole.amazonaws.com",
        "eventName": "CloseAccount",
        "userIdentity": {"type": "Root"},
    }));
    bencher.bench(|| {
        pack.evaluate(black_box(&record), Timestamp::UNIX_EPOCH)
            .is_some()
    });
}
