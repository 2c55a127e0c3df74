//! The JSON that invokes the function, of whatever kind: which objects it names, and the reply that
//! its sender understands.
//!
//! Shapes: S3 notifications (direct, through SNS, SQS or `EventBridge`), CloudTrail's own SNS
//! notification, S3 Batch Operations tasks, Lambda's on-failure records, and nestings of these.
//! `aws_lambda_events` serves the SQS reply; its event types lose fields (S3 Batch 2.0's bucket and
//! arguments, the S3 test event), so events are read here from plain JSON.

use std::fmt;

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// How deep envelopes may nest; five levels are seen in practice.
const NESTING: usize = 8;
/// What CloudTrail writes to a topic to see whether it may.
const CLOUDTRAIL_VALIDATION: &str = "CloudTrail validation message.";
/// The end of a FIFO queue's name, which SQS demands in lower case.
const FIFO_ENDING: &str = ".fifo";
/// Most characters of an unknown text that an error quotes.
const QUOTED_CHARACTERS: usize = 120;
/// Most failures that an error message spells out.
const SPELLED_FAILURES: usize = 10;
/// S3 Batch Operations gets at most this many characters a task.
const RESULT_CHARACTERS: usize = 1000;

/// One S3 object, as an envelope names it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectRef {
    /// Bucket name, or the ARN of an access point.
    pub bucket: String,
    /// Key, decoded.
    pub key: String,
    /// Version, where the bucket keeps them.
    pub version_id: Option<String>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)?;
        match &self.version_id {
            Some(version) => write!(f, " (version {version})"),
            None => Ok(()),
        }
    }
}

/// An object with what the envelope tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mention {
    /// The object.
    pub object: ObjectRef,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// What happened to it.
    pub happening: Happening,
}

/// What an event says of its object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Happening {
    /// It was written: scan it.
    Created,
    /// It was removed, with the event's own name.
    Removed(String),
    /// Anything else, with the event's own name.
    Other(String),
}

/// One acknowledgeable part of an envelope.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Delivery {
    /// The SQS message id or S3 Batch task id; empty where the envelope is one delivery.
    pub id: String,
    /// The objects it names.
    pub mentions: Vec<Mention>,
    /// Parts that could not be understood: the delivery fails, its objects are scanned all the same.
    pub problems: Vec<EnvelopeError>,
    /// Whether its objects are tasks of an S3 Batch Operations job.
    pub batch_task: bool,
}

/// A part of an envelope that is of no known shape.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// Nothing in it tells what it is.
    #[error("unknown envelope: {seen}")]
    Unknown {
        /// What was seen instead.
        seen: String,
    },
    /// A known shape with a part missing or of the wrong kind.
    #[error("{shape} without a usable {part}")]
    Incomplete {
        /// The shape.
        shape: &'static str,
        /// The part.
        part: &'static str,
    },
    /// Nested beyond reason.
    #[error("envelopes nested more than {NESTING} deep")]
    TooDeep,
}

/// What became of one delivery.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeliveryOutcome {
    /// What failed; empty for success.
    pub failures: Vec<Failure>,
    /// What an S3 Batch task tells in its completion report.
    pub told: String,
}

/// One reason why a delivery fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Stable name, for alarms and runbooks.
    pub error_type: &'static str,
    /// Names the object and the cause.
    pub message: String,
    /// Whether another try may succeed without anybody's help.
    pub retryable: bool,
}

/// An invocation that failed, after every object was tried.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// Stable name: that of the failures if they share one, else `SeveralFailures`.
    pub error_type: &'static str,
    /// Every failure, as far as room allows.
    pub message: String,
}

/// An envelope that was understood, at least in part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Envelope {
    /// Its parts.
    pub deliveries: Vec<Delivery>,
    reply: Reply,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Reply {
    /// The report, or an error.
    Report,
    /// The report, after a test alert.
    SelfTest,
    /// The ids of failed messages; of a FIFO queue, all messages from the first failed one on.
    SqsBatch { fifo: bool },
    /// A result for each task.
    S3Batch {
        schema_version: String,
        invocation_id: Value,
    },
}

impl Envelope {
    /// Understands an envelope of any known shape.
    ///
    /// Parts of unknown shape become problems of their delivery; an envelope with nothing but
    /// problems is an error.
    pub fn parse(value: &Value) -> Result<Self, EnvelopeError> {
        if value.get("invocationSchemaVersion").is_some() {
            return Self::parse_s3_batch(value);
        }
        if let Some(messages) = sqs_messages(value) {
            return Self::parse_sqs(messages);
        }
        let reply = if is_self_test(value) {
            Reply::SelfTest
        } else {
            Reply::Report
        };
        let mut delivery = Delivery::default();
        delivery.collect(value, NESTING);
        if delivery.mentions.is_empty() && !delivery.problems.is_empty() {
            return Err(delivery.problems.swap_remove(0));
        }
        Ok(Self {
            deliveries: vec![delivery],
            reply,
        })
    }

