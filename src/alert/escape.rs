//! Makes text from a record harmless before a person or a terminal sees it.

use std::fmt::Write as _;

/// `text` as [`visible`] shows it, with `://` as `[:]//` and `www.` as `www[.]`, so that mail and chat
/// programs see no address in it; a bare domain name stays what it is.
pub(crate) fn clean(text: &str, limit: usize) -> String {
    visible(text, limit)
        .replace("://", "[:]//")
        .replace("www.", "www[.]")
}

/// `text` on one line, without invisible or direction-changing characters, cut to `limit`
/// characters.
pub(super) fn visible(text: &str, limit: usize) -> String {
    let mut cleaned = String::new();
    for character in text.chars().take(limit) {
        match character {
            '\n' => cleaned.push_str("\\n"),
            '\r' => cleaned.push_str("\\r"),
            '\t' => cleaned.push_str("\\t"),
            unseen if is_unseen(unseen) => {
                // Writing to a string can't fail.
                let _ = write!(cleaned, "\\u{{{:x}}}", u32::from(unseen));
            }
            seen => cleaned.push(seen),
        }
    }
    let left_out = text.chars().skip(limit).count();
    if left_out > 0 {
        let _ = write!(cleaned, "… ({left_out} more characters)");
    }
    cleaned
}

/// `text` as printable ASCII, other characters as `?`, cut to `limit` characters.
pub(super) fn ascii(text: &str, limit: usize) -> String {
    let all: Vec<char> = text
        .chars()
        .map(|character| match character {
            ' '..='~' => character,
            _ => '?',
        })
        .collect();
    if all.len() <= limit {
        return all.into_iter().collect();
    }
    let mut cut: String = all.into_iter().take(limit.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

/// `text` as one word of a POSIX shell; in bash's `$'…'` form where a character can't be seen.
pub(super) fn shell_word(text: &str) -> String {
    if text.chars().any(is_unseen) {
        let mut word = String::from("$'");
        for byte in text.bytes() {
            match byte {
                b'\'' | b'\\' => {
                    word.push('\\');
                    word.push(byte.into());
                }
                b' '..=b'~' => word.push(byte.into()),
                _ => {
                    let _ = write!(word, "\\x{byte:02x}");
                }
            }
        }
        word.push('\'');
        return word;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `text` as a JSON string of ASCII characters only, its slashes escaped so that nothing in it
/// becomes a link.
pub(super) fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for unit in text.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b'"' | b'\\' | b'/')) => {
                quoted.push('\\');
                quoted.push(byte.into());
            }
            Ok(byte @ b' '..=b'~') => quoted.push(byte.into()),
            _ => {
                let _ = write!(quoted, "\\u{unit:04x}");
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Characters that can't be seen, or that change how others are: controls, format characters,
/// fillers, variation selectors, private use and noncharacters (Unicode 17, categories Cc, Cf, Zl,
/// Zp, Co and the default-ignorable ones).
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character),
            0xAD | 0x34F | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x890..=0x891 | 0x8E2
            | 0x115F..=0x1160 | 0x17B4..=0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F
            | 0x2028..=0x202E | 0x2060..=0x206F | 0x3164 | 0xE000..=0xF8FF | 0xFE00..=0xFE0F
            | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB | 0xFFFE..=0xFFFF | 0x110BD | 0x110CD
            | 0x13430..=0x1343F | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0x0010_FFFF)
        || u32::from(character) & 0xFFFE == 0xFFFE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misleading_characters_are_shown_as_escapes() {
        assert_eq!(
            clean("a\u{202e}b\u{200b}\n\u{7}http://x", 100),
            "a\\u{202e}b\\u{200b}\\n\\u{7}http[:]//x"
        );
    }

    #[test]
    fn only_untrusted_text_loses_its_links() {
        assert_eq!(visible("https://www.example", 100), "https://www.example");
        assert_eq!(clean("https://www.example", 100), "https[:]//www[.]example");
    }

    #[test]
    fn a_shell_word_quotes_quotes_and_shows_hidden_characters() {
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("a\u{202e}'"), r"$'a\xe2\x80\xae\''");
    }
}
