//! The scan of one log file: compressed chunks in, records of interest out, in bounded memory.
//!
//! The probe reads every file first. The splitter then reads the file from its start in three cases:
//! the probe doubts it, it has at most `verified_bytes`, or its compressed chunks exceed
//! `replay_bytes`. The scan keeps the compressed chunks and inflates them again for the splitter. It
//! does not inflate again while its first buffer holds everything, as it does for small files.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    candidates::Candidates,
    inflate::Inflate,
    probe::{Probe, Verdict},
    record::Record,
    splitter::Splitter,
};

/// Bounds of one scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    /// Largest expanded size of an object, in bytes.
    pub expanded_bytes: u64,
    /// Largest record that is kept, in bytes. CloudTrail's own limit is 256 KB.
    pub record_bytes: usize,
    /// Most compressed bytes that the probe keeps for a replay; with more the splitter takes over.
    pub replay_bytes: usize,
    /// Expanded size, in bytes, up to which the splitter reads also a file without a candidate, to
    /// check its grammar exactly. Most files are that small, and it costs microseconds.
    pub verified_bytes: u64,
    /// Size of the buffer that is inflated into, in bytes. The first buffer of each scan has
    /// [`SMALL_FILE_BYTES`] at most.
    pub buffer_bytes: usize,
}

/// A file that expands to fewer bytes is small. Most log files are. Their scan takes a buffer of this
/// size and little else.
pub const SMALL_FILE_BYTES: usize = 32 << 10;

impl Default for ScanLimits {
    fn default() -> Self {
        Self {
            expanded_bytes: 1 << 30,
            record_bytes: 2 << 20,
            replay_bytes: 4 << 20,
            verified_bytes: 256 << 10,
            buffer_bytes: 256 << 10,
        }
    }
}

/// Why an object could not be read to its end. Records that came before have been handed out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScanError {
    /// No byte at all.
    #[error("the object is empty")]
    Empty,
    /// A checksum, a length or a code is wrong.
    #[error("the gzip data is corrupt")]
    CorruptGzip,
    /// The body ends inside a gzip member.
    #[error("the gzip data is cut off")]
    TruncatedGzip,
    /// Something that is no gzip member follows one.
    #[error("bytes follow the last gzip member")]
    TrailingBytes,
    /// Larger than allowed when expanded.
    #[error("expands to more than {cap} bytes; raise MAX_EXPANDED_BYTES if this is a log file")]
    OverCap {
        /// The cap, in expanded bytes.
        cap: u64,
    },
    /// JSON's grammar is broken outside the records, or at a record's edge.
    #[error("not JSON near expanded byte {offset}")]
    NotJson {
        /// Where, in expanded bytes.
        offset: u64,
    },
    /// The text ends before its JSON does.
    #[error("the JSON is cut off after {expanded_bytes} bytes")]
    TruncatedJson {
        /// Bytes that were there.
        expanded_bytes: u64,
    },
    /// JSON, but without a `Records` array.
    #[error("no Records array, so not a CloudTrail log file")]
    NoRecords,
    /// A record of interest, or an element that is no object, is not JSON.
    #[error("a record is malformed JSON")]
    MalformedRecord,
    /// A record of interest is too long to be kept.
    #[error("a record is longer than {limit} bytes")]
    RecordTooLong {
        /// The limit, in bytes.
        limit: usize,
    },
}

/// What a scan needs or gives next.
#[derive(Debug)]
pub enum Step {
    /// A record of interest.
    Record(Box<Record>),
    /// More of the body, or word that it has ended.
    NeedInput,
    /// The file was read to its end and is a log file.
    Done,
}

/// One log file on its way from chunks to records. Feed it whenever it asks for input.
pub struct Scan {
    limits: ScanLimits,
    candidates: Arc<Candidates>,
    input: VecDeque<Bytes>,
    current: Bytes,
    ended: bool,
    inflate: Inflate,
    buffer: Vec<u8>,
    reader: Reader,
}

enum Reader {
    Probe {
        probe: Probe,
        /// Every chunk so far, to be replayed.
        kept: Vec<Bytes>,
        kept_bytes: usize,
        /// Bytes in the buffer.
        filled: usize,
        /// The last of them, which the probe wants to see again.
        keep: usize,
    },
    Splitter {
        splitter: Box<Splitter>,
        filled: usize,
        position: usize,
    },
}