    /// Whether the envelope asks for a test alert.
    pub fn is_self_test(&self) -> bool {
        self.reply == Reply::SelfTest
    }

    /// The reply to the sender; `outcomes` are those of the deliveries, in their order.
    pub fn respond(
        &self,
        outcomes: &[DeliveryOutcome],
        report: Value,
    ) -> Result<Value, InvocationError> {
        let parts = || self.deliveries.iter().zip(outcomes);
        match &self.reply {
            Reply::Report | Reply::SelfTest => {
                let failures: Vec<&Failure> = outcomes
                    .iter()
                    .flat_map(|outcome| &outcome.failures)
                    .collect();
                if failures.is_empty() {
                    Ok(report)
                } else {
                    Err(InvocationError::of(&failures))
                }
            }
            Reply::SqsBatch { fifo } => {
                let mut failed_before = false;
                let mut response = SqsBatchResponse::default();
                for (delivery, outcome) in parts() {
                    if !outcome.failures.is_empty() || (*fifo && failed_before) {
                        failed_before = true;
                        let mut failure = BatchItemFailure::default();
                        failure.item_identifier.clone_from(&delivery.id);
                        response.batch_item_failures.push(failure);
                    }
                }
                Ok(json!(response))
            }
            Reply::S3Batch {
                schema_version,
                invocation_id,
            } => {
                let results: Vec<Value> = parts()
                    .map(|(delivery, outcome)| task_result(&delivery.id, outcome))
                    .collect();
                Ok(json!({
                    "invocationSchemaVersion": schema_version,
                    "treatMissingKeysAs": "PermanentFailure",
                    "invocationId": invocation_id,
                    "results": results,
                }))
            }
        }
    }

    fn parse_sqs(messages: &[Value]) -> Result<Self, EnvelopeError> {
        let incomplete = |part| EnvelopeError::Incomplete {
            shape: "SQS message",
            part,
        };
        let mut fifo = false;
        let mut deliveries = Vec::with_capacity(messages.len());
        for message in messages {
            // Without an id the message can't be reported as failed by itself.
            let id = text(message, "messageId").ok_or_else(|| incomplete("messageId"))?;
            fifo |= text(message, "eventSourceARN").is_some_and(|arn| arn.ends_with(FIFO_ENDING));
            let mut delivery = Delivery {
                id: id.to_owned(),
                ..Delivery::default()
            };
            match text(message, "body") {
                Some(body) => delivery.collect_text(body, NESTING),
                None => delivery.problems.push(incomplete("body")),
            }
            deliveries.push(delivery);
        }
        Ok(Self {
            deliveries,
            reply: Reply::SqsBatch { fifo },
        })
    }

    fn parse_s3_batch(value: &Value) -> Result<Self, EnvelopeError> {
        let schema_version = batch_schema(value)?;
        let tasks = batch_tasks(value)?;
        let mut deliveries = Vec::with_capacity(tasks.len());
        for task in tasks {
            let id = text(task, "taskId").ok_or(EnvelopeError::Incomplete {
                shape: "S3 Batch task",
                part: "taskId",
            })?;
            let mut delivery = Delivery {
                id: id.to_owned(),
                ..Delivery::default()
            };
            delivery.collect_task(task);
            deliveries.push(delivery);
        }
        Ok(Self {
            deliveries,
            reply: Reply::S3Batch {
                schema_version: schema_version.to_owned(),
                invocation_id: value["invocationId"].clone(),
            },
        })
    }
}

impl Delivery {
    /// Adds the objects of an envelope, and of the envelopes in it.
    fn collect(&mut self, value: &Value, nesting: usize) {
        if let Err(problem) = self.try_collect(value, nesting) {
            self.problems.push(problem);
        }
    }

    fn try_collect(&mut self, value: &Value, nesting: usize) -> Result<(), EnvelopeError> {
        let below = nesting.checked_sub(1).ok_or(EnvelopeError::TooDeep)?;
        if let Some(records) = value.get("Records").and_then(Value::as_array)
            && !records.is_empty()
        {
            for record in records {
                self.collect_record(record, below);
            }
        } else if text(value, "Event") == Some("s3:TestEvent") || is_self_test(value) {
            // Nothing to do, by design.
        } else if text(value, "Type") == Some("Notification") {
            let message = text(value, "Message").ok_or(EnvelopeError::Incomplete {
                shape: "SNS notification",
                part: "Message",
            })?;
            self.collect_text(message, below);
        } else if text(value, "source") == Some("aws.s3") {
            self.mentions.push(event_bridge_mention(value)?);
        } else if value.get("s3ObjectKey").is_some() {
            self.collect_cloudtrail_notification(value)?;
        } else if value.get("requestContext").is_some()
            && let Some(payload) = value.get("requestPayload")
        {
            self.collect(payload, below);
        } else if value.get("invocationSchemaVersion").is_some() {
            batch_schema(value)?;
            for task in batch_tasks(value)? {
                self.collect_task(task);
            }
        } else {
            return Err(unknown(value));
        }
        Ok(())
    }

