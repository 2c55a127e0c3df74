//! Text that is harmless wherever it is shown: the type [`Escaped`], and the only ways to make one.
//!
//! The field of the type is private to this file, and every constructor escapes. So a renderer, a log
//! line or a ledger entry that takes an [`Escaped`] cannot show what somebody else wrote into a record.

use std::{fmt, fmt::Write as _, sync::LazyLock};

use regex::Regex;
use serde::{Deserialize, Serialize};

/// Most characters of a text that the operator chose.
const TRUSTED_CHARACTERS: usize = 8_000;

/// Characters that can't be seen, or that change how others are: controls, format characters, fillers,
/// variation selectors, line and paragraph separators, private use, and what Unicode has not assigned.
static UNSEEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Default_Ignorable_Code_Point}]").ok()
});

/// Text that is harmless to a person, a terminal, a page and a log: one line of visible characters.
///
/// It can only be made by escaping:
///
/// ```compile_fail
/// let name = billing_watch::alert::Escaped("<!channel>".to_owned());
/// ```
///
/// ```compile_fail
/// let name: billing_watch::alert::Escaped = "<!channel>".to_owned().into();
/// ```
///
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Escaped(String);

impl Escaped {
    /// Text that somebody else chose: on one line, what can't be seen as `\u{…}`, without addresses that a
    /// mail or chat program would make a link of (`://` as `[:]//`, `www.` as `www[.]`), and cut to `limit`
    /// characters.
    pub fn untrusted(text: &str, limit: usize) -> Self {
        Self(
            visible(text, limit)
                .replace("://", "[:]//")
                .replace("www.", "www[.]"),
        )
    }

    /// A name that AWS or an administrator chose: as [`Escaped::untrusted`], and letters outside of ASCII
    /// and Latin-1 as `\u{…}`, because they may look like others. AWS's own names are ASCII.
    pub fn name(text: &str, limit: usize) -> Self {
        let Self(cleaned) = Self::untrusted(text, limit);
        let mut name = String::with_capacity(cleaned.len());
        for character in cleaned.chars() {
            match character {
                ' '..='~' | 'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ÿ' | '…' => name.push(character),
                other => push_code_point(&mut name, other),
            }
        }
        Self(name)
    }

    /// Text that the operator chose, such as a rule's prose, or a command made of escaped words: links
    /// stay, what can't be seen does not.
    pub(super) fn trusted(text: &str) -> Self {
        Self(visible(text, TRUSTED_CHARACTERS))
    }

    /// The name of an S3 object, with its scheme: `s3://bucket/key`.
    pub(crate) fn object(name: &str, limit: usize) -> Self {
        let Self(cleaned) = Self::untrusted(name, limit);
        Self(cleaned.replacen("[:]//", "://", 1))
    }

    /// `text` as one word of bash.
    pub(super) fn shell_word(text: &str) -> Self {
        let word = shell_quote::Bash::quote_vec(text.as_bytes());
        Self(String::from_utf8_lossy(&word).into_owned())
    }

