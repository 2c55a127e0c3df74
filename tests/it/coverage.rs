//! The coverage check: which accounts had log files before and have none now.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use billing_watch::{
    envelope::ErrorType,
    pipeline::{
        CoverageSettings, Invocation, LogListing, StoreError, StoreErrorKind, check_coverage,
    },
    report::Report,
};
use jiff::SignedDuration;

use crate::support::{block_on, now};

/// Names in a bucket, listed as S3 does.
#[derive(Default)]
struct Names {
    keys: BTreeSet<String>,
    /// What was asked, in order.
    requests: RefCell<Vec<String>>,
    is_denied: Cell<bool>,
    /// How long each request takes.
    latency: Duration,
}

impl Names {
    fn of(keys: &[&str]) -> Self {
        Self {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..Self::default()
        }
    }

    async fn ask(&self, what: String) -> Result<(), StoreError> {
        self.requests.borrow_mut().push(what);
        tokio::time::sleep(self.latency).await;
        if self.is_denied.get() {
            return Err(StoreError {
                kind: StoreErrorKind::AccessDenied,
                remedy: "",
                source: "AccessDenied: no".into(),
            });
        }
        Ok(())
    }
}

impl LogListing for Names {
    async fn folders(&self, _: &str, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.ask(format!("folders of {prefix}")).await?;
        let below = self.keys.iter().filter_map(|key| key.strip_prefix(prefix));
        let folders: BTreeSet<String> = below
            .filter_map(|rest| Some(format!("{prefix}{}/", rest.split_once('/')?.0)))
            .collect();
        Ok(folders.into_iter().collect())
    }

    async fn has_key_after(&self, _: &str, prefix: &str, start: &str) -> Result<bool, StoreError> {
        self.ask(format!("keys after {start}")).await?;
        Ok(self
            .keys
            .iter()
            .any(|key| key.starts_with(prefix) && key.as_str() > start))
    }
}

/// Checks with 7 days on 2026-03-02, so that a log file of 2026-02-23 is young enough.
fn check(names: &Names, prefix: &str) -> (Report, Option<(ErrorType, String)>) {
    let settings = CoverageSettings {
        bucket: "logs".to_owned(),
        prefix: prefix.to_owned(),
        days: 7,
    };
    let invocation = Invocation {
        id: "test".to_owned(),
        deadline: Some(now() + SignedDuration::from_secs(60)),
    };
    let checked = check_coverage(names, Some(&settings), &invocation, now);
    let (report, outcomes) = block_on(checked);
    let failure = outcomes[0].failures.first();
    let failure = failure.map(|failure| (failure.error_type, failure.message.clone()));
    (report, failure)
}

fn silent(names: &Names, prefix: &str) -> Vec<String> {
    let (report, failure) = check(names, prefix);
    assert_eq!(failure, None);
    assert_eq!(
        report.accounts_without_logs,
        Some(report.without_logs.len() as u64)
    );
    report.without_logs
}

#[test]
fn an_account_is_silent_if_it_had_log_files_and_has_none_now() {
    for (prefix, folder) in [
        ("AWSLogs/", "AWSLogs/"),
        ("", "AWSLogs/"),
        ("trail/", "trail/AWSLogs/"),
        ("AWSLogs/", "AWSLogs/o-exampleorg1/"),
        (
            "o-exampleorg1/AWSLogs/",
            "o-exampleorg1/AWSLogs/o-exampleorg1/",
        ),
    ] {
        let keys = [
            // Active, in its first Region.
            "111111111111/CloudTrail/us-east-1/2026/03/02/x.json.gz",
            // Active on the first day that counts.
            "222222222222/CloudTrail/us-east-1/2026/02/23/x.json.gz",
            // Silent since the day before.
            "333333333333/CloudTrail/us-east-1/2026/02/22/x.json.gz",
            // Active only in another Region.
            "444444444444/CloudTrail/us-east-1/2025/01/01/x.json.gz",
            "444444444444/CloudTrail/eu-west-1/2026/03/01/x.json.gz",
            // Silent in two Regions.
            "555555555555/CloudTrail/eu-central-1/2025/12/31/x.json.gz",
            "555555555555/CloudTrail/eu-west-1/2026/02/01/x.json.gz",
            // Never had log files: digests and other services' logs are none.
            "666666666666/CloudTrail-Digest/us-east-1/2026/03/02/x.json.gz",
            "666666666666/Config/us-east-1/2026/3/2/x.json.gz",
            // Is no account.
            "elasticloadbalancing/CloudTrail/us-east-1/2020/01/01/x.json.gz",
        ];
        let keys: Vec<String> = keys.iter().map(|key| format!("{folder}{key}")).collect();
        let names = Names::of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            silent(&names, prefix),
            ["333333333333", "555555555555"],
            "{folder}"
        );
    }
}

