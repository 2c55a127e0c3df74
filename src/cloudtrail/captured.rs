//! Follows one JSON value through the stream: where it ends, and whether its `eventSource` and
//! `eventName` make it a candidate.

use std::borrow::Cow;

use super::candidates::{Candidates, Names};

const SOURCE_KEY: &[u8] = b"eventSource";
const NAME_KEY: &[u8] = b"eventName";
/// Levels of brackets whose kinds are remembered; a value that is deeper is too long to keep.
const TRACKED_LEVELS: usize = 1 << 20;
/// `eventSource` with each letter escaped; a longer key is another key.
pub(super) const LONGEST_KEY: usize = SOURCE_KEY.len() * 6;

/// A value that is being read, and what is known of it.
#[derive(Default)]
pub(super) struct CapturedValue {
    shape: Shape,
    /// Open brackets, `true` for an object.
    open: Vec<bool>,
    /// Open brackets beyond those, whose kinds are not remembered.
    deeper: u64,
    in_string: bool,
    /// The byte before the current piece was a backslash inside a string.
    escaped: bool,
    carried: Carried,
    /// The current or last string at the record's own depth, as far as an earlier piece held it.
    string: Vec<u8>,
    member: Member,
    source_seen: bool,
    name_seen: bool,
    verdict: Candidate,
}

/// The members that make a record a candidate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Key {
    Source,
    Name,
}

/// How much of such a member has passed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Member {
    /// No such member.
    #[default]
    Elsewhere,
    /// A string that spells its key, if a colon follows.
    Spelled(Key),
    /// Key and colon.
    ValueDue(Key),
    /// The current string is its value.
    Value(Key),
}

/// Whether the record may be a candidate, by what has passed of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Candidate {
    #[default]
    No,
    /// If its name is one of this source's.
    IfNamed(usize),
    /// Its name is none of its source's, unless another name follows.
    OtherName,
    /// Yes, or only a full parse can tell.
    Maybe,
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

pub(super) enum Progress {
    Unfinished,
    /// The value ended behind so many bytes.
    Ended(usize),
    /// A closing bracket without its opening one, at this byte.
    Mismatch(usize),
}

pub(super) enum Members<'a> {
    Ignore,
    Follow {
        candidates: &'a Candidates,
        longest_string: usize,
    },
}

impl CapturedValue {
    pub(super) fn begin(&mut self, first: u8) {
        self.shape = match first {
            b'{' => Shape::Object,
            b'[' => Shape::Array,
            b'"' => Shape::String,
            _ => Shape::Scalar,
        };
        self.open.clear();
        self.deeper = 0;
        self.in_string = false;
        self.escaped = false;
        self.carried = Carried::Nothing;
        self.string.clear();
        self.member = Member::Elsewhere;
        self.source_seen = false;
        self.name_seen = false;
        self.verdict = Candidate::No;
    }

    /// Returns whether a record that has ended may be a candidate.
    pub(super) fn is_candidate(&self) -> bool {
        self.verdict == Candidate::Maybe
    }

    pub(super) fn is_object(&self) -> bool {
        self.shape == Shape::Object
    }

