//! Tells CloudTrail's log files from everything else in the same bucket, by the key alone.
//!
//! Shapes: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>.

use std::fmt;

/// What an S3 key says about its object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// Shaped like a CloudTrail log file. If it holds no records, it fails.
    LogFile {
        /// The account whose events the file holds, 12 digits.
        account: String,
    },
    /// No known shape but a plausible name (a renamed copy): read, and skipped if it holds no records.
    Unknown,
    /// Certainly not a log file: never fetched.
    Other(OtherKind),
}

/// Kinds of objects that lie beside log files and are not log files.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum OtherKind {
    /// Hourly digest of the log files' hashes.
    Digest,
    /// CloudTrail Insights events, which name no source.
    Insight,
    /// Aggregated events, which name no action.
    Aggregated,
    /// VPC endpoint activity.
    NetworkActivity,
    /// A zero-byte object that stands for a folder or for a trail's first write.
    Marker,
    /// Logs of another service, as Control Tower collects them in the same bucket.
    OtherService,
    /// A name that no CloudTrail log file has.
    OtherName,
}

impl fmt::Display for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest => "CloudTrail digest",
            Self::Insight => "CloudTrail Insights events",
            Self::Aggregated => "CloudTrail aggregated events",
            Self::NetworkActivity => "CloudTrail network activity",
            Self::Marker => "empty marker",
            Self::OtherService => "another service's log",
            Self::OtherName => "not named like a log file",
        })
    }
}

/// Classifies `key`. `size_bytes` is the object's size, where the envelope has it.
pub fn classify_key(key: &str, size_bytes: Option<u64>) -> KeyKind {
    if key.ends_with('/') {
        return KeyKind::Other(OtherKind::Marker);
    }
    match delivered_by_aws(key) {
        Some((account, "CloudTrail")) if is_readable(key) => KeyKind::LogFile {
            account: account.to_owned(),
        },
        Some((_, kind)) => KeyKind::Other(other_kind(kind)),
        None if size_bytes == Some(0) && key.ends_with(".log.gz") => {
            KeyKind::Other(OtherKind::Marker)
        }
        None if is_readable(key) => KeyKind::Unknown,
        None => KeyKind::Other(OtherKind::OtherName),
    }
}

/// Account and kind of a key shaped `[prefix/]AWSLogs/[o-orgid/]ACCOUNT/KIND/…`.
fn delivered_by_aws(key: &str) -> Option<(&str, &str)> {
    let segments: Vec<&str> = key.split('/').collect();
    segments.iter().enumerate().find_map(|(index, segment)| {
        if *segment != "AWSLogs" {
            return None;
        }
        let mut rest = segments[index + 1..].iter();
        let mut account = *rest.next()?;
        if account.starts_with("o-") {
            account = rest.next()?;
        }
        let kind = *rest.next()?;
        let below = rest.next().is_some();
        (is_account_id(account) && below).then_some((account, kind))
    })
}

fn other_kind(kind: &str) -> OtherKind {
    match kind {
        "CloudTrail-Digest" => OtherKind::Digest,
        "CloudTrail-Insight" => OtherKind::Insight,
        "CloudTrail-Aggregated" => OtherKind::Aggregated,
        "CloudTrail-NetworkActivity" => OtherKind::NetworkActivity,
        "CloudTrail" => OtherKind::OtherName,
        _ => OtherKind::OtherService,
    }
}

fn is_readable(key: &str) -> bool {
    [".json.gz", ".json", ".gz"]
        .iter()
        .any(|ending| key.ends_with(ending))
}

/// Whether `text` is an AWS account id: 12 ASCII digits.
pub fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}