    fn collect_text(&mut self, message: &str, nesting: usize) {
        if message.trim() == CLOUDTRAIL_VALIDATION {
            return;
        }
        match serde_json::from_str(message) {
            Ok(value) => self.collect(&value, nesting),
            Err(_) => self.problems.push(EnvelopeError::Unknown {
                seen: format!("a text that is not JSON: {}", quote(message)),
            }),
        }
    }

    fn collect_record(&mut self, record: &Value, nesting: usize) {
        let service = text(record, "eventSource").or_else(|| text(record, "EventSource"));
        let incomplete = |shape, part| EnvelopeError::Incomplete { shape, part };
        match service {
            Some("aws:s3") => match s3_mention(record) {
                Ok(mention) => self.mentions.push(mention),
                Err(problem) => self.problems.push(problem),
            },
            Some("aws:sns") => match record.get("Sns").and_then(|sns| text(sns, "Message")) {
                Some(message) => self.collect_text(message, nesting),
                None => self.problems.push(incomplete("SNS record", "Sns.Message")),
            },
            Some("aws:sqs") => match text(record, "body") {
                Some(body) => self.collect_text(body, nesting),
                None => self.problems.push(incomplete("SQS message", "body")),
            },
            _ => self.problems.push(unknown(record)),
        }
    }

    fn collect_cloudtrail_notification(&mut self, value: &Value) -> Result<(), EnvelopeError> {
        let incomplete = |part| EnvelopeError::Incomplete {
            shape: "CloudTrail notification",
            part,
        };
        let bucket = text(value, "s3Bucket").ok_or_else(|| incomplete("s3Bucket"))?;
        let keys = value["s3ObjectKey"]
            .as_array()
            .filter(|keys| !keys.is_empty())
            .ok_or_else(|| incomplete("s3ObjectKey list"))?;
        for key in keys {
            match key.as_str().filter(|key| !key.is_empty()) {
                Some(key) => self.mentions.push(created(bucket, key, None)),
                None => self.problems.push(incomplete("s3ObjectKey")),
            }
        }
        Ok(())
    }

    fn collect_task(&mut self, task: &Value) {
        self.batch_task = true;
        match task_mention(task) {
            Ok(mention) => self.mentions.push(mention),
            Err(problem) => self.problems.push(problem),
        }
    }
}

impl InvocationError {
    fn of(failures: &[&Failure]) -> Self {
        let shared = failures
            .first()
            .map(|failure| failure.error_type)
            .filter(|first| failures.iter().all(|failure| failure.error_type == *first));
        let mut message = failures
            .iter()
            .take(SPELLED_FAILURES)
            .map(|failure| failure.message.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        if failures.len() > SPELLED_FAILURES {
            let more = failures.len() - SPELLED_FAILURES;
            message = format!("{message}; and {more} more");
        }
        Self {
            error_type: shared.unwrap_or("SeveralFailures"),
            message,
        }
    }
}

fn sqs_messages(value: &Value) -> Option<&[Value]> {
    let records = value.get("Records")?.as_array()?;
    let all = !records.is_empty()
        && records
            .iter()
            .all(|record| text(record, "eventSource") == Some("aws:sqs"));
    all.then_some(records)
}

fn is_self_test(value: &Value) -> bool {
    text(value, "action") == Some("self-test")
}

fn s3_mention(record: &Value) -> Result<Mention, EnvelopeError> {
    let incomplete = |part| EnvelopeError::Incomplete {
        shape: "S3 event",
        part,
    };
    let s3 = record.get("s3").ok_or_else(|| incomplete("s3"))?;
    let object = s3.get("object").ok_or_else(|| incomplete("s3.object"))?;
    let bucket = s3
        .get("bucket")
        .and_then(|bucket| text(bucket, "name"))
        .ok_or_else(|| incomplete("s3.bucket.name"))?;
    let key = text(object, "key")
        .and_then(form_decode)
        .ok_or_else(|| incomplete("s3.object.key"))?;
    let name = text(record, "eventName").ok_or_else(|| incomplete("eventName"))?;
    let name = name.strip_prefix("s3:").unwrap_or(name);
    Ok(Mention {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key,
            version_id: text(object, "versionId").map(str::to_owned),
        },
        size: object.get("size").and_then(Value::as_u64),
        created: time(record, "eventTime"),
        happening: match name.split(':').next() {
            Some("ObjectCreated") => Happening::Created,
            Some("ObjectRemoved" | "LifecycleExpiration") => Happening::Removed(name.to_owned()),
            _ => Happening::Other(name.to_owned()),
        },
    })
}

