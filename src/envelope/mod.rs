//! The JSON that invokes the function: which objects it names, which records it holds, and the reply that
//! its sender expects.
//!
//! Shapes: S3 notifications (direct, through SNS, SQS or `EventBridge`), CloudTrail's own SNS
//! notification, direct events of `EventBridge` and CloudWatch Logs, S3 Batch Operations tasks, Lambda's
//! on-failure records, and nestings of these.
//! `aws_lambda_events` serves the SQS reply. Its event types lose fields (the bucket and arguments of
//! S3 Batch 2.0, the S3 test event), so this module reads events from plain JSON.

mod batch;
mod direct_event;
mod failure;
mod object_event;
mod reply;

use std::{fmt, slice};

use jiff::Timestamp;
use serde_json::Value;

pub use batch::BatchMode;
pub use direct_event::{DirectEvent, DirectEventKind};
use direct_event::{from_event_bridge as direct_event, from_logs_subscription, is_direct_event};
pub use failure::{ErrorType, Failure, InvocationError, with_causes};
use object_event::{created, from_event_bridge, from_s3_record};

/// How deep envelopes may nest; five levels are seen in practice.
const NESTING: usize = 8;
/// What CloudTrail publishes to a topic to check its permission.
const CLOUDTRAIL_VALIDATION: &str = "CloudTrail validation message.";
/// The end of a FIFO queue's name; SQS requires it in lower case.
const FIFO_ENDING: &str = ".fifo";
/// Most characters of an unknown text that an error quotes.
const QUOTED_CHARACTERS: usize = 120;

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

/// What a delivery says about one S3 object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectEvent {
    /// The object.
    pub object: ObjectRef,
    /// The object's size in bytes, where the event has it.
    pub size_bytes: Option<u64>,
    /// When the object was created, where the event has it.
    pub created_at: Option<Timestamp>,
    /// What happened to the object.
    pub kind: ObjectEventKind,
}

/// What happened to an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ObjectEventKind {
    /// It was written.
    Created,
    /// It was removed; holds the name that AWS gave the event.
    Removed(String),
    /// Anything else, such as a restore; holds the name that AWS gave the event.
    Other(String),
}

/// The part of an envelope that is acknowledged by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// The SQS message id or S3 Batch task id; empty where the envelope is one delivery.
    pub id: String,
    /// What it says about objects.
    pub object_events: Vec<ObjectEvent>,
    /// Records that it holds itself.
    pub direct_events: Vec<DirectEvent>,
    /// Parts of an unknown shape. They fail the delivery; its objects are scanned all the same.
    pub problems: Vec<EnvelopeError>,
    /// What its job wants with findings, if its objects are tasks of S3 Batch Operations.
    pub batch_task: Option<BatchMode>,
}

/// A part of an envelope that is of no known shape.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// No known shape.
    #[error("unknown envelope: {seen}")]
    Unknown {
        /// What it holds, in words.
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
    /// The data of a CloudWatch Logs subscription is not gzip in base64, or not what such data holds.
    #[error("CloudWatch Logs subscription without usable data: {why}")]
    LogsData {
        /// Where, or why.
        why: String,
    },
    /// Nested deeper than AWS nests envelopes.
    #[error("envelopes nested more than {NESTING} deep")]
    TooDeep,
}

/// What became of one delivery.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeliveryOutcome {
    /// What failed; empty for success.
    pub failures: Vec<Failure>,
    /// What the `resultString` of an S3 Batch task says about its findings, after its failures. Other
    /// replies ignore it.
    pub result: String,
}

/// An envelope of a known shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The parts that are acknowledged by themselves.
    pub deliveries: Vec<Delivery>,
    reply: Reply,
}

/// What an envelope may ask for beside deliveries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// `{"action": "self-test"}`: publish a test alert, and look who is subscribed.
    SelfTest,
    /// `{"action": "canary"}`: judge the last canary, and call the next one.
    Canary,
    /// `{"action": "coverage"}`: look for accounts without log files.
    Coverage,
    /// `{"action": "unconfirmed"}`: look for direct events that no log file has confirmed.
    Unconfirmed,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Reply {
    /// The report as JSON, or an error.
    Report,
    /// The report, after an action that the envelope asks for.
    Action(Action),
    /// The ids of failed messages; of a FIFO queue, all messages from the first failed one on.
    SqsBatch { fifo: bool },
    /// A result for each task.
    S3Batch {
        schema_version: String,
        invocation_id: Value,
    },
}

