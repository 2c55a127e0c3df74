//! The coverage check: which accounts had log files before and have none now.
//!
//! It reads names in the bucket and no object, and keeps nothing between two checks: an account that
//! has a folder had log files before. CloudTrail's keys are
//! `[prefix/]AWSLogs/[o-orgid/]ACCOUNT/CloudTrail/REGION/YYYY/MM/DD/…`.

use std::cell::Cell;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use super::{Invocation, deadline::Deadline, failure, record_source::StoreError};
use crate::{
    cloudtrail::is_account_id,
    envelope::{DeliveryOutcome, Failure},
    report::Report,
};

/// The folder that CloudTrail makes under a trail's prefix.
const LOGS_FOLDER: &str = "AWSLogs/";
/// The Region in which AWS records global services, so that an active account has log files in it.
const FIRST_REGION: &str = "us-east-1/";
/// Accounts that are looked at side by side.
const CONCURRENT_ACCOUNTS: usize = 50;
/// Most account ids in a log line and in the reply.
const NAMED_ACCOUNTS: usize = 100;

/// Where log files are, and how long an account may be without one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoverageSettings {
    /// The bucket.
    pub bucket: String,
    /// The beginning of the log files' keys; may be empty.
    pub prefix: String,
    /// Days.
    pub days: i64,
}

/// Lists names in a bucket.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LogListing {
    /// Returns the folders directly under a prefix, which is empty or ends with a slash. Each has the
    /// prefix before it and a slash at its end.
    async fn folders(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Returns whether a key under the prefix comes after `start`, in the order of S3.
    async fn has_key_after(
        &self,
        bucket: &str,
        prefix: &str,
        start: &str,
    ) -> Result<bool, StoreError>;
}

/// Looks for accounts without log files. Returns the report, and one outcome for the envelope that
/// asked.
///
/// A check that does not come to its end is a failure, and says nothing about any account.
pub async fn check_coverage(
    listing: &impl LogListing,
    settings: Option<&CoverageSettings>,
    invocation: &Invocation,
    clock: impl Fn() -> Timestamp,
) -> (Report, Vec<DeliveryOutcome>) {
    let mut report = Report::default();
    let deadline = &Deadline::new(invocation.deadline, &clock);
    let failure = match settings {
        None => Some(failure::coverage_off()),
        Some(settings) => {
            let check = Check {
                listing,
                settings,
                looked_at: Cell::new((0, 0)),
            };
            match deadline.before_reply(check.run(clock())).await {
                Some(Ok(silent)) => {
                    note(&mut report, silent, settings.days);
                    None
                }
                Some(Err(failure)) => Some(failure),
                None => Some(failure::coverage_too_late(
                    &settings.bucket,
                    check.looked_at.get(),
                )),
            }
        }
    };
    if let Some(failure) = &failure {
        tracing::error!(
            error_type = %failure.error_type,
            error = failure.message,
            "the coverage check failed"
        );
    }
    let outcome = DeliveryOutcome {
        failures: failure.into_iter().collect(),
        ..DeliveryOutcome::default()
    };
    (report, vec![outcome])
}

fn note(report: &mut Report, mut silent: Vec<String>, days: i64) {
    silent.sort();
    report.accounts_without_logs = Some(silent.len() as u64);
    silent.truncate(NAMED_ACCOUNTS);
    if !silent.is_empty() {
        let accounts = silent.join(",");
        tracing::warn!(
            accounts,
            days,
            "accounts that had log files before have none now"
        );
    }
    report.without_logs = silent;
}

struct Check<'a, L> {
    listing: &'a L,
    settings: &'a CoverageSettings,
    /// Accounts that were looked at, and all accounts that are known.
    looked_at: Cell<(usize, usize)>,
}

impl<L: LogListing> Check<'_, L> {
    /// Returns the accounts that have had no log file for the number of days.
    async fn run(&self, now: Timestamp) -> Result<Vec<String>, Failure> {
        let first_day = now.to_zoned(TimeZone::UTC).date() - self.settings.days.days();
        let first_day = first_day.strftime("%Y/%m/%d/").to_string();
        let accounts = self.accounts().await?;
        if accounts.is_empty() {
            return Err(failure::coverage_no_accounts(
                &self.settings.bucket,
                &self.settings.prefix,
            ));
        }
        self.looked_at.set((0, accounts.len()));
        let looked = stream::iter(&accounts).map(|folder| async {
            let is_silent = self.is_silent(folder, &first_day).await?;
            let (done, all) = self.looked_at.get();
            self.looked_at.set((done + 1, all));
            Ok(is_silent.then(|| account_of(folder).to_owned()))
        });
        let silent = looked.buffer_unordered(CONCURRENT_ACCOUNTS);
        silent
            .try_filter_map(|account| async { Ok(account) })
            .try_collect()
            .await
    }

    /// Returns the folders of all accounts.
    async fn accounts(&self) -> Result<Vec<String>, Failure> {
        let prefix = &self.settings.prefix;
        let root = if prefix.ends_with(LOGS_FOLDER) {
            prefix.clone()
        } else {
            format!("{prefix}{LOGS_FOLDER}")
        };
        let mut accounts = Vec::new();
        for folder in self.folders(&root).await? {
            if is_account_id(account_of(&folder)) {
                accounts.push(folder);
            } else if account_of(&folder).starts_with("o-") {
                let members = self.folders(&folder).await?;
                let members = members.into_iter();
                accounts.extend(members.filter(|folder| is_account_id(account_of(folder))));
            }
        }
        Ok(accounts)
    }

    /// Returns whether an account has had log files, but none since the first day.
    async fn is_silent(&self, account: &str, first_day: &str) -> Result<bool, Failure> {
        let logs = format!("{account}CloudTrail/");
        let first = format!("{logs}{FIRST_REGION}");
        // This one request is all that an active account costs.
        if self.has_logs(&first, first_day).await? {
            return Ok(false);
        }
        let regions = self.folders(&logs).await?;
        for region in regions.iter().filter(|region| **region != first) {
            if self.has_logs(region, first_day).await? {
                return Ok(false);
            }
        }
        // Without a folder, the account never had log files: it may have other logs in the bucket.
        Ok(!regions.is_empty())
    }

    async fn has_logs(&self, region: &str, first_day: &str) -> Result<bool, Failure> {
        let bucket = &self.settings.bucket;
        let start = format!("{region}{first_day}");
        let has_key = self.listing.has_key_after(bucket, region, &start).await;
        has_key.map_err(|error| failure::list(bucket, &error))
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>, Failure> {
        let bucket = &self.settings.bucket;
        let folders = self.listing.folders(bucket, prefix).await;
        folders.map_err(|error| failure::list(bucket, &error))
    }
}

/// The last part of a folder's name.
fn account_of(folder: &str) -> &str {
    let folder = folder.trim_end_matches('/');
    folder.rsplit('/').next().unwrap_or(folder)
}
