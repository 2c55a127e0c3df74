//! The digest of a pack: tells whether two functions have loaded the same rules.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::RuleFile;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 12;

/// Returns the digest of rule files. Neither their names nor their order matter.
///
/// It is the beginning of the SHA-256 of the files' own SHA-256 sums, sorted, one a line, so that this
/// command prints it: `sha256sum FILES | cut -c1-64 | LC_ALL=C sort | sha256sum | cut -c1-12`.
pub(super) fn digest<'a>(files: impl IntoIterator<Item = &'a RuleFile>) -> String {
    let sums = files
        .into_iter()
        .map(|file| format!("{}\n", sha256(&file.text)));
    let mut sums: Vec<String> = sums.collect();
    sums.sort();
    let mut digest = sha256(&sums.concat());
    digest.truncate(DIGITS);
    digest
}

fn sha256(text: &str) -> String {
    let sum = Sha256::digest(text);
    sum.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string can't fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
