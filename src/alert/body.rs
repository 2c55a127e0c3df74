//! Lines of text, laid out for mail: prose wraps; commands, ARNs and links never break.

/// Prose wraps at this column. That fits a terminal of 80 columns, and a phone breaks each line into
/// two.
const COLUMNS: usize = 76;
/// Where the text of a labelled line begins.
const LABEL_COLUMNS: usize = 10;

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

    /// A labelled line that wraps.
    pub(super) fn field(&mut self, label: &str, text: &str) {
        self.item(&labelled(label), text);
    }

    /// A labelled line that does not wrap: a command or a link.
    pub(super) fn unbroken(&mut self, label: &str, text: &str) {
        self.line(&format!("{}{text}", labelled(label)));
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

fn labelled(label: &str) -> String {
    let label = format!("{label}:");
    format!("{label:<LABEL_COLUMNS$}")
}
