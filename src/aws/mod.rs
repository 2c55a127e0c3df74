//! The only code that uses the AWS SDK: S3 and SNS behind the traits of pipeline and ledger.

mod account;
mod account_names;
mod alert_sink;
#[cfg(feature = "cli")]
mod batch_jobs;
#[cfg(feature = "cli")]
mod history;
mod http;
mod ledger_store;
mod log_store;
mod request_error;
mod rule_files;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

pub use self::{
    alert_sink::SnsAlertSink,
    ledger_store::{FunctionLedgerStore, S3LedgerStore},
    log_store::{S3Body, S3LogStore},
    rule_files::{Cause, RuleFiles, RulesError},
};
#[cfg(feature = "cli")]
pub use self::{
    batch_jobs::{BatchJobs, JobError, JobOrder, JobReport, JobState},
    history::{ListedObject, S3History},
};
use crate::{config::Config, ledger::MemoryLedgerStore, pipeline::REQUEST_TIME};

/// How often the SDK attempts a request, the first attempt included.
const ATTEMPTS: u32 = 3;
/// How long one attempt may take until the head of its response has arrived.
const ATTEMPT_TIME: Duration = Duration::from_millis(2_500);
/// How long opening a connection may take. With 128 MB of memory, fifty TLS handshakes at a time take
/// almost a second.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// The longest wait before the SDK's next attempt.
const BACKOFF: Duration = Duration::from_secs(1);
/// The longest first wait; the SDK waits a random part of it.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// How long a body may deliver no bytes.
const STALL_TIME: Duration = Duration::from_secs(5);
/// The name that the log reader's sessions have in the other account's CloudTrail.
const READER_SESSION: &str = "billing-watch";

/// Clients that share connections and credentials.
#[derive(Clone, Debug)]
pub struct Clients {
    /// What all clients share, for those that are made when they are needed.
    shared: SdkConfig,
    s3: aws_sdk_s3::Client,
    /// S3 with the credentials for reading log files.
    logs: aws_sdk_s3::Client,
}

impl Clients {
    /// Makes clients for the function.
    pub async fn for_function(config: &Config) -> Self {
        Self::from_env(config.log_reader_role_arn.as_deref(), config.path_style_s3).await
    }

    /// Makes clients that the environment configures. Log files are read through `reader_role`, if there is
    /// one.
    async fn from_env(reader_role: Option<&str>, path_style_s3: bool) -> Self {
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http::client())
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(FIRST_BACKOFF)
                    .with_max_backoff(BACKOFF),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIME)
                    .operation_attempt_timeout(ATTEMPT_TIME)
                    .operation_timeout(REQUEST_TIME)
                    .build(),
            )
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .grace_period(STALL_TIME)
                    .build(),
            )
            .load()
            .await;
        let reader = match reader_role {
            Some(role) => Some(
                AssumeRoleProvider::builder(role)
                    .session_name(READER_SESSION)
                    .configure(&shared)
                    .build()
                    .await,
            ),
            None => None,
        };
        Self::new(&shared, path_style_s3, reader)
    }

    fn new(shared: &SdkConfig, path_style_s3: bool, reader: Option<AssumeRoleProvider>) -> Self {
        // CloudTrail's gzip files carry a checksum of their own; a second one only costs time.
        let s3 = aws_sdk_s3::config::Builder::from(shared)
            .force_path_style(path_style_s3)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        let s3_client = aws_sdk_s3::Client::from_conf(s3.clone());
        let logs = match reader {
            Some(reader) => {
                aws_sdk_s3::Client::from_conf(s3.to_builder().credentials_provider(reader).build())
            }
            None => s3_client.clone(),
        };
        Self {
            shared: shared.clone(),
            s3: s3_client,
            logs,
        }
    }

    /// Returns the store of log files.
    pub fn log_store(&self) -> S3LogStore {
        S3LogStore {
            client: self.logs.clone(),
        }
    }

    /// Returns the sink that publishes to topics of these Regions.
    ///
    /// SNS must be called in a topic's own Region. An alert that SNS was slow to answer must not be sent
    /// again: the SDK retries after an attempt's timeout, but not after the operation's.
    pub fn alert_sink<'a>(&self, regions: impl IntoIterator<Item = &'a str>) -> SnsAlertSink {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIME)
            .operation_timeout(REQUEST_TIME)
            .build();
        let client = |region: &str| {
            let config = aws_sdk_sns::config::Builder::from(&self.shared)
                .region(Region::new(region.to_owned()))
                .timeout_config(timeouts.clone())
                .build();
            aws_sdk_sns::Client::from_conf(config)
        };
        let regions = regions.into_iter();
        SnsAlertSink {
            clients: regions
                .map(|region| (region.to_owned(), client(region)))
                .collect(),
        }
    }

    /// Returns the ledger's store: the bucket, or this instance's memory without one.
    pub fn ledger_store(&self, bucket: Option<&str>) -> FunctionLedgerStore {
        match bucket {
            Some(bucket) => FunctionLedgerStore::S3(S3LedgerStore {
                client: self.s3.clone(),
                bucket: bucket.to_owned(),
            }),
            None => FunctionLedgerStore::Memory(MemoryLedgerStore::default()),
        }
    }
}
