//! Follows one JSON value through the stream: where it ends, and what its `eventSource` is.

use std::borrow::Cow;

use super::sources::Sources;

const SOURCE_KEY: &[u8] = b"eventSource";
/// Levels of brackets whose kinds are remembered; a value that is deeper is too long to keep.
const TRACKED_LEVELS: usize = 1 << 20;
/// `eventSource` with each letter escaped; a longer key is another key.
pub(super) const LONGEST_SOURCE_KEY: usize = SOURCE_KEY.len() * 6;

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
    source: SourceMember,
    /// A value of `eventSource` may be of interest.
    pub(super) of_interest: bool,
}

/// How much of a member `eventSource` of the record has passed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum SourceMember {
    /// No such member.
    #[default]
    Elsewhere,
    /// A string that spells its name: a key, if a colon follows.
    Named,
    /// Name and colon.
    ValueDue,
    /// The current string is its value.
    Value,
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
        sources: &'a Sources,
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
        self.source = SourceMember::Elsewhere;
        self.of_interest = false;
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
        at = self.approach_source_value(bytes, at);
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
                    at = self.approach_source_value(bytes, at);
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

    /// Behind a string that spells `eventSource`: goes on to the value, if a colon makes it a key.
    fn approach_source_value(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let SourceMember::Named | SourceMember::ValueDue = self.source {
            let Some(&byte) = bytes.get(at) else { break };
            match (self.source, byte) {
                (_, b' ' | b'\t' | b'\n' | b'\r') => at += 1,
                (SourceMember::Named, b':') => {
                    self.source = SourceMember::ValueDue;
                    at += 1;
                }
                (SourceMember::ValueDue, b'"') => break,
                (SourceMember::ValueDue, _) => {
                    // A source that is not a string is for the full parse to judge.
                    self.of_interest = true;
                    self.source = SourceMember::Elsewhere;
                }
                _ => self.source = SourceMember::Elsewhere,
            }
        }
        at
    }

    fn begin_string(&mut self) {
        self.in_string = true;
        self.string.clear();
        self.source = match self.source {
            SourceMember::ValueDue => SourceMember::Value,
            _ => SourceMember::Elsewhere,
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

    /// Closes a string whose last part is `rest`; at the record's own depth it may be the key or
    /// the value of its source.
    fn end_string(&mut self, rest: &[u8], members: &Members<'_>, may_be_escaped: bool) {
        self.in_string = false;
        let is_value = self.source == SourceMember::Value;
        self.source = SourceMember::Elsewhere;
        let Members::Follow {
            sources,
            longest_string,
        } = members
        else {
            return;
        };
        if self.depth() != 1 || self.string.len() + rest.len() > *longest_string {
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
        if is_value {
            self.of_interest |= sources.may_match(string);
        } else if string == SOURCE_KEY || (may_be_escaped && names_key(string, SOURCE_KEY)) {
            self.source = SourceMember::Named;
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