    /// `text` as a JSON string of ASCII characters only, its slashes escaped so that nothing in it
    /// becomes a link.
    pub(super) fn json_string(text: &str) -> Self {
        let mut quoted = String::from("\"");
        for unit in text.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte @ (b'"' | b'\\' | b'/')) => {
                    quoted.push('\\');
                    quoted.push(byte.into());
                }
                Ok(byte @ b' '..=b'~') => quoted.push(byte.into()),
                _ => {
                    // Writing to a string can't fail.
                    let _ = write!(quoted, "\\u{unit:04x}");
                }
            }
        }
        quoted.push('"');
        Self(quoted)
    }

    /// The path of a member of what this path names.
    pub(super) fn member(&self, name: &Self) -> Self {
        Self(format!("{self}.{name}"))
    }

    /// The path of an element of the list that this path names.
    pub(super) fn element(&self, index: usize) -> Self {
        Self(format!("{self}[{index}]"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text with a capital letter in front.
    pub(super) fn capitalised(&self) -> Self {
        let mut characters = self.0.chars();
        let first = characters.next().into_iter().flat_map(char::to_uppercase);
        Self(first.chain(characters).collect())
    }
}

/// What the ledger returns was escaped when it was written. It is made visible once more, which changes
/// nothing unless somebody else wrote the entry.
impl<'de> Deserialize<'de> for Escaped {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(Self(visible(&text, usize::MAX)))
    }
}

impl fmt::Display for Escaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `text` on one line, without invisible or direction-changing characters, cut to `limit` characters.
fn visible(text: &str, limit: usize) -> String {
    let mut cleaned = String::new();
    for character in text.chars().take(limit) {
        match character {
            ' '..='~' => cleaned.push(character),
            '\n' => cleaned.push_str("\\n"),
            '\r' => cleaned.push_str("\\r"),
            '\t' => cleaned.push_str("\\t"),
            unseen if is_unseen(unseen) => push_code_point(&mut cleaned, unseen),
            seen => cleaned.push(seen),
        }
    }
    let left_out = text.chars().skip(limit).count();
    if left_out > 0 {
        // Writing to a string can't fail.
        let _ = write!(cleaned, "… ({left_out} more characters)");
    }
    cleaned
}

fn push_code_point(text: &mut String, character: char) {
    // Writing to a string can't fail.
    let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
}

fn is_unseen(character: char) -> bool {
    // Nothing passes if the expression were wrong; a test would notice.
    UNSEEN
        .as_ref()
        .is_none_or(|unseen| unseen.is_match(character.encode_utf8(&mut [0; 4])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn untrusted(text: &str) -> String {
        Escaped::untrusted(text, 100).to_string()
    }

    #[test]
    fn misleading_characters_are_shown_as_escapes() {
        assert_eq!(
            untrusted("a\u{202e}b\u{200b}\n\u{7}\u{1b}[31mhttp://x é ж"),
            "a\\u{202e}b\\u{200b}\\n\\u{7}\\u{1b}[31mhttp[:]//x é ж"
        );
        // Of each kind that Unicode has.
        for unseen in "\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{2028}\u{2029}\u{2066}\u{3164}\u{e000}\u{fe0f}\u{feff}\u{fffe}\u{e0041}\u{10ffff}".chars() {
            assert_eq!(untrusted(&unseen.to_string()), format!("\\u{{{:x}}}", u32::from(unseen)));
        }
    }

    #[test]
    fn a_name_shows_letters_that_look_like_others_as_escapes() {
        let name = |text| Escaped::name(text, 100).to_string();
        assert_eq!(name("jörg.admin@example"), "jörg.admin@example");
        assert_eq!(name("\u{430}dmin"), "\\u{430}dmin");
        assert_eq!(name("ａdmin\u{202e}"), "\\u{ff41}dmin\\u{202e}");
    }

    #[test]
    fn only_untrusted_text_loses_its_links() {
        assert_eq!(
            Escaped::trusted("https://www.example").as_str(),
            "https://www.example"
        );
        assert_eq!(untrusted("https://www.example"), "https[:]//www[.]example");
        assert_eq!(
            Escaped::object("s3://a/http://b", 100).as_str(),
            "s3://a/http[:]//b"
        );
    }

    #[test]
    fn a_shell_word_is_one_word_of_ascii() {
        assert_eq!(Escaped::shell_word("it's").as_str(), r"$'it\'s'");
        assert_eq!(
            Escaped::shell_word("a\u{202e}'").as_str(),
            r"$'a\xE2\x80\xAE\''"
        );
    }

    #[test]
    fn text_that_was_read_back_is_what_was_written() {
        let written = Escaped::object("s3://a/\u{202e}http://b", 100);
        let json = serde_json::to_string(&written).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Escaped>(&json).ok(), Some(written));
        let forged = serde_json::from_str::<Escaped>("\"\\u202e\"").ok();
        assert_eq!(
            forged.map(|text| text.to_string()).as_deref(),
            Some("\\u{202e}")
        );
    }
}
