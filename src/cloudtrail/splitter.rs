//! Splits a log file into its records without parsing them, and finds those of interest.
//!
//! Outside records the JSON grammar is checked to the letter. Inside a record only strings and
//! brackets are followed, and the members `eventSource` and `eventName` at the record's own depth are
//! read. serde_json then parses the candidates.

use std::sync::Arc;

use super::{
    candidates::Candidates,
    captured::{CapturedValue, LONGEST_KEY, Members, Progress, names_key},
    record::{ParsedRecord, Record, is_well_formed},
    scan::ScanError,
};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Finds records in a stream of bytes, whatever its pieces.
pub(super) struct Splitter {
    candidates: Arc<Candidates>,
    /// Longest record that is kept, in bytes.
    record_bytes: usize,
    /// Longest raw string that may be a source or a name of a candidate, in bytes.
    longest_string: usize,
    place: Place,
    /// Bytes of the file before the current piece.
    offset: u64,
    mark_seen: usize,
    records_seen: bool,
    /// The last top-level key was `Records`.
    records_key: bool,
    value: CapturedValue,
    /// The first problem that does not stop the scan.
    deferred: Option<ScanError>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Start,
    KeyOrEnd,
    Key,
    Colon,
    MemberValue,
    RecordsValue,
    AfterMember,
    RecordOrEnd,
    Record,
    AfterRecord,
    End,
    Inside(Captured),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Captured {
    TopKey,
    TopMember,
    Record,
}

impl Splitter {
    pub(super) fn new(candidates: Arc<Candidates>, record_bytes: usize) -> Self {
        let longest = match &*candidates {
            Candidates::All => 0,
            Candidates::Of(pairs) => pairs.longest(),
        };
        Self {
            candidates,
            record_bytes,
            longest_string: LONGEST_KEY.max(longest * 6),
            place: Place::Start,
            offset: 0,
            mark_seen: 0,
            records_seen: false,
            records_key: false,
            value: CapturedValue::default(),
            deferred: None,
        }
    }

    /// Reads on in `piece` from `position` to the end of the next record of interest; `None` when
    /// the piece is used up.
    pub(super) fn next_record(
        &mut self,
        piece: &[u8],
        position: &mut usize,
    ) -> Result<Option<Record>, ScanError> {
        while *position < piece.len() {
            if let Place::Inside(captured) = self.place {
                if let Some(record) = self.read_inside(captured, piece, position)? {
                    return Ok(Some(record));
                }
            } else if let Some(place) = self.step(piece[*position], *position)? {
                self.place = place;
                *position += 1;
            }
        }
        self.offset += piece.len() as u64;
        *position = 0;
        Ok(None)
    }

    /// Checks that the file may end here, and tells of what went wrong on the way.
    pub(super) fn finish(&mut self) -> Result<(), ScanError> {
        if self.place == Place::Start {
            return Err(ScanError::NotJson {
                offset: self.offset,
            });
        }
        if self.place != Place::End {
            return Err(ScanError::TruncatedJson {
                expanded_bytes: self.offset,
            });
        }
        if !self.records_seen {
            return Err(ScanError::NoRecords);
        }
        self.deferred.take().map_or(Ok(()), Err)
    }

    /// Whether a `Records` array has begun: from then on the object is a log file, if a broken one.
    pub(super) fn records_seen(&self) -> bool {
        self.records_seen
    }

