//! Jobs of S3 Batch Operations that invoke the function for each log file of a bucket.

use aws_config::SdkConfig;
use aws_sdk_s3control::{
    error::{ProvideErrorMetadata, SdkError},
    types::{
        JobDescriptor, JobManifestGenerator, JobManifestGeneratorFilter, JobOperation,
        JobReport as Report, JobReportFormat, JobReportScope, KeyNameConstraint,
        LambdaInvokeOperation, RequestedJobStatus, S3JobManifestGenerator,
    },
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::request_error::RequestError;

/// Between 0 and 2,147,483,647; S3 runs the job with the higher number first. Nothing else competes.
const PRIORITY: i32 = 10;
/// The keys of log files, as opposed to those of digests and Insights, have it.
const KEY_PART: &str = "/CloudTrail/";
const KEY_ENDING: &str = ".json.gz";
/// Where the completion reports are in their bucket.
const REPORT_PREFIX: &str = "backfill";

/// S3 Batch Operations, with the credentials and the Region of the environment.
#[derive(Clone, Debug)]
pub struct BatchJobs {
    control: aws_sdk_s3control::Client,
    sts: aws_sdk_sts::Client,
}

/// A job to be created.
#[derive(Clone, Debug)]
pub struct JobOrder {
    /// The bucket of the log files.
    pub bucket: String,
    /// The beginning of their keys.
    pub prefix: String,
    /// Only objects created after this time.
    pub created_after: Option<Timestamp>,
    /// Only objects created before this time.
    pub created_before: Option<Timestamp>,
    /// The function that looks at each object.
    pub function_arn: String,
    /// The role that S3 Batch Operations assumes.
    pub role_arn: String,
    /// The bucket for the completion report.
    pub report_bucket: String,
    /// Whether findings alert as well.
    pub alert: bool,
    /// Tells this request from others, so that its repetition creates no second job.
    pub token: String,
}

/// How far a job has come.
#[derive(Clone, Debug)]
pub struct JobState {
    /// Its status in AWS's words, such as `Active`.
    pub status: String,
    /// Objects that it has found.
    pub total: u64,
    /// Objects that the function has handled.
    pub succeeded: u64,
    /// Objects that failed.
    pub failed: u64,
    /// Seconds that it has run.
    pub elapsed_seconds: u64,
    /// Why it failed.
    pub failures: Vec<String>,
    /// When it was created.
    pub created_at: Option<Timestamp>,
    /// Where its completion report is to be.
    pub report: Option<JobReport>,
}

/// Where the completion report of a job is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JobReport {
    /// Its bucket.
    pub bucket: String,
    /// The key of its manifest, which names its parts.
    pub manifest_key: String,
}

/// S3 Batch Operations has refused a request, in the service's own words.
#[derive(Debug, thiserror::Error)]
#[error("{action}")]
pub struct JobError {
    action: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl JobOrder {
    /// Whether a job looks at an object of this key.
    pub fn wants(key: &str) -> bool {
        key.contains(KEY_PART) && key.ends_with(KEY_ENDING)
    }
}

impl BatchJobs {
    pub(super) fn new(shared: &SdkConfig) -> Self {
        Self {
            control: aws_sdk_s3control::Client::new(shared),
            sts: aws_sdk_sts::Client::new(shared),
        }
    }

    /// Returns the account of the credentials, to which jobs belong.
    ///
    /// # Errors
    ///
    /// There are no credentials, or they are not valid.
    pub async fn account(&self) -> Result<String, JobError> {
        let identity = self.sts.get_caller_identity().send().await;
        let identity = identity.map_err(|error| refused("sts:GetCallerIdentity", error))?;
        identity.account.ok_or_else(|| JobError {
            action: "sts:GetCallerIdentity",
            source: "the answer names no account".into(),
        })
    }