impl Scan {
    /// A scan for `candidates`: probe first, unless every record is one.
    pub fn new(candidates: Arc<Candidates>, limits: ScanLimits) -> Self {
        if *candidates == Candidates::All {
            return Self::without_probe(candidates, limits);
        }
        let reader = Reader::Probe {
            probe: Probe::default(),
            kept: Vec::new(),
            kept_bytes: 0,
            filled: 0,
            keep: 0,
        };
        Self::with(reader, candidates, limits)
    }

    /// A scan by the splitter alone, which must give the same records.
    pub fn without_probe(candidates: Arc<Candidates>, limits: ScanLimits) -> Self {
        let reader = Reader::splitter(&candidates, &limits, 0);
        Self::with(reader, candidates, limits)
    }

    fn with(reader: Reader, candidates: Arc<Candidates>, limits: ScanLimits) -> Self {
        Self {
            reader,
            inflate: Inflate::new(limits.expanded_bytes),
            buffer: Vec::new(),
            input: VecDeque::new(),
            current: Bytes::new(),
            ended: false,
            candidates,
            limits,
        }
    }

    /// Expanded bytes read so far.
    pub fn expanded_bytes(&self) -> u64 {
        self.inflate.expanded_bytes()
    }

    /// Whether an error of this scan means that the object holds no records at all. Unless its name is a
    /// log file's, it then is something else.
    pub fn holds_no_records(&self, error: &ScanError) -> bool {
        match error {
            ScanError::Empty => true,
            ScanError::NoRecords | ScanError::NotJson { .. } | ScanError::TruncatedJson { .. } => {
                !self.records_seen()
            }
            _ => false,
        }
    }

    /// Whether the object showed itself to be a log file: it has a `Records` array.
    fn records_seen(&self) -> bool {
        match &self.reader {
            Reader::Probe { .. } => true,
            Reader::Splitter { splitter, .. } => splitter.records_seen(),
        }
    }

    /// Gives the next chunk of the body.
    pub fn feed(&mut self, chunk: Bytes) {
        if let Reader::Probe {
            kept, kept_bytes, ..
        } = &mut self.reader
        {
            *kept_bytes += chunk.len();
            kept.push(chunk.clone());
        }
        self.input.push_back(chunk);
        self.enlarge_buffer();
    }

    fn enlarge_buffer(&mut self) {
        let mut bytes = self.limits.buffer_bytes;
        if self.inflate.expanded_bytes() < SMALL_FILE_BYTES as u64 {
            bytes = bytes.min(SMALL_FILE_BYTES);
        }
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
    }

    /// Says that the body has ended.
    pub fn end_of_input(&mut self) {
        self.ended = true;
    }

    /// Goes on until there is a record, or no input left. After an error or `Done` the scan is over.
    pub fn next_step(&mut self) -> Result<Step, ScanError> {
        loop {
            if let Reader::Splitter {
                splitter,
                filled,
                position,
            } = &mut self.reader
            {
                let piece = &self.buffer[..*filled];
                if let Some(record) = splitter.next_record(piece, position)? {
                    return Ok(Step::Record(Box::new(record)));
                }
                *filled = 0;
            }
            if self.current.is_empty()
                && let Some(chunk) = self.input.pop_front()
            {
                self.current = chunk;
            }
            let start = match &self.reader {
                Reader::Probe { filled, .. } => *filled,
                Reader::Splitter { .. } => 0,
            };
            match self
                .inflate
                .fill(&mut self.current, &mut self.buffer[start..])
            {
                Ok(0) if !self.current.is_empty() || !self.input.is_empty() => {}
                Ok(0) if self.keeps_too_much() => self.hand_over(start),
                Ok(0) if !self.ended => return Ok(Step::NeedInput),
                Ok(0) => {
                    if self.finish()? {
                        return Ok(Step::Done);
                    }
                }
                Ok(fresh) => self.read(start, fresh),
                Err(error) => return Err(error),
            }
        }
    }

    /// Shows fresh bytes to the reader.
    fn read(&mut self, start: usize, fresh: usize) {
        let end = start + fresh;
        let first_has_room = self.holds_all(end) && end < self.buffer.len();
        match (&mut self.reader, &*self.candidates) {
            (Reader::Splitter { filled, .. }, _) => *filled = end,
            // Every record is a candidate.
            (Reader::Probe { .. }, Candidates::All) => self.hand_over(end),
            (
                Reader::Probe {
                    probe,
                    kept_bytes,
                    filled,
                    keep,
                    ..
                },
                Candidates::Of(pairs),
            ) => match probe.look(&self.buffer[start - *keep..end], fresh, pairs) {
                Verdict::Clear { keep: wanted }
                    if *kept_bytes <= self.limits.replay_bytes && wanted < self.buffer.len() =>
                {
                    *keep = wanted;
                    *filled = end;
                    if !first_has_room {
                        self.buffer.copy_within(end - wanted..end, 0);
                        *filled = wanted;
                    }
                }
                Verdict::Clear { .. } | Verdict::Doubt => self.hand_over(end),
            },
        }
    }

