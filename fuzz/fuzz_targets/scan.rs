//! Whatever the bytes and their pieces, probe and splitter agree where the splitter accepts, and the
//! pieces change nothing.

#![no_main]

use std::sync::Arc;

use billing_watch::cloudtrail::{Candidates, Scan, ScanError, ScanLimits, Step};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn run(mut scan: Scan, body: &[u8], size: usize) -> (Vec<Value>, Result<(), ScanError>) {
    let mut chunks = body.chunks(size);
    let mut records = Vec::new();
    loop {
        match scan.next_step() {
            Ok(Step::Record(record)) => records.push(record.as_value().clone()),
            Ok(Step::NeedInput) => match chunks.next() {
                Some(chunk) => scan.feed(Bytes::copy_from_slice(chunk)),
                None => scan.end_of_input(),
            },
            Ok(Step::Done) => return (records, Ok(())),
            Err(error) => return (records, Err(error)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&[size, buffer, how], body)) = data.split_first_chunk::<3>() else {
        return;
    };
    let limits = ScanLimits {
        expanded_bytes: 1 << 20,
        record_bytes: 4096,
        replay_bytes: if how & 1 == 0 { 8 << 20 } else { 64 },
        verified_bytes: if how & 2 == 0 { 1 << 20 } else { 0 },
        buffer_bytes: 16 + usize::from(buffer),
    };
    let candidates = Arc::new(if how & 4 == 0 {
        Candidates::of([("billingconsole.amazonaws.com", None)])
    } else {
        Candidates::of([
            ("billingconsole.amazonaws.com", Some("CloseAccount")),
            ("s3.amazonaws.com", Some("DeleteBucket")),
        ])
    });
    let size = 1 + usize::from(size);
    let probed = run(Scan::new(Arc::clone(&candidates), limits), body, size);
    let split = run(Scan::without_probe(Arc::clone(&candidates), limits), body, size);
    let whole = run(Scan::without_probe(candidates, limits), body, body.len().max(1));
    assert_eq!(split.1, whole.1);
    assert_eq!(split.0, whole.0);
    if split.1.is_ok() {
        assert_eq!(probed, split);
    } else if probed.1.is_ok() {
        // In large files, JSON that is malformed where no candidate is named passes.
        assert!(limits.verified_bytes == 0);
        assert!(probed.0.is_empty());
    }
});