    /// Creates a job that waits for [`BatchJobs::confirm`]. Returns its id.
    ///
    /// # Errors
    ///
    /// S3 does not take the order, or does not allow `s3:CreateJob` or `iam:PassRole`.
    pub async fn create(&self, account: &str, order: &JobOrder) -> Result<String, JobError> {
        let invalid = |error: aws_sdk_s3control::error::BuildError| JobError {
            action: "s3:CreateJob",
            source: error.into(),
        };
        let mode = if order.alert { "alert" } else { "report" };
        let invoke = LambdaInvokeOperation::builder()
            .function_arn(&order.function_arn)
            .invocation_schema_version("2.0")
            .user_arguments("mode", mode)
            .build();
        let names = KeyNameConstraint::builder()
            .set_match_any_prefix((!order.prefix.is_empty()).then(|| vec![order.prefix.clone()]))
            .match_any_substring(KEY_PART)
            .match_any_suffix(KEY_ENDING)
            .build();
        let filter = JobManifestGeneratorFilter::builder()
            .set_created_after(order.created_after.map(seconds))
            .set_created_before(order.created_before.map(seconds))
            .key_name_constraint(names)
            .build();
        let arn = |bucket: &str| format!("arn:{}:s3:::{bucket}", partition(&order.role_arn));
        let objects = S3JobManifestGenerator::builder()
            .source_bucket(arn(&order.bucket))
            .filter(filter)
            .enable_manifest_output(false)
            .build()
            .map_err(invalid)?;
        let report = Report::builder()
            .enabled(true)
            .bucket(arn(&order.report_bucket))
            .expected_bucket_owner(account)
            .prefix(REPORT_PREFIX)
            .format(JobReportFormat::ReportCsv20180820)
            // The findings stand in the results of tasks that succeed.
            .report_scope(JobReportScope::AllTasks)
            .build();
        let created = self
            .control
            .create_job()
            .account_id(account)
            .client_request_token(&order.token)
            .confirmation_required(true)
            .description(format!("billing-watch backfill, mode {mode}"))
            .priority(PRIORITY)
            .role_arn(&order.role_arn)
            .operation(JobOperation::builder().lambda_invoke(invoke).build())
            .manifest_generator(JobManifestGenerator::S3JobManifestGenerator(objects))
            .report(report)
            .send()
            .await
            .map_err(|error| refused("s3:CreateJob", error))?;
        created.job_id.ok_or_else(|| JobError {
            action: "s3:CreateJob",
            source: "the answer names no job".into(),
        })
    }

    /// Lets a job run that waits for it.
    ///
    /// # Errors
    ///
    /// The job does not wait, or S3 does not allow `s3:UpdateJobStatus`.
    pub async fn confirm(&self, account: &str, job: &str) -> Result<(), JobError> {
        let update = self.control.update_job_status();
        let update = update.account_id(account).job_id(job);
        let update = update.requested_job_status(RequestedJobStatus::Ready);
        let updated = update.send().await;
        updated
            .map(|_| ())
            .map_err(|error| refused("s3:UpdateJobStatus", error))
    }

    /// Returns how far a job has come.
    ///
    /// # Errors
    ///
    /// There is no such job in the account and Region, or S3 does not allow `s3:DescribeJob`.
    pub async fn describe(&self, account: &str, job: &str) -> Result<JobState, JobError> {
        let describe = self.control.describe_job().account_id(account).job_id(job);
        let described = describe.send().await;
        let described = described.map_err(|error| refused("s3:DescribeJob", error))?;
        let descriptor = described.job.ok_or_else(|| JobError {
            action: "s3:DescribeJob",
            source: "the answer describes no job".into(),
        })?;
        Ok(state(job, descriptor))
    }
}

fn state(id: &str, job: JobDescriptor) -> JobState {
    let count = |number: Option<i64>| {
        let number = number.and_then(|number| u64::try_from(number).ok());
        number.unwrap_or_default()
    };
    let progress = job.progress_summary.as_ref();
    let timers = progress.and_then(|progress| progress.timers.as_ref());
    let failures = job.failure_reasons.unwrap_or_default().into_iter();
    let report = job.report.and_then(|report| {
        Some(JobReport {
            bucket: bucket_of(&report.bucket?).to_owned(),
            manifest_key: format!("{}/job-{id}/manifest.json", report.prefix?),
        })
    });
    JobState {
        status: job
            .status
            .map_or_else(|| "Unknown".to_owned(), |status| status.to_string()),
        total: count(progress.and_then(|progress| progress.total_number_of_tasks)),
        succeeded: count(progress.and_then(|progress| progress.number_of_tasks_succeeded)),
        failed: count(progress.and_then(|progress| progress.number_of_tasks_failed)),
        elapsed_seconds: count(timers.and_then(|timers| timers.elapsed_time_in_active_seconds)),
        failures: failures
            .map(|failure| {
                let part = |text: Option<String>| text.unwrap_or_default();
                let (code, reason) = (part(failure.failure_code), part(failure.failure_reason));
                format!("{code}: {reason}")
            })
            .collect(),
        created_at: job
            .creation_time
            .and_then(|time| Timestamp::from_second(time.secs()).ok()),
        report,
    }
}

/// The name in a bucket's ARN.
fn bucket_of(arn: &str) -> &str {
    arn.rsplit(':').next().unwrap_or(arn)
}

/// The partition of an ARN, such as `aws`.
fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).unwrap_or("aws")
}

fn seconds(time: Timestamp) -> DateTime {
    DateTime::from_secs(time.as_second())
}

fn refused<E>(action: &'static str, error: SdkError<E>) -> JobError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    JobError {
        action,
        source: RequestError(error).into(),
    }
}