#[test]
fn an_active_account_costs_one_request() {
    let keys: Vec<String> = (0..200)
        .map(|number| format!("AWSLogs/{number:012}/CloudTrail/us-east-1/2026/03/02/x.json.gz"))
        .collect();
    let names = Names::of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(silent(&names, "AWSLogs/"), [""; 0]);
    assert_eq!(names.requests.borrow().len(), 1 + 200);
}

#[test]
fn a_check_that_cannot_list_says_nothing_about_accounts() {
    let names = Names::of(&["AWSLogs/111111111111/CloudTrail/us-east-1/2026/03/02/x.json.gz"]);
    names.is_denied.set(true);
    let (report, failure) = check(&names, "AWSLogs/");
    assert_eq!(report.accounts_without_logs, None);
    let (error_type, message) = failure.unwrap();
    assert_eq!(error_type, ErrorType::ObjectAccessDenied);
    insta::assert_snapshot!(message, @"failed to list s3://logs: reading it is not allowed: AccessDenied: no; allow s3:ListBucket to the reading role (LOG_READER_ROLE_ARN, or else the function's own), in its own policy and in the bucket's");
    // A bucket without accounts is a wrong prefix, not a bucket in which all is well.
    let (report, failure) = check(&Names::of(&["notes.txt"]), "logs/");
    assert_eq!(report.accounts_without_logs, None);
    insta::assert_snapshot!(failure.unwrap().1, @"s3://logs/logs/ has no folder AWSLogs with folders of accounts; correct COVERAGE_URI");
}

#[test]
fn a_check_without_enough_time_says_how_far_it_came() {
    let keys: Vec<String> = (0..300)
        .map(|number| format!("AWSLogs/{number:012}/CloudTrail/us-east-1/2026/03/02/x.json.gz"))
        .collect();
    let names = Names {
        latency: Duration::from_secs(20),
        ..Names::of(&keys.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (report, failure) = check(&names, "AWSLogs/");
    assert_eq!(report.accounts_without_logs, None);
    let (error_type, message) = failure.unwrap();
    assert_eq!(error_type, ErrorType::DeadlineExceeded);
    assert!(message.contains("after 50 of 300 accounts"), "{message}");
}

#[test]
fn many_silent_accounts_are_all_counted_and_the_first_hundred_named() {
    let keys: Vec<String> = (0..130)
        .map(|number| format!("AWSLogs/{number:012}/CloudTrail/us-east-1/2020/03/02/x.json.gz"))
        .collect();
    let names = Names::of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    let (report, _) = check(&names, "AWSLogs/");
    assert_eq!(report.accounts_without_logs, Some(130));
    assert_eq!(report.without_logs.len(), 100);
    assert_eq!(report.without_logs[0], "000000000000");
}

#[test]
fn a_check_that_is_off_is_refused() {
    let invocation = Invocation {
        id: "test".to_owned(),
        deadline: None,
    };
    let names = Names::default();
    let (report, outcomes) = block_on(check_coverage(&names, None, &invocation, now));
    assert_eq!(report.accounts_without_logs, None);
    assert_eq!(outcomes[0].failures[0].error_type, ErrorType::CoverageOff);
}
