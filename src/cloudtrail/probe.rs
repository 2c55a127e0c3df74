//! The fast look in front of the splitter, which can only say "nothing of interest so far".
//!
//! It looks at each `"eventSource"` in the inflated bytes, wherever it stands. A value of interest,
//! an escape that could spell the key, a value that is not a plain string, or a head or tail unlike
//! CloudTrail's is a doubt: the splitter then reads the file from its start.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::sources::Sources;

/// The head of every log file that CloudTrail writes.
const HEAD: &[u8] = br#"{"Records":["#;
/// The tails of the log files that CloudTrail writes: behind a record, or of a file without any.
const TAILS: [[u8; 3]; 2] = [*b"}]}", *b"[]}"];
const KEY: &[u8] = br#""eventSource""#;
/// The start of an escape that can spell an ASCII character.
const ESCAPE: &[u8] = br"\u00";
/// A key with its value never needs more; where it does, the splitter decides.
const LONGEST_MEMBER: usize = 1024;

static KEY_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
static ESCAPE_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(ESCAPE));

/// What the probe makes of the bytes seen so far.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Nothing of interest; the next look must start with the last `keep` of these bytes.
    Clear {
        /// Bytes at the end that may belong to something unfinished.
        keep: usize,
    },
    /// The splitter must decide.
    Doubt,
}

/// The probe's memory between two looks.
#[derive(Default)]
pub(super) struct Probe {
    head_seen: bool,
    /// The last bytes of the file so far.
    tail: [u8; 3],
}

impl Probe {
    /// Looks at `bytes`: what the last look kept, and behind it `fresh` new bytes.
    pub(super) fn look(&mut self, bytes: &[u8], fresh: usize, sources: &Sources) -> Verdict {
        let fresh = &bytes[bytes.len() - fresh..];
        for &byte in &fresh[fresh.len().saturating_sub(self.tail.len())..] {
            self.tail.rotate_left(1);
            self.tail[2] = byte;
        }
        if !self.head_seen {
            if bytes.len() < HEAD.len() && HEAD.starts_with(bytes) {
                return Verdict::Clear { keep: bytes.len() };
            }
            if !bytes.starts_with(HEAD) {
                return Verdict::Doubt;
            }
            self.head_seen = true;
        }
        if ESCAPE_FINDER
            .find_iter(bytes)
            .any(|at| could_spell_key(&bytes[at + ESCAPE.len()..]))
        {
            return Verdict::Doubt;
        }
        let mut keep = unfinished_start(bytes, ESCAPE, ESCAPE.len() + 2).max(unfinished_start(
            bytes,
            KEY,
            KEY.len(),
        ));
        for at in KEY_FINDER.find_iter(bytes) {
            match value_behind(&bytes[at + KEY.len()..]) {
                Value::Plain(value) if sources.may_match_unescaped(value) => {
                    return Verdict::Doubt;
                }
                Value::Plain(_) => {}
                Value::Odd => return Verdict::Doubt,
                Value::Unfinished if bytes.len() - at > LONGEST_MEMBER => return Verdict::Doubt,
                Value::Unfinished => keep = keep.max(bytes.len() - at),
            }
        }
        Verdict::Clear { keep }
    }

    /// Whether the file may end here for the probe.
    pub(super) fn finish(&self) -> Verdict {
        if self.head_seen && TAILS.contains(&self.tail) {
            Verdict::Clear { keep: 0 }
        } else {
            Verdict::Doubt
        }
    }
}

enum Value<'a> {
    Plain(&'a [u8]),
    Odd,
    Unfinished,
}

/// The string behind a key, colon and white space included in `rest`.
fn value_behind(rest: &[u8]) -> Value<'_> {
    // As CloudTrail writes it.
    if let Some(value) = rest.strip_prefix(b":\"") {
        return value_inside(value);
    }
    let Some(colon) = skip_white_space(rest) else {
        return Value::Unfinished;
    };
    if colon[0] != b':' {
        return Value::Odd;
    }
    match skip_white_space(&colon[1..]) {
        None => Value::Unfinished,
        Some([b'"', value @ ..]) => value_inside(value),
        Some(_) => Value::Odd,
    }
}

/// A string from behind its first quote on.
fn value_inside(value: &[u8]) -> Value<'_> {
    match memchr::memchr2(b'"', b'\\', value) {
        None => Value::Unfinished,
        Some(end) if value[end] == b'"' => Value::Plain(&value[..end]),
        Some(_) => Value::Odd,
    }
}

fn skip_white_space(bytes: &[u8]) -> Option<&[u8]> {
    let start = bytes
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
    Some(&bytes[start..])
}

/// Whether the two digits behind `\u00` stand for a letter of the key, or are not there yet.
fn could_spell_key(digits: &[u8]) -> bool {
    let Some(digits) = digits.first_chunk::<2>() else {
        // The next look sees it whole.
        return false;
    };
    let letter = str::from_utf8(digits)
        .ok()
        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
    letter.is_some_and(|letter| KEY[1..KEY.len() - 1].contains(&letter))
}

/// How many bytes at the end of `bytes` may be the beginning of `word`, which is known to be whole
/// only with `length` bytes.
fn unfinished_start(bytes: &[u8], word: &[u8], length: usize) -> usize {
    let longest = bytes.len().min(length - 1);
    (1..=longest)
        .rev()
        .find(|&count| {
            let end = &bytes[bytes.len() - count..];
            let shared = count.min(word.len());
            end[..shared] == word[..shared]
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_source_of_interest_is_clear() {
        let sources = Sources::only(["billingconsole.amazonaws.com"]);
        let file = br#"{"Records":[{"eventSource":"s3.amazonaws.com"}]}"#;
        let mut probe = Probe::default();
        assert_eq!(
            probe.look(file, file.len(), &sources),
            Verdict::Clear { keep: 0 }
        );
        assert_eq!(probe.finish(), Verdict::Clear { keep: 0 });
    }
}
