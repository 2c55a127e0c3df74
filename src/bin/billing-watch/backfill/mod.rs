//! `billing-watch backfill`: years of log files, looked through by the function on S3 Batch Operations.

mod completion;
mod plan;
mod report;

use std::path::Path;

use billing_watch::aws::{BatchJobs, JobError, JobOrder, JobState};
use billing_watch::envelope::with_causes;
use clap::ColorChoice;
use jiff::{SignedDuration, Timestamp};

use crate::{
    Status, Stop,
    arguments::{BackfillCommand, StartArguments},
    output, s3,
    s3::Place,
    selection::{DAYS_AFTER, DAYS_BEFORE},
};

/// What a job that has ended is called.
const ENDED: [&str; 3] = ["Complete", "Failed", "Cancelled"];

/// Runs one of the commands.
pub(crate) fn run(command: &BackfillCommand, color: ColorChoice) -> Result<Status, Stop> {
    match command {
        BackfillCommand::Plan(options) => plan::plan(options),
        BackfillCommand::Start(options) => start(options),
        BackfillCommand::Status { job } => status(job),
        BackfillCommand::Report { job, result } => report::report(job, result, color),
    }
}

fn start(options: &StartArguments) -> Result<Status, Stop> {
    let jobs = Jobs::connect()?;
    if let Some(job) = &options.confirm {
        jobs.wait(jobs.client.confirm(&jobs.account, job))?;
        eprintln!(
            "Job {job} runs now. See how far it has come: billing-watch backfill status {job}"
        );
        return Ok(Status::Done);
    }
    let (Some(place), Some(function), Some(role), Some(report_bucket)) = (
        &options.place,
        &options.function,
        &options.role,
        &options.report_bucket,
    ) else {
        return Err(Stop::usage(
            "--function, --role or --report-bucket is missing",
        ));
    };
    let place = place_of(place)?;
    let now = Timestamp::now();
    let (from, to) = options.dates.span(now)?;
    let order = JobOrder {
        bucket: place.bucket,
        prefix: place.prefix,
        created_after: from.and_then(|from| from.checked_sub(days(DAYS_BEFORE)).ok()),
        created_before: to.and_then(|to| to.checked_add(days(DAYS_AFTER)).ok()),
        function_arn: function.clone(),
        role_arn: role.clone(),
        report_bucket: report_bucket.clone(),
        alert: options.alert,
        token: format!("billing-watch-{}", now.as_nanosecond()),
    };
    let job = jobs.wait(jobs.client.create(&jobs.account, &order))?;
    output::print(&format!("{job}\n"))?;
    eprintln!(
        "The job looks for the log files now, and then waits for you. See how many it has found:\n  \
         billing-watch backfill status {job}\nLet it run:\n  \
         billing-watch backfill start --confirm {job}"
    );
    Ok(Status::Done)
}

fn status(job: &str) -> Result<Status, Stop> {
    let jobs = Jobs::connect()?;
    let state = jobs.describe(job)?;
    output::print(&status_text(job, &state))?;
    Ok(match state.status.as_str() {
        "Failed" | "Cancelled" => Status::Incomplete,
        _ => Status::Done,
    })
}

fn status_text(job: &str, state: &JobState) -> String {
    let done = state.succeeded + state.failed;
    let mut lines = vec![
        ("Job", job.to_owned()),
        ("Status", state.status.clone()),
        (
            "Log files",
            format!(
                "{} found, {done} handled, {} of them failed",
                state.total, state.failed
            ),
        ),
    ];
    if let Some(created) = state.created_at {
        lines.insert(1, ("Created", created.to_string()));
    }
    if state.elapsed_seconds > 0 {
        let so_far = duration(state.elapsed_seconds);
        let todo = state.total.saturating_sub(done);
        let left = (state.elapsed_seconds * todo).checked_div(done);
        lines.push((
            "Time",
            match left {
                Some(left) if state.status == "Active" => {
                    format!("{so_far} so far, about {} left", duration(left))
                }
                _ => so_far,
            },
        ));
    }
    lines.extend(
        state
            .failures
            .iter()
            .map(|failure| ("Failure", failure.clone())),
    );
    let next = match state.status.as_str() {
        "Suspended" => Some(format!("billing-watch backfill start --confirm {job}")),
        status if ENDED.contains(&status) => Some(format!(
            "billing-watch backfill report {job} --report report.html"
        )),
        _ => None,
    };
    lines.extend(next.map(|command| ("Next", command)));
    output::labelled(&lines)
}

/// A time in words, to the minute.
fn duration(seconds: u64) -> String {
    match seconds.div_ceil(60) {
        minutes @ ..=59 => format!("{minutes} min"),
        minutes => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

fn place_of(path: &Path) -> Result<Place, Stop> {
    Place::parse(path).unwrap_or_else(|| {
        Err(Stop::usage(format!(
            "{} is no place in S3; write s3://bucket/prefix",
            path.display()
        )))
    })
}

/// S3 Batch Operations in the account of the credentials.
struct Jobs {
    runtime: tokio::runtime::Runtime,
    client: BatchJobs,
    account: String,
}

impl Jobs {
    fn connect() -> Result<Self, Stop> {
        let runtime = s3::runtime().map_err(|error| Stop::usage(error.to_string()))?;
        let client = runtime.block_on(s3::store()).batch_jobs();
        let account = runtime
            .block_on(client.account())
            .map_err(|error| stop(&error))?;
        Ok(Self {
            runtime,
            client,
            account,
        })
    }

    fn describe(&self, job: &str) -> Result<JobState, Stop> {
        self.wait(self.client.describe(&self.account, job))
    }

    fn wait<T>(&self, request: impl Future<Output = Result<T, JobError>>) -> Result<T, Stop> {
        self.runtime.block_on(request).map_err(|error| stop(&error))
    }
}

fn stop(error: &JobError) -> Stop {
    Stop::incomplete(with_causes(error))
}

fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_to_minutes() {
        assert_eq!(duration(1), "1 min");
        assert_eq!(duration(3_601), "1 h 1 min");
    }
}
