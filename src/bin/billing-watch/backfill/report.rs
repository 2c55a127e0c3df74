//! `backfill report`: what a job has found, as `scan` shows it.

use std::sync::{Arc, Mutex};

use billing_watch::{cloudtrail::LogFileName, envelope::ObjectRef};
use clap::ColorChoice;

use super::{ENDED, Jobs, completion};
use crate::{
    Status, Stop,
    arguments::ResultArguments,
    collection::Collection,
    engine::{Engine, FileEnd, FileResult},
    progress::Progress,
    result, s3,
    scan::{lock, skip},
};

/// What the function says of an object without findings.
const NOTHING: &str = "no findings";

pub(super) fn report(
    job: &str,
    options: &ResultArguments,
    color: ColorChoice,
) -> Result<Status, Stop> {
    let engine = Arc::new(result::engine(options)?);
    let jobs = Jobs::connect()?;
    let state = jobs.describe(job)?;
    if !ENDED.contains(&state.status.as_str()) {
        return Err(Stop::usage(format!(
            "job {job} is {}, so it has no report yet; see `billing-watch backfill status {job}`",
            state.status
        )));
    }
    let report = state
        .report
        .ok_or_else(|| Stop::usage(format!("job {job} writes no completion report")))?;
    let mut collection = Collection::default();
    let mut progress = Progress::new(options.quiet, None);
    // Those with findings, and those that failed.
    let mut again: Vec<ObjectRef> = Vec::new();
    let mut handled = 0;
    let store = jobs.runtime.block_on(s3::store());
    completion::read(&jobs.runtime, &store, &report, |task| {
        handled += 1;
        if task.is_succeeded && task.message == NOTHING {
            result::take(clean(&engine, &task.object), &mut collection, &mut progress);
        } else {
            again.push(task.object);
        }
    })?;
    let taken = Mutex::new((&mut collection, &mut progress));
    s3::read_objects(&engine, again, options.jobs(), &|files: Vec<FileResult>| {
        let (collection, progress) = &mut *lock(&taken);
        for file in files {
            result::take(file, collection, progress);
        }
    });
    progress.finish();
    let missing = state.total.saturating_sub(handled);
    if missing > 0 || state.status != "Complete" {
        let status = &state.status;
        let message = format!("job {job} is {status}: {missing} log files were not handled");
        eprintln!("billing-watch: {message}");
        collection.summary.fail(missing.max(1), message);
    }
    result::conclude(options, &engine, collection, color)
}

/// What a scan would say of an object in which the function has found nothing.
fn clean(engine: &Engine, object: &ObjectRef) -> FileResult {
    let name = format!("s3://{}/{}", object.bucket, object.key);
    skip(engine, &name, None, false).unwrap_or_else(|| FileResult {
        log_file: LogFileName::parse(&name),
        ..FileResult::ended(name, FileEnd::Read)
    })
}
