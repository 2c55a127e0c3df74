//! The digest of a pack: tells whether two functions have loaded the same rules.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Hexadecimal digits of a digest.
const DIGITS: usize = 12;

/// Returns the digest of rule files, given by their checksums. Neither their names nor their order
/// matter.
///
/// It is the beginning of the SHA-256 of the checksums, sorted, one a line, so that this command prints
/// it: `sha256sum FILES | cut -c1-64 | LC_ALL=C sort | sha256sum | cut -c1-12`.
pub(super) fn digest(checksums: impl IntoIterator<Item = String>) -> String {
    let mut lines: Vec<String> = checksums
        .into_iter()
        .map(|checksum| checksum + "\n")
        .collect();
    lines.sort();
    let mut digest = checksum(&lines.concat());
    digest.truncate(DIGITS);
    digest
}

/// Returns the SHA-256 of a text, as hexadecimal digits.
pub(super) fn checksum(text: &str) -> String {
    let checksum = Sha256::digest(text);
    checksum.iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string can't fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
