//! The only code that knows the AWS SDK: S3 and SNS behind the traits of pipeline and ledger.

mod alert_sink;
mod ledger_store;
mod log_store;
mod rule_files;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_sdk_s3::{
    config::{
        RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};

pub use self::{
    alert_sink::SnsAlertSink,
    ledger_store::{FunctionLedger, S3Ledger},
    log_store::{S3Body, S3LogStore},
    rule_files::{RuleFiles, RulesError},
};
use crate::{config::Config, ledger::MemoryLedger, pipeline::REQUEST_TIME};

/// How often the SDK tries a request, all in all.
const ATTEMPTS: u32 = 3;
/// How long one try may take, to the head of its response.
const ATTEMPT_TIME: Duration = Duration::from_millis(2_500);
/// How long a connection may take to come about.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// The longest that the SDK waits before it tries again.
const BACKOFF: Duration = Duration::from_secs(1);
/// What the SDK's first wait is a random part of.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// How long a body may bring nothing.
const STALL_TIME: Duration = Duration::from_secs(5);
/// The name that the log reader's sessions have in the other account's CloudTrail.
const READER_SESSION: &str = "billing-watch";

/// Clients that share connections and credentials.
#[derive(Clone, Debug)]
pub struct Clients {
    s3: aws_sdk_s3::Client,
    /// S3 with the credentials that log files are read with.
    logs: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
}

impl Clients {
    /// Clients as the environment configures them.
    pub async fn from_env(config: &Config) -> Self {
        let shared = aws_config::defaults(BehaviorVersion::latest())
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
        let reader = match &config.log_reader_role_arn {
            Some(role) => Some(
                AssumeRoleProvider::builder(role)
                    .session_name(READER_SESSION)
                    .configure(&shared)
                    .build()
                    .await,
            ),
            None => None,
        };
        Self::new(&shared, config, reader)
    }

    fn new(shared: &SdkConfig, config: &Config, reader: Option<AssumeRoleProvider>) -> Self {
        // CloudTrail's gzip files carry a checksum of their own; a second one only costs time.
        let s3 = aws_sdk_s3::config::Builder::from(shared)
            .force_path_style(config.path_style_s3)
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
        // SNS wants to be called in the topic's own Region. What it was slow to answer must not be
        // sent again: the SDK takes the end of an attempt's time for a reason to try anew, the end
        // of the operation's for none.
        let sns = aws_sdk_sns::config::Builder::from(shared)
            .region(Region::new(config.alert_region.clone()))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIME)
                    .operation_timeout(REQUEST_TIME)
                    .build(),
            )
            .build();
        Self {
            s3: s3_client,
            logs,
            sns: aws_sdk_sns::Client::from_conf(sns),
        }
    }

    /// S3 as the place of log files.
    pub fn log_store(&self) -> S3LogStore {
        S3LogStore {
            client: self.logs.clone(),
        }
    }

    /// A topic as the place for alerts.
    pub fn alert_sink(&self, topic_arn: &str) -> SnsAlertSink {
        SnsAlertSink {
            client: self.sns.clone(),
            topic_arn: topic_arn.to_owned(),
        }
    }

    /// The ledger as the operator wants it.
    pub fn ledger_store(&self, bucket: Option<&str>) -> FunctionLedger {
        match bucket {
            Some(bucket) => FunctionLedger::S3(S3Ledger {
                client: self.s3.clone(),
                bucket: bucket.to_owned(),
            }),
            None => FunctionLedger::Memory(MemoryLedger::default()),
        }
    }
}

/// A service's own words, or else an error with all its causes, which the SDK's text leaves out.
/// The SDK's full context would bring response bodies into the log.
fn told<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => chain(error),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.contains(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}