    /// The place behind `byte`; `None` where a value begins that is read from this byte on.
    fn step(&mut self, byte: u8, position: usize) -> Result<Option<Place>, ScanError> {
        let place = match (self.place, byte) {
            (Place::Start, _)
                if self.offset + position as u64 == self.mark_seen as u64
                    && BYTE_ORDER_MARK.get(self.mark_seen) == Some(&byte) =>
            {
                self.mark_seen += 1;
                Place::Start
            }
            (place, b' ' | b'\t' | b'\n' | b'\r') => place,
            (Place::Start, b'{') if matches!(self.mark_seen, 0 | 3) => Place::KeyOrEnd,
            (Place::KeyOrEnd | Place::Key, b'"') => {
                self.begin(Captured::TopKey, byte);
                return Ok(None);
            }
            (Place::KeyOrEnd | Place::AfterMember, b'}') => Place::End,
            (Place::AfterMember, b',') => Place::Key,
            (Place::Colon, b':') if self.records_key => Place::RecordsValue,
            (Place::Colon, b':') => Place::MemberValue,
            (Place::RecordsValue, b'[') => {
                self.records_seen = true;
                Place::RecordOrEnd
            }
            (Place::RecordsValue, _) | (Place::Start, b'[' | b'"' | b'0'..=b'9' | b'-') => {
                return Err(ScanError::NoRecords);
            }
            (Place::MemberValue, _) if begins_value(byte) => {
                self.begin(Captured::TopMember, byte);
                return Ok(None);
            }
            (Place::RecordOrEnd | Place::AfterRecord, b']') => Place::AfterMember,
            (Place::AfterRecord, b',') => Place::Record,
            (Place::RecordOrEnd | Place::Record, _) if begins_value(byte) => {
                self.begin(Captured::Record, byte);
                return Ok(None);
            }
            _ => {
                return Err(ScanError::NotJson {
                    offset: self.offset + position as u64,
                });
            }
        };
        Ok(Some(place))
    }

    fn begin(&mut self, captured: Captured, first: u8) {
        self.value.begin(first);
        self.place = Place::Inside(captured);
    }

    fn read_inside(
        &mut self,
        captured: Captured,
        piece: &[u8],
        position: &mut usize,
    ) -> Result<Option<Record>, ScanError> {
        let start = *position;
        let members = match captured {
            Captured::Record => Members::Follow {
                candidates: &self.candidates,
                longest_string: self.longest_string,
            },
            Captured::TopKey | Captured::TopMember => Members::Ignore,
        };
        let progress = self.value.read(&piece[start..], &members);
        let (used, ended) = match progress {
            Progress::Unfinished => (piece.len() - start, false),
            Progress::Ended(used) => (used, true),
            Progress::Mismatch(at) => {
                return Err(ScanError::NotJson {
                    offset: self.offset + (start + at) as u64,
                });
            }
        };
        *position = start + used;
        let fresh = &piece[start..*position];
        if !ended {
            self.value.carry(fresh, self.record_bytes);
            return Ok(None);
        }
        let whole = self.value.take_whole(fresh, self.record_bytes);
        self.end(captured, whole.as_deref(), *position)
    }

    /// Closes a captured value, behind `position` of the piece; `bytes` is `None` where it was too long to keep.
    fn end(
        &mut self,
        captured: Captured,
        bytes: Option<&[u8]>,
        position: usize,
    ) -> Result<Option<Record>, ScanError> {
        let offset = self.offset + position as u64;
        match captured {
            Captured::TopKey => {
                let key = bytes.map(serde_json::from_slice::<serde::de::IgnoredAny>);
                if let Some(Err(_)) = key {
                    return Err(ScanError::NotJson { offset });
                }
                self.records_key =
                    bytes.is_some_and(|key| names_key(&key[1..key.len() - 1], b"Records"));
                self.place = Place::Colon;
                Ok(None)
            }
            Captured::TopMember => {
                if bytes.is_some_and(|value| !is_well_formed(value)) {
                    return Err(ScanError::NotJson { offset });
                }
                self.place = Place::AfterMember;
                Ok(None)
            }
            Captured::Record => {
                self.place = Place::AfterRecord;
                Ok(self.end_record(bytes))
            }
        }
    }

    fn end_record(&mut self, bytes: Option<&[u8]>) -> Option<Record> {
        if !self.value.is_object() {
            if bytes.is_some_and(|value| !is_well_formed(value)) {
                self.defer(ScanError::MalformedRecord);
            }
            return None;
        }
        if !self.value.is_candidate() && *self.candidates != Candidates::All {
            return None;
        }
        let Some(bytes) = bytes else {
            self.defer(ScanError::RecordTooLong {
                limit: self.record_bytes,
            });
            return None;
        };
        let ParsedRecord { record, malformed } = Record::parse(bytes);
        if malformed {
            self.defer(ScanError::MalformedRecord);
        }
        self.candidates.include(&record).then_some(record)
    }

    fn defer(&mut self, error: ScanError) {
        self.deferred.get_or_insert(error);
    }
}

fn begins_value(byte: u8) -> bool {
    matches!(
        byte,
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
    )
}
