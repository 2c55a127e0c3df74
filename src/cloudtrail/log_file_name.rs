//! What the name of a log file says: whose events it holds, of which Region, and when it was delivered.

use jiff::civil::{Date, DateTime};

use super::key::is_account_id;

/// The parts of a log file's name,
/// `111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz`.
///
/// Shape: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/get-and-view-cloudtrail-log-files.html>.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LogFileName {
    /// The account whose events the file holds.
    pub account: String,
    /// The Region that recorded them.
    pub region: String,
    /// The day on which CloudTrail delivered the file (UTC).
    pub delivered_on: Date,
}

impl LogFileName {
    /// The parts of the last segment of a key or a path, or `None` if it is not named like a log file.
    pub fn parse(key: &str) -> Option<Self> {
        let name = key.rsplit(['/', '\\']).next()?;
        let mut parts = name.split('_');
        let account = parts.next().filter(|account| is_account_id(account))?;
        let kind = parts.next()?;
        let region = parts.next().filter(|region| is_region(region))?;
        let time = parts.next()?.strip_suffix('Z')?;
        let delivered = DateTime::strptime("%Y%m%dT%H%M", time).ok()?;
        (kind == "CloudTrail" && parts.next().is_some()).then(|| Self {
            account: account.to_owned(),
            region: region.to_owned(),
            delivered_on: delivered.date(),
        })
    }
}

/// Whether a text has the shape of a Region's name.
fn is_region(text: &str) -> bool {
    text.contains('-')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_name_has_account_region_and_date() {
        let key = "p/AWSLogs/o-a/111122223333/CloudTrail/us-east-1/2026/03/02/\
                   111122223333_CloudTrail_us-east-1_20260302T1650Z_Abcdefgh12345678.json.gz";
        let name = LogFileName {
            account: "111122223333".to_owned(),
            region: "us-east-1".to_owned(),
            delivered_on: date(2026, 3, 2),
        };
        assert_eq!(LogFileName::parse(key), Some(name.clone()));
        assert_eq!(
            LogFileName::parse(key.rsplit('/').next().unwrap_or("")),
            Some(name)
        );
    }

    #[test]
    fn other_names_have_none() {
        for name in [
            "",
            "a.json.gz",
            "11112222333_CloudTrail_us-east-1_20260302T1650Z_A.json.gz",
            "111122223333_CloudTrail-Digest_us-east-1_trail_us-east-1_20260302T165000Z.json.gz",
            "111122223333_CloudTrail_us-east-1_20261302T1650Z_A.json.gz",
            "111122223333_CloudTrail_useast1_20260302T1650Z_A.json.gz",
            "111122223333_CloudTrail_us-east-1_20260302T1650Z",
            "111122223333_Config_us-east-1_20260302T1650Z_A.json.gz",
        ] {
            assert_eq!(LogFileName::parse(name), None, "{name}");
        }
    }
}