    /// Returns whether the file ends here as it should; `false` if the splitter has to read it first.
    fn finish(&mut self) -> Result<bool, ScanError> {
        self.inflate.finish()?;
        match &mut self.reader {
            Reader::Splitter { splitter, .. } => splitter.finish()?,
            Reader::Probe { probe, filled, .. } => {
                let small = self.inflate.expanded_bytes() <= self.limits.verified_bytes;
                if small || probe.finish() == Verdict::Doubt {
                    let filled = *filled;
                    self.hand_over(filled);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether compressed bytes pile up that inflate to nothing.
    fn keeps_too_much(&self) -> bool {
        match &self.reader {
            Reader::Probe { kept_bytes, .. } => *kept_bytes > self.limits.replay_bytes,
            Reader::Splitter { .. } => false,
        }
    }

    /// Gives the file to the splitter, from its start. The buffer holds `filled` bytes.
    fn hand_over(&mut self, filled: usize) {
        if self.holds_all(filled) {
            self.reader = Reader::splitter(&self.candidates, &self.limits, filled);
            return;
        }
        let reader = Reader::splitter(&self.candidates, &self.limits, 0);
        if let Reader::Probe { kept, .. } = std::mem::replace(&mut self.reader, reader) {
            self.input = kept.into();
            self.current = Bytes::new();
            self.inflate = Inflate::new(self.limits.expanded_bytes);
        }
    }

    /// Whether the first `filled` bytes of the buffer are all that was inflated so far.
    fn holds_all(&self, filled: usize) -> bool {
        self.inflate.expanded_bytes() == filled as u64
    }
}

impl Reader {
    /// A splitter that begins with the first `filled` bytes of the buffer.
    fn splitter(candidates: &Arc<Candidates>, limits: &ScanLimits, filled: usize) -> Self {
        Self::Splitter {
            splitter: Box::new(Splitter::new(Arc::clone(candidates), limits.record_bytes)),
            filled,
            position: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it can't go on")]

    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const REPLAY_BYTES: usize = 100;

    /// A scan whose probe keeps at most [`REPLAY_BYTES`].
    fn scan() -> Scan {
        let limits = ScanLimits {
            replay_bytes: REPLAY_BYTES,
            ..ScanLimits::default()
        };
        Scan::new(
            Arc::new(Candidates::of([("a.amazonaws.com", None)])),
            limits,
        )
    }

    /// The bytes that the probe keeps after each chunk; `None` once the splitter has taken over.
    fn kept_bytes(scan: &mut Scan, chunks: &[Vec<u8>]) -> Vec<Option<usize>> {
        let mut all = Vec::new();
        for chunk in chunks {
            scan.feed(chunk.clone().into());
            assert!(matches!(scan.next_step(), Ok(Step::NeedInput)));
            all.push(match &scan.reader {
                Reader::Probe { kept_bytes, .. } => Some(*kept_bytes),
                Reader::Splitter { .. } => None,
            });
        }
        all
    }

    #[test]
    fn the_splitter_takes_over_when_the_probe_would_keep_too_much() {
        let record = |length: usize| format!(r#"{{"x":"{}"}},"#, "x".repeat(length)).into_bytes();
        let head = br#"{"Records":["#.to_vec();
        let chunks = [head, record(79), record(0), record(0)];
        assert_eq!(
            kept_bytes(&mut scan(), &chunks),
            [Some(12), Some(100), None, None]
        );
    }

    #[test]
    fn the_splitter_takes_over_when_chunks_that_inflate_to_nothing_pile_up() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"").unwrap();
        let empty_member = encoder.finish().unwrap();
        assert_eq!(empty_member.len(), 20);
        let chunks = vec![empty_member; 6];
        let kept = kept_bytes(&mut scan(), &chunks);
        assert_eq!(
            kept,
            [Some(20), Some(40), Some(60), Some(80), Some(100), None]
        );
    }
}
