//! Splits a log file into its records without parsing them, and finds those of interest.
//!
//! Outside records the JSON grammar is checked to the letter. Inside a record only strings and
//! brackets are followed, and the members named `eventSource` at the record's own depth are read;
//! serde_json then parses the records of interest.

use std::sync::Arc;

use super::{
    record::{Parsed, Record, is_well_formed},
    scan::ScanError,
    sources::Sources,
};

const SOURCE_KEY: &[u8] = b"eventSource";
/// `eventSource` with each letter escaped; a longer key is another key.
const LONGEST_SOURCE_KEY: usize = SOURCE_KEY.len() * 6;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Finds records in a stream of bytes, whatever its pieces.
pub(super) struct Splitter {
    sources: Arc<Sources>,
    /// Longest record that is kept, in bytes.
    record_bytes: usize,
    /// Longest raw string that may still be a source of interest, in bytes.
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
    pub(super) fn new(sources: Arc<Sources>, record_bytes: usize) -> Self {
        let longest = match &*sources {
            Sources::All => 0,
            Sources::Only(names) => names.iter().map(String::len).max().unwrap_or(0),
        };
        Self {
            sources,
            record_bytes,
            longest_string: LONGEST_SOURCE_KEY.max(longest * 6),
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
                sources: &self.sources,
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
        let carried = std::mem::take(&mut self.value.carried);
        let whole = match carried {
            Carried::Nothing if fresh.len() > self.record_bytes => None,
            Carried::Nothing => Some(std::borrow::Cow::Borrowed(fresh)),
            Carried::Bytes(bytes) if bytes.len() + fresh.len() > self.record_bytes => None,
            Carried::Bytes(mut bytes) => {
                bytes.extend_from_slice(fresh);
                Some(std::borrow::Cow::Owned(bytes))
            }
            Carried::TooLong => None,
        };
        self.end(captured, whole.as_deref())
    }

    /// Closes a captured value; `bytes` is `None` where it was too long to keep.
    fn end(
        &mut self,
        captured: Captured,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Record>, ScanError> {
        match captured {
            Captured::TopKey => {
                let key = bytes.map(serde_json::from_slice::<serde::de::IgnoredAny>);
                if let Some(Err(_)) = key {
                    return Err(ScanError::NotJson {
                        offset: self.offset,
                    });
                }
                self.records_key =
                    bytes.is_some_and(|key| names_key(&key[1..key.len() - 1], b"Records"));
                self.place = Place::Colon;
                Ok(None)
            }
            Captured::TopMember => {
                if bytes.is_some_and(|value| !is_well_formed(value)) {
                    return Err(ScanError::NotJson {
                        offset: self.offset,
                    });
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
        if !self.value.of_interest && *self.sources != Sources::All {
            return None;
        }
        let Some(bytes) = bytes else {
            self.defer(ScanError::RecordTooLong {
                limit: self.record_bytes,
            });
            return None;
        };
        let Parsed { record, malformed } = Record::parse(bytes);
        if malformed {
            self.defer(ScanError::MalformedRecord);
        }
        self.sources
            .admit(record.get("eventSource"))
            .then_some(record)
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

/// Whether the inside of a JSON string, still escaped, spells `key`.
fn names_key(raw: &[u8], key: &[u8]) -> bool {
    if !raw.contains(&b'\\') {
        return raw == key;
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|decoded| decoded.as_bytes() == key)
}

/// A value that is being read, and what is known of it.
#[derive(Default)]
struct CapturedValue {
    shape: Shape,
    /// Open brackets, `true` for an object.
    open: Vec<bool>,
    in_string: bool,
    /// The byte before the current piece was a backslash inside a string.
    escaped: bool,
    carried: Carried,
    /// The current or last string at the record's own depth, as far as an earlier piece held it.
    string: Vec<u8>,
    /// The last such string was `eventSource`, and a colon is still to come.
    source_key: bool,
    /// The member's value is still to come.
    source_value_next: bool,
    /// The current string is a value of `eventSource`.
    source_value: bool,
    /// A value of `eventSource` may be of interest.
    of_interest: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Shape {
    Object,
    Array,
    String,
    #[default]
    Scalar,
}

#[derive(Debug, Default)]
enum Carried {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    TooLong,
}

enum Progress {
    Unfinished,
    /// The value ended behind so many bytes.
    Ended(usize),
    /// A bracket closes what is not open, at this byte.
    Mismatch(usize),
}

enum Members<'a> {
    Ignore,
    Follow {
        sources: &'a Sources,
        longest_string: usize,
    },
}

impl CapturedValue {
    fn begin(&mut self, first: u8) {
        self.shape = match first {
            b'{' => Shape::Object,
            b'[' => Shape::Array,
            b'"' => Shape::String,
            _ => Shape::Scalar,
        };
        self.open.clear();
        self.in_string = false;
        self.escaped = false;
        self.carried = Carried::Nothing;
        self.string.clear();
        self.source_key = false;
        self.source_value_next = false;
        self.source_value = false;
        self.of_interest = false;
    }

    fn is_object(&self) -> bool {
        self.shape == Shape::Object
    }

    /// Reads `bytes`, which begin the value or go on with it.
    fn read(&mut self, bytes: &[u8], members: &Members<'_>) -> Progress {
        if self.shape == Shape::Scalar {
            return bytes
                .iter()
                .position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))
                .map_or(Progress::Unfinished, Progress::Ended);
        }
        let mut at = 0;
        if self.in_string {
            match self.read_string(bytes, 0, members) {
                None => return Progress::Unfinished,
                Some(end) => at = end,
            }
            if self.open.is_empty() {
                return Progress::Ended(at);
            }
        }
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            if INERT[byte as usize] {
                continue;
            }
            match byte {
                b'"' => {
                    self.begin_string();
                    match self.read_string(bytes, at, members) {
                        None => return Progress::Unfinished,
                        Some(end) => at = end,
                    }
                    if self.open.is_empty() {
                        return Progress::Ended(at);
                    }
                }
                b'{' | b'[' => {
                    self.meet_odd_source();
                    self.open.push(byte == b'{');
                }
                b'}' | b']' => {
                    if self.open.pop() != Some(byte == b'}') {
                        return Progress::Mismatch(at - 1);
                    }
                    if self.open.is_empty() {
                        return Progress::Ended(at);
                    }
                }
                b':' => {
                    if self.source_key && self.open.len() == 1 {
                        self.source_value_next = true;
                    }
                    self.source_key = false;
                }
                // A scalar: of no interest but where the source was due.
                _ => self.meet_odd_source(),
            }
        }
        Progress::Unfinished
    }

    /// A source that is not a string is for the full parse to judge.
    fn meet_odd_source(&mut self) {
        if self.source_value_next {
            self.source_value_next = false;
            self.of_interest = true;
        }
    }

    fn begin_string(&mut self) {
        self.in_string = true;
        self.string.clear();
        self.source_key = false;
        self.source_value = std::mem::take(&mut self.source_value_next);
    }

    /// Reads on in a string from `start`; says where it ended, behind its quote.
    fn read_string(&mut self, bytes: &[u8], start: usize, members: &Members<'_>) -> Option<usize> {
        let mut at = start;
        if std::mem::take(&mut self.escaped) {
            at += 1;
        }
        loop {
            match bytes
                .get(at..)
                .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
            {
                None => {
                    self.escaped = at > bytes.len();
                    self.keep_string(&bytes[start.min(bytes.len())..], members);
                    return None;
                }
                Some(found) if bytes[at + found] == b'"' => {
                    at += found;
                    break;
                }
                Some(found) => at += found + 2,
            }
        }
        self.in_string = false;
        if let Members::Follow { sources, .. } = members
            && self.open.len() == 1
        {
            self.end_member_string(&bytes[start..at], members, sources);
        }
        Some(at + 1)
    }

    fn keep_string(&mut self, part: &[u8], members: &Members<'_>) {
        if let Members::Follow { longest_string, .. } = members
            && self.open.len() == 1
        {
            // One byte over the limit is enough to know that it is over.
            let room = (longest_string + 1).saturating_sub(self.string.len());
            self.string.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    fn end_member_string(&mut self, rest: &[u8], members: &Members<'_>, sources: &Sources) {
        let Members::Follow { longest_string, .. } = members else {
            return;
        };
        let length = self.string.len() + rest.len();
        if length > *longest_string {
            return;
        }
        let whole;
        let string = if self.string.is_empty() {
            rest
        } else {
            self.string.extend_from_slice(rest);
            whole = std::mem::take(&mut self.string);
            &whole
        };
        if self.source_value {
            self.of_interest |= sources.may_admit(string);
        } else {
            self.source_key = names_key(string, SOURCE_KEY);
        }
    }

    fn carry(&mut self, fresh: &[u8], limit: usize) {
        match &mut self.carried {
            Carried::Nothing if fresh.len() > limit => self.carried = Carried::TooLong,
            Carried::Nothing => self.carried = Carried::Bytes(fresh.to_vec()),
            Carried::Bytes(bytes) if bytes.len() + fresh.len() > limit => {
                self.carried = Carried::TooLong;
            }
            Carried::Bytes(bytes) => bytes.extend_from_slice(fresh),
            Carried::TooLong => {}
        }
    }
}

/// Bytes that change nothing outside strings: white space, commas, and the insides of scalars.
const INERT: [bool; 256] = {
    let mut inert = [true; 256];
    let mut index = 0;
    let telling = b"\"{}[]:-0123456789tfn";
    while index < telling.len() {
        inert[telling[index] as usize] = false;
        index += 1;
    }
    inert
};
