//! The completion report of a job: a manifest that names its parts, and in each part a line for each object.
//!
//! Format: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-examples-reports.html>.

use std::{
    io::{self, PipeReader},
    panic::resume_unwind,
    thread,
};

use billing_watch::{
    aws::{JobReport, S3History},
    envelope::ObjectRef,
    pipeline::{LogBody as _, LogStore as _},
};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::{Stop, s3};

/// The format of the parts, as `Report_CSV_20180820` has it: bucket, key, version, status, error code, HTTP
/// status, message.
const SCHEMA: &str = "Bucket, Key, VersionId, TaskStatus, ErrorCode, HTTPStatusCode, ResultMessage";

/// What became of one object.
pub(super) struct Task {
    pub(super) object: ObjectRef,
    pub(super) is_succeeded: bool,
    /// What the function has said of it.
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    report_schema: String,
    results: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Part {
    bucket: String,
    key: String,
}

/// Calls `take` with each task of a report.
pub(super) fn read(
    runtime: &Runtime,
    store: &S3History,
    report: &JobReport,
    mut take: impl FnMut(Task) + Send,
) -> Result<(), Stop> {
    let place = object(&report.bucket, &report.manifest_key);
    let mut text = Vec::new();
    copy(runtime, store, &place, &mut text)?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| Stop::usage(format!("{place} is no manifest of a report: {error}")))?;
    if manifest.report_schema != SCHEMA {
        return Err(Stop::usage(format!(
            "{place} has columns that this version does not know; update billing-watch"
        )));
    }
    for part in &manifest.results {
        let part = object(&part.bucket, &part.key);
        read_part(runtime, store, &part, &mut take)?;
    }
    Ok(())
}

/// Reads a part as it arrives: it may have millions of lines.
fn read_part(
    runtime: &Runtime,
    store: &S3History,
    part: &ObjectRef,
    take: &mut (impl FnMut(Task) + Send),
) -> Result<(), Stop> {
    let (reader, writer) = io::pipe().map_err(|error| Stop::usage(error.to_string()))?;
    thread::scope(|scope| {
        let parsed = scope.spawn(|| parse(reader, part, take));
        // The parser has the clearer error where it has stopped reading.
        let copied = copy(runtime, store, part, writer);
        let parsed = parsed.join().unwrap_or_else(|panic| resume_unwind(panic));
        parsed.and(copied)
    })
}

fn parse(reader: PipeReader, part: &ObjectRef, take: &mut impl FnMut(Task)) -> Result<(), Stop> {
    let mut lines = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(reader);
    for line in lines.records() {
        let line = line.map_err(|error| Stop::usage(format!("{part}: {error}")))?;
        let cell = |index| line.get(index).unwrap_or_default();
        let version = cell(2);
        take(Task {
            object: ObjectRef {
                bucket: cell(0).to_owned(),
                key: decoded(cell(1)),
                version_id: (!version.is_empty()).then(|| version.to_owned()),
            },
            is_succeeded: cell(3) == "succeeded",
            message: cell(6).to_owned(),
        });
    }
    Ok(())
}

/// Decodes a key of a report.
fn decoded(key: &str) -> String {
    let spaced = key.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Copies an object.
fn copy(
    runtime: &Runtime,
    store: &S3History,
    object: &ObjectRef,
    mut to: impl io::Write,
) -> Result<(), Stop> {
    let failed = |error: String| Stop::incomplete(format!("{object}: {error}"));
    runtime.block_on(async {
        let body = store.open(object).await;
        let mut body = body.map_err(|error| failed(s3::in_words(&error)))?;
        while let Some(chunk) = body
            .chunk()
            .await
            .map_err(|error| failed(s3::in_words(&error)))?
        {
            to.write_all(&chunk)
                .map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    })
}

fn object(bucket: &str, key: &str) -> ObjectRef {
    ObjectRef {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        version_id: None,
    }
}
