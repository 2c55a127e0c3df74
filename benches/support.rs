//! What the benches share: one scan of a body in memory, inflating alone, and packs of rules.

#![allow(dead_code, reason = "each program uses a part of it")]

use std::sync::Arc;

use billing_watch::cloudtrail::{Candidates, Scan, ScanLimits, Step};
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

/// As bodies arrive from S3.
const CHUNK_BYTES: usize = 64 << 10;
/// Sources that nearly every account uses all day, with actions that rules like to name. The files of
/// the benches hold other actions of the same sources.
const BUSY_PAIRS: &str = include_str!("busy-pairs.tsv");

/// The source that the benches look for.
pub(crate) fn one() -> Candidates {
    Candidates::of([("billingconsole.amazonaws.com", None)])
}

/// The pairs of source and event name of 60 rules on busy sources.
pub(crate) fn busy_pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    BUSY_PAIRS.lines().filter_map(|line| line.split_once('\t'))
}

/// The candidates of these 60 rules.
pub(crate) fn busy() -> Candidates {
    Candidates::of(busy_pairs().map(|(source, name)| (source, Some(name))))
}

/// Scans a body. Returns the number of candidates.
pub(crate) fn scan(candidates: &Arc<Candidates>, body: &Bytes) -> usize {
    drive(
        Scan::new(Arc::clone(candidates), ScanLimits::default()),
        body,
    )
}

/// Scans a body with the splitter alone.
pub(crate) fn split(candidates: &Arc<Candidates>, body: &Bytes) -> usize {
    drive(
        Scan::without_probe(Arc::clone(candidates), ScanLimits::default()),
        body,
    )
}

fn drive(mut scan: Scan, body: &Bytes) -> usize {
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

/// Inflates a body with the scan's library, chunks and buffer, and shows each piece to `look`. Returns
/// the expanded size.
pub(crate) fn inflate(body: &[u8], mut look: impl FnMut(&[u8])) -> u64 {
    let mut inflate = Decompress::new_gzip(15);
    let mut buffer = vec![0; ScanLimits::default().buffer_bytes];
    for chunk in body.chunks(CHUNK_BYTES) {
        let mut input = chunk;
        loop {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(input, &mut buffer, FlushDecompress::None);
            input = &input[usize::try_from(inflate.total_in() - read).expect("small")..];
            let fresh = usize::try_from(inflate.total_out() - written).expect("small");
            look(&buffer[..fresh]);
            let ended = status.expect("good data") == Status::StreamEnd;
            if ended || (input.is_empty() && fresh < buffer.len()) {
                break;
            }
        }
    }
    inflate.total_out()
}
