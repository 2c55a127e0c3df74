//! Direct events: CloudTrail records that arrive inside the envelope, through `EventBridge` or a CloudWatch
//! Logs subscription.

use std::io::{self, BufReader, Read};

use base64::{engine::general_purpose::STANDARD, read::DecoderReader};
#[expect(clippy::disallowed_types, reason = "read through `Capped`")]
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::Value;

use super::{EnvelopeError, text};
use crate::cloudtrail::{CameBy, Record};

/// The end of the detail types of CloudTrail's events
/// (<https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html>). AWS writes
/// the one of sign-ins in two ways, and begins with `Amazon` in China.
const VIA_CLOUDTRAIL: &str = " via CloudTrail";
/// What the `source` of an AWS service begins with. Nobody else can send an event with such a source.
const AWS_SOURCE: &str = "aws.";
/// Most bytes of a subscription's data after inflating. Lambda's payload of 6 MB holds no more than this of
/// records that a filter pattern for billing sources lets through.
const LOGS_BYTES: u64 = 8 << 20;

/// A CloudTrail record that came inside the envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectEvent {
    /// The record.
    pub record: Record,
    /// The account that `EventBridge` says has sent it; `None` where nobody says so.
    pub sender: Option<String>,
    /// What it is.
    pub kind: DirectEventKind,
}

/// What a direct event is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DirectEventKind {
    /// A record of an API call, a console action, a sign-in or a service.
    Record,
    /// An Insights event.
    Insight,
    /// A network activity event.
    NetworkActivity,
}

/// What a CloudWatch Logs subscription sends.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    message_type: String,
    #[serde(default)]
    log_events: Vec<LogEvent>,
}

#[derive(Deserialize)]
struct LogEvent {
    message: String,
}

/// Whether an envelope is an event of `EventBridge` that CloudTrail has caused.
pub(super) fn is_direct_event(value: &Value) -> bool {
    text(value, "detail-type").is_some_and(|kind| kind.ends_with(VIA_CLOUDTRAIL))
}

pub(super) fn from_event_bridge(event: &Value) -> Result<DirectEvent, EnvelopeError> {
    let incomplete = |part| EnvelopeError::Incomplete {
        shape: "EventBridge event of CloudTrail",
        part,
    };
    let detail_type = text(event, "detail-type").ok_or_else(|| incomplete("detail-type"))?;
    let detail = event.get("detail").filter(|detail| detail.is_object());
    let detail = detail.ok_or_else(|| incomplete("detail"))?;
    let sender = text(event, "account").ok_or_else(|| incomplete("account"))?;
    text(event, "source")
        .filter(|source| source.starts_with(AWS_SOURCE))
        .ok_or_else(|| incomplete("source of AWS"))?;
    Ok(DirectEvent {
        record: Record::from_value(detail.clone()).with_path(CameBy::EventBridge),
        sender: Some(sender.to_owned()),
        kind: match detail_type.trim_end_matches(VIA_CLOUDTRAIL) {
            kind if kind.ends_with(" Insight") => DirectEventKind::Insight,
            kind if kind.ends_with(" Network Activity Event") => DirectEventKind::NetworkActivity,
            _ => DirectEventKind::Record,
        },
    })
}

/// The records in the data of a CloudWatch Logs subscription, and what could not be read of them.
pub(super) fn from_logs_subscription(
    data: &str,
) -> Result<(Vec<DirectEvent>, Vec<EnvelopeError>), EnvelopeError> {
    let unreadable = |error: serde_json::Error| EnvelopeError::LogsData {
        // The text of serde's error could quote a record; its position can't.
        why: if error.is_io() {
            error.to_string()
        } else {
            format!("line {} column {}", error.line(), error.column())
        },
    };
    #[expect(clippy::disallowed_types, reason = "read through `Capped`")]
    let inflated = MultiGzDecoder::new(DecoderReader::new(data.as_bytes(), &STANDARD));
    let capped = Capped {
        inner: inflated,
        left: LOGS_BYTES,
    };
    let subscription: Subscription =
        serde_json::from_reader(BufReader::new(capped)).map_err(unreadable)?;
    let (mut events, mut problems) = (Vec::new(), Vec::new());
    // `CONTROL_MESSAGE` checks whether somebody is there.
    if subscription.message_type == "DATA_MESSAGE" {
        for log_event in subscription.log_events {
            let parsed = Record::parse(log_event.message.as_bytes());
            if parsed.malformed || parsed.record.text("eventSource").is_none() {
                problems.push(EnvelopeError::Incomplete {
                    shape: "CloudWatch Logs subscription",
                    part: "CloudTrail record in a log event",
                });
                continue;
            }
            events.push(DirectEvent {
                record: parsed.record.with_path(CameBy::CloudWatchLogs),
                sender: None,
                kind: DirectEventKind::Record,
            });
        }
    }
    Ok((events, problems))
}

/// A reader that fails after so many bytes.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!(
                "more than {LOGS_BYTES} bytes after inflating; give the subscription a filter pattern on \
                 eventSource"
            ))
        })?;
        Ok(read)
    }
}
