//! The fast look in front of the splitter, which can only say "no candidate so far".
//!
//! It looks at each `"eventSource"` in the inflated bytes, wherever it stands, and at the `"eventName"`
//! that CloudTrail writes behind it. A pair that some rule may match, an escape that could spell a key,
//! a value that is not a plain string, another layout of the pair, or a head or tail unlike CloudTrail's
//! is a doubt: the splitter then reads the file from its start.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::candidates::{Names, Pairs};

/// The head of every log file that CloudTrail writes.
const HEAD: &[u8] = br#"{"Records":["#;
/// The tails of the log files that CloudTrail writes: behind a record, or of a file without any.
const TAILS: [[u8; 3]; 2] = [*b"}]}", *b"[]}"];
const KEY: &[u8] = br#""eventSource""#;
const NAME_KEY: &[u8] = br#""eventName""#;
/// What CloudTrail writes between a source and the event's name.
const NAME_MEMBER: &[u8] = br#","eventName":""#;
/// The start of an escape that can spell an ASCII character.
const ESCAPE: &[u8] = br"\u00";
/// A source with its name never needs more; where it does, the splitter decides.
const LONGEST_MEMBER: usize = 1024;

static KEY_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
static NAME_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME_KEY));
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
    /// Whether a pair was passed by its name alone. From then on another `"eventName"` in the same
    /// record would count instead, so each must stand behind its source.
    passed_by_name: bool,
    /// The last bytes of the file so far.
    tail: [u8; 3],
}

impl Probe {
    /// Looks at `bytes`: what the last look kept, and behind it `fresh` new bytes.
    pub(super) fn look(&mut self, bytes: &[u8], fresh: usize, pairs: &Pairs) -> Verdict {
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
        let mut keep = unfinished_start(bytes, ESCAPE, ESCAPE.len() + 2)
            .max(unfinished_start(bytes, KEY, KEY.len()))
            .max(unfinished_start(bytes, NAME_KEY, NAME_KEY.len()));
        let mut names_behind_sources = 0;
        for at in KEY_FINDER.find_iter(bytes) {
            match self.judge(&bytes[at + KEY.len()..], pairs) {
                Judgement::Clear { name_is_behind } => {
                    names_behind_sources += usize::from(name_is_behind);
                }
                Judgement::Doubt => return Verdict::Doubt,
                Judgement::Unfinished if bytes.len() - at > LONGEST_MEMBER => {
                    return Verdict::Doubt;
                }
                Judgement::Unfinished => keep = keep.max(bytes.len() - at),
            }
        }
        // The kept bytes hold each source whose value or name is cut off, so that neither count includes it.
        let looked_at = &bytes[..bytes.len() - keep];
        if self.passed_by_name && count_names(looked_at) != names_behind_sources {
            return Verdict::Doubt;
        }
        Verdict::Clear { keep }
    }

    /// Judges a source and the name behind it; `rest` begins behind the key.
    fn judge(&mut self, rest: &[u8], pairs: &Pairs) -> Judgement {
        let (source, rest) = match value_behind(rest) {
            Value::Plain(source, rest) => (source, rest),
            Value::Odd => return Judgement::Doubt,
            Value::Unfinished => return Judgement::Unfinished,
        };
        if !source.is_ascii() {
            return Judgement::Doubt;
        }
        let is_cut = rest.len() < NAME_MEMBER.len() && NAME_MEMBER.starts_with(rest);
        let Some(found) = pairs.find(source) else {
            // The name is looked at together with its source, so that it is no stray one.
            return if is_cut {
                Judgement::Unfinished
            } else {
                Judgement::Clear {
                    name_is_behind: rest.starts_with(NAME_MEMBER),
                }
            };
        };
        let names = pairs.names(found);
        if *names == Names::Any {
            return Judgement::Doubt;
        }
        match rest.strip_prefix(NAME_MEMBER).map(value_inside) {
            Some(Value::Plain(name, _)) if name.is_ascii() && !names.include(name) => {
                self.passed_by_name = true;
                Judgement::Clear {
                    name_is_behind: true,
                }
            }
            Some(Value::Unfinished) => Judgement::Unfinished,
            None if is_cut => Judgement::Unfinished,
            _ => Judgement::Doubt,
        }
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

enum Judgement {
    Clear {
        /// Whether the event's name stands directly behind its source.
        name_is_behind: bool,
    },
    Doubt,
    Unfinished,
}

enum Value<'a> {
    /// The inside of a string, and what follows its closing quote.
    Plain(&'a [u8], &'a [u8]),
    Odd,
    Unfinished,
}

/// Counts the keys `"eventName"`. If the count exceeds that of the names directly behind a source, a
/// name stands elsewhere.
fn count_names(bytes: &[u8]) -> usize {
    NAME_FINDER.find_iter(bytes).count()
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
        Some(end) if value[end] == b'"' => Value::Plain(&value[..end], &value[end + 1..]),
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
    letter.is_some_and(|letter| KEY.contains(&letter) || NAME_KEY.contains(&letter))
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
    use crate::cloudtrail::Candidates;

    #[test]
    fn a_file_without_a_source_of_interest_is_clear() {
        let Candidates::Of(pairs) = Candidates::of([("billingconsole.amazonaws.com", None)]) else {
            unreachable!("only `All` is something else");
        };
        let file = br#"{"Records":[{"eventSource":"s3.amazonaws.com"}]}"#;
        let mut probe = Probe::default();
        assert_eq!(
            probe.look(file, file.len(), &pairs),
            Verdict::Clear { keep: 0 }
        );
        assert_eq!(probe.finish(), Verdict::Clear { keep: 0 });
    }
}
