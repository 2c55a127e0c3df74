//! Tasks of S3 Batch Operations, each of which names an object.

use serde_json::Value;

use super::{
    Delivery, Envelope, EnvelopeError, ObjectEvent, Reply,
    object_event::{created, form_decode},
    quote, text,
};

/// What a job of S3 Batch Operations wants with findings.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BatchMode {
    /// It does not say: as the function is configured.
    Unsaid,
    /// They stand in the results of the tasks only.
    Report,
    /// They alert as well.
    Alert,
}

pub(super) fn parse(value: &Value) -> Result<Envelope, EnvelopeError> {
    let deliveries = deliveries(value)?;
    if deliveries.iter().any(|delivery| delivery.id.is_empty()) {
        // Without an id the task can't be answered.
        return Err(EnvelopeError::Incomplete {
            shape: "S3 Batch task",
            part: "taskId",
        });
    }
    let schema_version = schema_version(value)?;
    Ok(Envelope {
        deliveries,
        reply: Reply::S3Batch {
            schema_version: schema_version.to_owned(),
            invocation_id: value["invocationId"].clone(),
        },
    })
}

/// A delivery for each task.
pub(super) fn deliveries(value: &Value) -> Result<Vec<Delivery>, EnvelopeError> {
    schema_version(value)?;
    let mode = mode(value)?;
    let each = tasks(value)?.iter().map(|task| {
        let mut delivery = Delivery {
            id: text(task, "taskId").unwrap_or_default().to_owned(),
            batch_task: Some(mode),
            ..Delivery::default()
        };
        match object(task) {
            Ok(object_event) => delivery.object_events.push(object_event),
            Err(problem) => delivery.problems.push(problem),
        }
        delivery
    });
    Ok(each.collect())
}

fn object(task: &Value) -> Result<ObjectEvent, EnvelopeError> {
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

fn schema_version(value: &Value) -> Result<&str, EnvelopeError> {
    text(value, "invocationSchemaVersion")
        .filter(|version| matches!(*version, "1.0" | "2.0"))
        .ok_or_else(|| EnvelopeError::Unknown {
            seen: format!(
                "S3 Batch Operations with schema {}",
                quote(&value["invocationSchemaVersion"].to_string())
            ),
        })
}

/// The mode in the arguments that the job's creator gave it. Schema 1.0 has none.
fn mode(value: &Value) -> Result<BatchMode, EnvelopeError> {
    let mode = &value["job"]["userArguments"]["mode"];
    match mode.as_str() {
        None if mode.is_null() => Ok(BatchMode::Unsaid),
        Some("report") => Ok(BatchMode::Report),
        Some("alert") => Ok(BatchMode::Alert),
        _ => Err(EnvelopeError::Unknown {
            seen: format!(
                "S3 Batch Operations with the user argument mode {}; known are report and alert",
                quote(&mode.to_string())
            ),
        }),
    }
}

fn tasks(value: &Value) -> Result<&Vec<Value>, EnvelopeError> {
    value["tasks"]
        .as_array()
        .filter(|tasks| !tasks.is_empty())
        .ok_or(EnvelopeError::Incomplete {
            shape: "S3 Batch invocation",
            part: "tasks list",
        })
}
