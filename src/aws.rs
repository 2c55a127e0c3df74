//! The only code that knows the AWS SDK: S3 and SNS behind the pipeline's traits.

use std::{borrow::Cow, path::Path, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::{
    config::{RequestChecksumCalculation, ResponseChecksumValidation},
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use aws_sdk_sns::types::MessageAttributeValue;
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use bytes::Bytes;

use crate::{
    alert::{Alert, AttributeValue},
    config::{Config, RulesLocation},
    envelope::ObjectRef,
    pipeline::{AlertSink, LogBody, LogStore, SinkError, StoreError, StoreErrorKind},
    rules::{RuleFile, RuleProblem},
};

/// Largest rule file that is read, in bytes.
const RULE_FILE_BYTES: usize = 256 << 10;
/// Most rule files that are read.
const RULE_FILES: usize = 2_000;

/// Clients that share connections and credentials.
#[derive(Clone, Debug)]
pub struct Clients {
    s3: aws_sdk_s3::Client,
    sns: aws_sdk_sns::Client,
}

impl Clients {
    /// Clients as the environment configures them.
    pub async fn from_env(config: &Config) -> Self {
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(Duration::from_secs(3))
                    .read_timeout(Duration::from_secs(10))
                    .build(),
            )
            .load()
            .await;
        Self::new(&shared, config)
    }

    fn new(shared: &SdkConfig, config: &Config) -> Self {
        // CloudTrail's gzip files carry a checksum of their own; a second one only costs time.
        let s3 = aws_sdk_s3::config::Builder::from(shared)
            .force_path_style(config.path_style_s3)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        // SNS wants to be called in the topic's own Region.
        let sns = aws_sdk_sns::config::Builder::from(shared)
            .region(Region::new(config.alert_region.clone()))
            .build();
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3),
            sns: aws_sdk_sns::Client::from_conf(sns),
        }
    }

    /// S3 as the place of log files.
    pub fn log_store(&self) -> S3LogStore {
        S3LogStore {
            client: self.s3.clone(),
        }
    }

    /// A topic as the place for alerts.
    pub fn alert_sink(&self, topic_arn: &str) -> SnsAlertSink {
        SnsAlertSink {
            client: self.sns.clone(),
            topic_arn: topic_arn.to_owned(),
        }
    }

    /// Reads the user's rules, in the order of their names; files that hold no text of a rule's
    /// length are told beside them.
    pub async fn rule_files(&self, location: &RulesLocation) -> Result<RuleFiles, RulesError> {
        let mut files = RuleFiles::default();
        match location {
            RulesLocation::Bundled => {}
            RulesLocation::Directory(directory) => {
                read_directory(Path::new(directory), &mut files)?;
            }
            RulesLocation::S3 { bucket, prefix } => {
                self.read_prefix(bucket, prefix, &mut files).await?;
            }
        }
        files.good.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    async fn read_prefix(
        &self,
        bucket: &str,
        prefix: &str,
        files: &mut RuleFiles,
    ) -> Result<(), RulesError> {
        // Without its slash a prefix would take in its neighbours.
        let slash = if prefix.is_empty() || prefix.ends_with('/') {
            ""
        } else {
            "/"
        };
        let prefix = format!("{prefix}{slash}");
        let place = format!("s3://{bucket}/{prefix}");
        let mut pages = self
            .s3
            .list_objects_v2()
            .bucket(bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| RulesError::new(&place, &told(&error)))?;
            for object in page.contents() {
                let key = object.key().unwrap_or_default();
                if !is_rule_name(key) {
                    continue;
                }
                let name = format!("s3://{bucket}/{key}");
                let size = object.size().unwrap_or_default();
                if usize::try_from(size).is_ok_and(|size| size > RULE_FILE_BYTES) {
                    files.reject_long(&name);
                    continue;
                }
                if files.good.len() == RULE_FILES {
                    return Err(RulesError::new(&place, "more than 2,000 rule files"));
                }
                let bytes = self.read_object(bucket, key).await;
                files.add(
                    name.clone(),
                    bytes.map_err(|error| RulesError::new(&name, &error))?,
                );
            }
        }
        Ok(())
    }

    async fn read_object(&self, bucket: &str, key: &str) -> Result<Vec<u8>, String> {
        let object = self.s3.get_object().bucket(bucket).key(key).send().await;
        let body = object.map_err(|error| told(&error))?.body;
        let bytes = body.collect().await.map_err(|error| chain(&error))?;
        Ok(bytes.to_vec())
    }
}

/// The user's rule files, and those that can't be any.
#[derive(Debug, Default)]
pub struct RuleFiles {
    /// Text of a rule's length.
    pub good: Vec<RuleFile>,
    /// What was left out, and why.
    pub rejected: Vec<RuleProblem>,
}

