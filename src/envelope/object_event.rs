//! One object in each of the ways in which AWS names it.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{EnvelopeError, ObjectEvent, ObjectEventKind, ObjectRef, text};

pub(super) fn from_s3_record(record: &Value) -> Result<ObjectEvent, EnvelopeError> {
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
    Ok(ObjectEvent {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key,
            version_id: text(object, "versionId").map(str::to_owned),
        },
        size_bytes: object.get("size").and_then(Value::as_u64),
        created_at: time(record, "eventTime"),
        kind: match name.split(':').next() {
            Some("ObjectCreated") => ObjectEventKind::Created,
            Some("ObjectRemoved" | "LifecycleExpiration") => {
                ObjectEventKind::Removed(name.to_owned())
            }
            _ => ObjectEventKind::Other(name.to_owned()),
        },
    })
}

pub(super) fn from_event_bridge(event: &Value) -> Result<ObjectEvent, EnvelopeError> {
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
    Ok(ObjectEvent {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: text(object, "version-id").map(str::to_owned),
        },
        size_bytes: object.get("size").and_then(Value::as_u64),
        created_at: time(event, "time"),
        kind: match name {
            "Object Created" => ObjectEventKind::Created,
            "Object Deleted" => ObjectEventKind::Removed(name.to_owned()),
            _ => ObjectEventKind::Other(name.to_owned()),
        },
    })
}

pub(super) fn created(bucket: &str, key: &str, version_id: Option<&str>) -> ObjectEvent {
    ObjectEvent {
        object: ObjectRef {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version_id: version_id.map(str::to_owned),
        },
        size_bytes: None,
        created_at: None,
        kind: ObjectEventKind::Created,
    }
}

/// Decodes `application/x-www-form-urlencoded`; `None` unless the result is UTF-8 and not empty.
pub(super) fn form_decode(encoded: &str) -> Option<String> {
    let spaced = encoded.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

fn time(value: &Value, name: &str) -> Option<Timestamp> {
    text(value, name)?.parse().ok()
}
