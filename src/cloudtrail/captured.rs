//! Follows one JSON value through the stream: where it ends, and what its `eventSource` is.

use super::sources::Sources;

const SOURCE_KEY: &[u8] = b"eventSource";
/// `eventSource` with each letter escaped; a longer key is another key.
pub(super) const LONGEST_SOURCE_KEY: usize = SOURCE_KEY.len() * 6;

/// A value that is being read, and what is known of it.
#[derive(Default)]
pub(super) struct CapturedValue {
    shape: Shape,
    /// Open brackets, `true` for an object.
    open: Vec<bool>,
    in_string: bool,
    /// The byte before the current piece was a backslash inside a string.
    escaped: bool,
    pub(super) carried: Carried,
    /// The current or last string at the record's own depth, as far as an earlier piece held it.
    string: Vec<u8>,
    /// The last such string was `eventSource`, and a colon is still to come.
    source_key: bool,
    /// The member's value is still to come.
    source_value_next: bool,
    /// The current string is a value of `eventSource`.
    source_value: bool,
    /// A value of `eventSource` may be of interest.
    pub(super) of_interest: bool,
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
pub(super) enum Carried {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    TooLong,
}

pub(super) enum Progress {
    Unfinished,
    /// The value ended behind so many bytes.
    Ended(usize),
    /// A bracket closes what is not open, at this byte.
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
        self.in_string = false;
        self.escaped = false;
        self.carried = Carried::Nothing;
        self.string.clear();
        self.source_key = false;
        self.source_value_next = false;
        self.source_value = false;
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

/// Whether the inside of a JSON string, still escaped, spells `key`.
pub(super) fn names_key(raw: &[u8], key: &[u8]) -> bool {
    if !raw.contains(&b'\\') {
        return raw == key;
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|decoded| decoded.as_bytes() == key)
}