impl RuleFiles {
    fn add(&mut self, name: String, bytes: Vec<u8>) {
        if bytes.len() > RULE_FILE_BYTES {
            return self.reject_long(&name);
        }
        match String::from_utf8(bytes) {
            Ok(text) => self.good.push(RuleFile { name, text }),
            Err(_) => self.reject(&name, "is not UTF-8", "save it as UTF-8"),
        }
    }

    fn reject_long(&mut self, name: &str) {
        self.reject(
            name,
            "is longer than 256 KiB",
            "split it into rules, one a file",
        );
    }

    fn reject(&mut self, name: &str, problem: &str, remedy: &str) {
        self.rejected.push(RuleProblem {
            file: name.to_owned(),
            line: None,
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}

/// The user's rules could not be read at all.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("failed to read rules from {place}: {cause}; correct RULES_URI or what may read it")]
pub struct RulesError {
    place: String,
    cause: String,
}

impl RulesError {
    fn new(place: &str, cause: &str) -> Self {
        Self {
            place: place.to_owned(),
            cause: cause.to_owned(),
        }
    }
}

fn read_directory(directory: &Path, files: &mut RuleFiles) -> Result<(), RulesError> {
    let place = directory.display().to_string();
    let unreadable = |error: std::io::Error| RulesError::new(&place, &error.to_string());
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.display().to_string();
        if path.is_dir() {
            read_directory(&path, files)?;
        } else if is_rule_name(&name) {
            let bytes =
                std::fs::read(&path).map_err(|error| RulesError::new(&name, &error.to_string()))?;
            files.add(name, bytes);
        }
    }
    Ok(())
}

fn is_rule_name(name: &str) -> bool {
    [".yml", ".yaml"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Log files in S3.
#[derive(Clone, Debug)]
pub struct S3LogStore {
    client: aws_sdk_s3::Client,
}

/// The body of an object in S3.
#[derive(Debug)]
pub struct S3Body {
    stream: ByteStream,
}

impl LogStore for S3LogStore {
    type Body = S3Body;

    async fn open(&self, object: &ObjectRef) -> Result<S3Body, StoreError> {
        let output = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .send()
            .await
            .map_err(|error| store_error(&error))?;
        Ok(S3Body {
            stream: output.body,
        })
    }
}

impl LogBody for S3Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.stream.try_next().await.map_err(|error| StoreError {
            kind: StoreErrorKind::Other,
            message: chain(&error),
        })
    }
}

/// A topic of SNS.
#[derive(Clone, Debug)]
pub struct SnsAlertSink {
    client: aws_sdk_sns::Client,
    topic_arn: String,
}

impl AlertSink for SnsAlertSink {
    async fn publish(&self, alert: &Alert) -> Result<String, SinkError> {
        let mut request = self
            .client
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(&alert.subject)
            .message(&alert.text);
        for attribute in &alert.attributes {
            let (data_type, value) = match &attribute.value {
                AttributeValue::One(value) => ("String", Cow::Borrowed(value.as_str())),
                AttributeValue::Many(values) => (
                    "String.Array",
                    Cow::Owned(serde_json::json!(values).to_string()),
                ),
            };
            let value = MessageAttributeValue::builder()
                .data_type(data_type)
                .string_value(value)
                .build()
                .map_err(|error| SinkError {
                    message: chain(&error),
                    retryable: false,
                })?;
            request = request.message_attributes(attribute.name, value);
        }
        match request.send().await {
            Ok(output) => Ok(output.message_id.unwrap_or_default()),
            Err(error) => Err(SinkError {
                retryable: is_retryable(&error),
                message: told(&error),
            }),
        }
    }
}

fn store_error<E>(error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.code().unwrap_or_default();
    let message = error.message().unwrap_or_default();
    let kind = match code {
        "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NotFound" => StoreErrorKind::Missing,
        // S3 says the same for both; only the message tells which permission is missing.
        "AccessDenied" if message.to_ascii_lowercase().contains("kms") => {
            StoreErrorKind::KeyAccessDenied
        }
        "AccessDenied" => StoreErrorKind::AccessDenied,
        code if code.starts_with("KMS.") => StoreErrorKind::KeyAccessDenied,
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => {
            StoreErrorKind::Throttled
        }
        _ => StoreErrorKind::Other,
    };
    StoreError {
        kind,
        message: told(error),
    }
}

/// Whether the service did not say a definite no.
fn is_retryable<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(refusal) => {
            let throttled = error.code().is_some_and(|code| code.contains("Throttl"));
            throttled || refusal.raw().status().is_server_error()
        }
        _ => true,
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