fn event_bridge_mention(event: &Value) -> Result<Mention, EnvelopeError> {
    let incomplete = |part| EnvelopeError::Incomplete {
        shape: "EventBridge event of S3",
        part,
    };
    let detail = event.get("detail").ok_or_else(|| incomplete("detail"))?;
    let object = detail
        .get("object")
        .ok_or_else(|| incomplete("detail.object"))?;
    let bucket = detail
        .get("bucket")
        .and_then(|bucket| text(bucket, "name"))
        .ok_or_else(|| incomplete("detail.bucket.name"))?;
    let key = text(object, "key").ok_or_else(|| incomplete("detail.object.key"))?;
    let name = text(event, "detail-type").ok_or_else(|| incomplete("detail-type"))?;
    Ok(Mention {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: text(object, "version-id").map(str::to_owned),
        },
        size: object.get("size").and_then(Value::as_u64),
        created: time(event, "time"),
        happening: match name {
            "Object Created" => Happening::Created,
            "Object Deleted" => Happening::Removed(name.to_owned()),
            _ => Happening::Other(name.to_owned()),
        },
    })
}

fn task_mention(task: &Value) -> Result<Mention, EnvelopeError> {
    let incomplete = |part| EnvelopeError::Incomplete {
        shape: "S3 Batch task",
        part,
    };
    // Schema 1.0 names the bucket's ARN, 2.0 its name. An access point's ARN stays whole.
    let bucket = text(task, "s3Bucket")
        .or_else(|| {
            let arn = text(task, "s3BucketArn")?;
            Some(arn.split_once(":::").map_or(arn, |(_, name)| name))
        })
        .ok_or_else(|| incomplete("s3Bucket or s3BucketArn"))?;
    let key = text(task, "s3Key")
        .and_then(form_decode)
        .ok_or_else(|| incomplete("s3Key"))?;
    Ok(created(bucket, &key, text(task, "s3VersionId")))
}

fn created(bucket: &str, key: &str, version_id: Option<&str>) -> Mention {
    Mention {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: version_id.map(str::to_owned),
        },
        size: None,
        created: None,
        happening: Happening::Created,
    }
}

fn batch_schema(value: &Value) -> Result<&str, EnvelopeError> {
    text(value, "invocationSchemaVersion")
        .filter(|version| matches!(*version, "1.0" | "2.0"))
        .ok_or_else(|| EnvelopeError::Unknown {
            seen: format!(
                "S3 Batch Operations with schema {}",
                quote(&value["invocationSchemaVersion"].to_string())
            ),
        })
}

fn batch_tasks(value: &Value) -> Result<&Vec<Value>, EnvelopeError> {
    value["tasks"]
        .as_array()
        .filter(|tasks| !tasks.is_empty())
        .ok_or(EnvelopeError::Incomplete {
            shape: "S3 Batch invocation",
            part: "tasks list",
        })
}

fn task_result(id: &str, outcome: &DeliveryOutcome) -> Value {
    let code = match outcome
        .failures
        .iter()
        .map(|failure| failure.retryable)
        .max()
    {
        None => "Succeeded",
        Some(true) => "TemporaryFailure",
        Some(false) => "PermanentFailure",
    };
    let failures = outcome
        .failures
        .iter()
        .map(|failure| failure.message.as_str());
    let told = (!outcome.told.is_empty()).then_some(outcome.told.as_str());
    let result: String = failures
        .chain(told)
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(RESULT_CHARACTERS)
        .collect();
    json!({"taskId": id, "resultCode": code, "resultString": result})
}

/// Decodes `application/x-www-form-urlencoded`; `None` unless the result is UTF-8 and not empty.
fn form_decode(encoded: &str) -> Option<String> {
    let spaced = encoded.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    text(value, name)?.parse().ok()
}

/// Names what was seen: an object by its keys, anything else by its kind.
fn unknown(value: &Value) -> EnvelopeError {
    let seen = match value {
        Value::Object(members) if members.is_empty() => "an empty object".to_owned(),
        Value::Object(members) => {
            let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
            names.sort_unstable();
            format!("an object with the keys {}", quote(&names.join(", ")))
        }
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Number(_) => "a number".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Null => "null".to_owned(),
    };
    EnvelopeError::Unknown { seen }
}

/// A quotation that can't break a log line: printable ASCII, and not long.
fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .take(QUOTED_CHARACTERS)
        .flat_map(char::escape_default)
        .collect();
    if text.chars().nth(QUOTED_CHARACTERS).is_some() {
        quoted.push('…');
    }
    format!("`{quoted}`")
}