impl Envelope {
    /// Parses an envelope of any known shape.
    ///
    /// A part of an unknown shape becomes a problem of its delivery. An envelope without any known
    /// part is an error.
    pub fn parse(value: &Value) -> Result<Self, EnvelopeError> {
        if value.get("invocationSchemaVersion").is_some() {
            return batch::parse(value);
        }
        if let Some(messages) = sqs_messages(value) {
            return Self::parse_sqs(messages);
        }
        let reply = action(value).map_or(Reply::Report, Reply::Action);
        let mut delivery = Delivery::default();
        delivery.collect(value, NESTING);
        let is_empty = delivery.object_events.is_empty() && delivery.direct_events.is_empty();
        if is_empty && !delivery.problems.is_empty() {
            return Err(delivery.problems.swap_remove(0));
        }
        Ok(Self {
            deliveries: vec![delivery],
            reply,
        })
    }

    /// Returns the action that the envelope asks for.
    pub fn action(&self) -> Option<Action> {
        match self.reply {
            Reply::Action(action) => Some(action),
            _ => None,
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
}

impl Delivery {
    /// Adds the objects and records of an envelope, and of the envelopes in it.
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
        } else if text(value, "Event") == Some("s3:TestEvent") || action(value).is_some() {
            // Nothing to do, by design.
        } else if text(value, "Type") == Some("Notification") {
            let message = text(value, "Message").ok_or(EnvelopeError::Incomplete {
                shape: "SNS notification",
                part: "Message",
            })?;
            self.collect_text(message, below);
        } else if is_direct_event(value) {
            self.direct_events.push(direct_event(value)?);
        } else if let Some(logs) = value.get("awslogs") {
            let data = text(logs, "data").ok_or(EnvelopeError::Incomplete {
                shape: "CloudWatch Logs subscription",
                part: "data",
            })?;
            let (events, problems) = from_logs_subscription(data)?;
            self.direct_events.extend(events);
            self.problems.extend(problems);
        } else if text(value, "source") == Some("aws.s3") {
            self.object_events.push(from_event_bridge(value)?);
        } else if value.get("s3ObjectKey").is_some() {
            self.collect_cloudtrail_notification(value)?;
        } else if value.get("requestContext").is_some()
            && let Some(payload) = value.get("requestPayload")
        {
            self.collect(payload, below);
        } else if value.get("invocationSchemaVersion").is_some() {
            for delivery in batch::deliveries(value)? {
                self.batch_task = delivery.batch_task;
                self.object_events.extend(delivery.object_events);
                self.problems.extend(delivery.problems);
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
            Some("aws:s3") => match from_s3_record(record) {
                Ok(object_event) => self.object_events.push(object_event),
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
        // AWS Config's delivery notifications have one key as a string. Its name then shows that it is
        // no log file:
        // https://docs.aws.amazon.com/config/latest/developerguide/example-configuration-history-notification.html
        let keys = match &value["s3ObjectKey"] {
            Value::Array(keys) if !keys.is_empty() => keys.as_slice(),
            key @ Value::String(_) => slice::from_ref(key),
            _ => return Err(incomplete("s3ObjectKey list")),
        };
        for key in keys {
            match key.as_str().filter(|key| !key.is_empty()) {
                Some(key) => self.object_events.push(created(bucket, key, None)),
                None => self.problems.push(incomplete("s3ObjectKey")),
            }
        }
        Ok(())
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

fn action(value: &Value) -> Option<Action> {
    match text(value, "action")? {
        "self-test" => Some(Action::SelfTest),
        "canary" => Some(Action::Canary),
        "coverage" => Some(Action::Coverage),
        "unconfirmed" => Some(Action::Unconfirmed),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str().filter(|text| !text.is_empty())
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
