//! Lines of text, laid out for mail: prose wraps; commands, ARNs and links never break.

use std::fmt::Write as _;

/// Prose wraps at this column; commands, ARNs and links never break.
const COLUMNS: usize = 100;

/// Lines of text on their way to a mail.
#[derive(Default)]
pub(super) struct Body {
    pub(super) text: String,
}

impl Body {
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(super) fn blank(&mut self) {
        self.text.push('\n');
    }

    pub(super) fn heading(&mut self, heading: &str) {
        self.blank();
        self.line(heading);
    }

    pub(super) fn field(&mut self, label: &str, value: &str) {
        // Writing to a string can't fail.
        let _ = writeln!(self.text, "{:<9} {value}", format!("{label}:"));
    }

    pub(super) fn prose(&mut self, prose: &str) {
        self.item("", prose);
    }

    pub(super) fn item(&mut self, bullet: &str, prose: &str) {
        let indent = " ".repeat(bullet.len());
        let options = textwrap::Options::new(COLUMNS)
            .initial_indent(bullet)
            .subsequent_indent(&indent)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
            .word_separator(textwrap::WordSeparator::AsciiSpace);
        self.line(&textwrap::fill(prose, options));
    }
}