    /// Reads `bytes`, which begin the value or go on with it.
    pub(super) fn read(&mut self, bytes: &[u8], members: &Members<'_>) -> Progress {
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
            if self.depth() == 0 {
                return Progress::Ended(at);
            }
        }
        at = self.approach_value(bytes, at);
        while at < bytes.len() {
            let byte = bytes[at];
            at += 1;
            if INERT[byte as usize] {
                continue;
            }
            match byte {
                b'"' => {
                    // Most strings lie in one piece, unescaped.
                    match quote_or_backslash(&bytes[at..]) {
                        Some(length) if bytes[at + length] == b'"' && self.depth() > 0 => {
                            let string = at..at + length;
                            at = string.end + 1;
                            if self.depth() > 1 {
                                continue;
                            }
                            self.begin_string();
                            self.end_string(&bytes[string], members, false);
                        }
                        _ => {
                            self.begin_string();
                            match self.read_string(bytes, at, members) {
                                None => return Progress::Unfinished,
                                Some(end) => at = end,
                            }
                            if self.depth() == 0 {
                                return Progress::Ended(at);
                            }
                        }
                    }
                    at = self.approach_value(bytes, at);
                }
                b'{' | b'[' => self.open_bracket(byte),
                _ => {
                    if !self.close_bracket(byte) {
                        return Progress::Mismatch(at - 1);
                    }
                    if self.depth() == 0 {
                        return Progress::Ended(at);
                    }
                }
            }
        }
        Progress::Unfinished
    }

    /// Behind a string that spells a key: goes on to the value, if a colon makes it one.
    fn approach_value(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Member::Spelled(key) | Member::ValueDue(key) = self.member {
            let Some(&byte) = bytes.get(at) else { break };
            match (self.member, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                (Member::Spelled(_), b':') => {
                    self.member = Member::ValueDue(key);
                    at += 1;
                }
                (Member::ValueDue(_), b'"') => break,
                (Member::ValueDue(_), _) => {
                    // A value that is not a string is for the full parse to judge.
                    self.odd_value(key);
                    self.member = Member::Elsewhere;
                }
                _ => self.member = Member::Elsewhere,
            }
        }
        at
    }

    /// Notes a value of `key` that only a full parse can judge.
    fn odd_value(&mut self, key: Key) {
        match key {
            Key::Source => self.verdict = Candidate::Maybe,
            Key::Name => {
                self.name_seen = true;
                if self.verdict != Candidate::No {
                    self.verdict = Candidate::Maybe;
                }
            }
        }
    }

    /// Notes the record's source, still escaped.
    fn note_source(&mut self, raw: &[u8], candidates: &Candidates) {
        let Candidates::Of(pairs) = candidates else {
            return;
        };
        let repeated = std::mem::replace(&mut self.source_seen, true);
        if repeated || !is_plain(raw) {
            self.verdict = Candidate::Maybe;
            return;
        }
        self.verdict = match pairs.find(raw) {
            None => Candidate::No,
            // CloudTrail writes the name behind the source. Elsewhere, the full parse compares it.
            Some(at) if self.name_seen || *pairs.names(at) == Names::Any => Candidate::Maybe,
            Some(at) => Candidate::IfNamed(at),
        };
    }

    /// Notes the record's event name, still escaped.
    fn note_name(&mut self, raw: &[u8], candidates: &Candidates) {
        self.name_seen = true;
        let Candidates::Of(pairs) = candidates else {
            return;
        };
        self.verdict = match self.verdict {
            Candidate::IfNamed(at) if is_plain(raw) && !pairs.names(at).include(raw) => {
                Candidate::OtherName
            }
            Candidate::No => Candidate::No,
            Candidate::IfNamed(_) | Candidate::OtherName | Candidate::Maybe => Candidate::Maybe,
        };
    }

    fn begin_string(&mut self) {
        self.in_string = true;
        self.string.clear();
        self.member = match self.member {
            Member::ValueDue(key) => Member::Value(key),
            _ => Member::Elsewhere,
        };
    }

    /// Reads on in a string from `start`; says where it ended, behind its quote.
    fn read_string(&mut self, bytes: &[u8], start: usize, members: &Members<'_>) -> Option<usize> {
        let mut at = start + usize::from(std::mem::take(&mut self.escaped));
        loop {
            match bytes.get(at..).and_then(quote_or_backslash) {
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
        self.end_string(&bytes[start..at], members, true);
        Some(at + 1)
    }

    fn keep_string(&mut self, part: &[u8], members: &Members<'_>) {
        if let Members::Follow { longest_string, .. } = members
            && self.depth() == 1
        {
            // One byte over the limit is enough to know that it is over.
            let room = (longest_string + 1).saturating_sub(self.string.len());
            self.string.extend_from_slice(&part[..part.len().min(room)]);
        }
    }

    /// Closes a string whose last part is `rest`. At the record's own depth it may be the key or the
    /// value of its source or name.
    fn end_string(&mut self, rest: &[u8], members: &Members<'_>, may_be_escaped: bool) {
        self.in_string = false;
        let member = std::mem::take(&mut self.member);
        let Members::Follow {
            candidates,
            longest_string,
        } = members
        else {
            return;
        };
        if self.depth() != 1 {
            return;
        }
        let whole;
        let string = if self.string.is_empty() {
            rest
        } else {
            // A string over the limit is cut one byte behind it, and still longer than any candidate's.
            let room = (longest_string + 1).saturating_sub(self.string.len());
            self.string.extend_from_slice(&rest[..rest.len().min(room)]);
            whole = std::mem::take(&mut self.string);
            &whole
        };
        let fits = string.len() <= *longest_string;
        match member {
            Member::Value(Key::Source) if fits => self.note_source(string, candidates),
            Member::Value(Key::Source) => self.source_seen = true,
            Member::Value(Key::Name) => self.note_name(string, candidates),
            _ if !fits => {}
            _ => {
                let spells = |key| string == key || (may_be_escaped && names_key(string, key));
                if spells(SOURCE_KEY) {
                    self.member = Member::Spelled(Key::Source);
                } else if spells(NAME_KEY) {
                    self.member = Member::Spelled(Key::Name);
                }
            }
        }
    }

    /// How many brackets are open.
    fn depth(&self) -> u64 {
        self.open.len() as u64 + self.deeper
    }

    fn open_bracket(&mut self, bracket: u8) {
        if self.open.len() < TRACKED_LEVELS {
            self.open.push(bracket == b'{');
        } else {
            self.deeper += 1;
        }
    }

    /// Whether the bracket closes what is open.
    fn close_bracket(&mut self, bracket: u8) -> bool {
        if self.deeper > 0 {
            self.deeper -= 1;
            return true;
        }
        self.open.pop() == Some(bracket == b'}')
    }

    /// The bytes of a value that ends with `last`, unless it is longer than `limit`.
    pub(super) fn take_whole<'a>(&mut self, last: &'a [u8], limit: usize) -> Option<Cow<'a, [u8]>> {
        if matches!(self.carried, Carried::Nothing) {
            return (last.len() <= limit).then_some(Cow::Borrowed(last));
        }
        self.carry(last, limit);
        match std::mem::take(&mut self.carried) {
            Carried::Bytes(bytes) => Some(Cow::Owned(bytes)),
            Carried::Nothing | Carried::TooLong => None,
        }
    }

    /// Keeps the bytes of a value that goes on in the next piece, unless they exceed `limit`.
    pub(super) fn carry(&mut self, fresh: &[u8], limit: usize) {
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

/// The place of the first quote or backslash. Most strings of a record are shorter than what a
/// vectorised search pays for: their first bytes are looked at eight at a time.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    const WORDS: usize = 4;
    let mut at = 0;
    while at < WORDS * 8
        && let Some(word) = bytes[at..].first_chunk()
    {
        let word = u64::from_le_bytes(*word);
        let quotes = word ^ QUOTES;
        let backslashes = word ^ BACKSLASHES;
        // The lowest high bit left is that of the first zero byte.
        let found =
            (quotes.wrapping_sub(ONES) & !quotes) | (backslashes.wrapping_sub(ONES) & !backslashes);
        let found = found & HIGH_BITS;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr::memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found)
}

/// Bytes that change nothing outside strings: all but quotes and brackets.
const INERT: [bool; 256] = {
    let mut inert = [true; 256];
    let telling = b"\"{}[]";
    let mut index = 0;
    while index < telling.len() {
        inert[telling[index] as usize] = false;
        index += 1;
    }
    inert
};

/// Whether the inside of a JSON string, still escaped, spells `key`.
pub(super) fn names_key(raw: &[u8], key: &[u8]) -> bool {
    if raw == key {
        return true;
    }
    // An escaped spelling is longer.
    if raw.len() <= key.len() || memchr::memchr(b'\\', raw).is_none() {
        return false;
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|decoded| decoded.as_bytes() == key)
}

/// Returns whether the inside of a JSON string has neither escapes nor letters that fold to ASCII ones.
fn is_plain(raw: &[u8]) -> bool {
    raw.is_ascii() && memchr::memchr(b'\\', raw).is_none()
}
