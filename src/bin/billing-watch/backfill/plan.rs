//! `backfill plan`: how many log files a job would look at, what it would cost, and how long it would take.

use std::collections::BTreeSet;

use billing_watch::{
    aws::{JobOrder, ListedObject},
    cloudtrail::LogFileName,
};
use indicatif::{HumanBytes, HumanCount};
use jiff::Timestamp;

use super::{duration, place_of};
use crate::{
    Status, Stop,
    arguments::PlanArguments,
    output,
    progress::Progress,
    s3::{self, Place},
    selection::Selection,
};

// Dollars in us-east-1, from https://aws.amazon.com/s3/pricing/ and https://aws.amazon.com/lambda/pricing/.
const JOB: f64 = 0.25;
const MILLION_TASKS: f64 = 1.00;
const MILLION_GETS: f64 = 0.40;
const MILLION_INVOCATIONS: f64 = 0.20;
/// 256 MB for [`TASK_MS`], at 0.0000166667 dollars for a GB-second.
const MILLION_DURATIONS: f64 = 0.17;
/// What the function needs for one small log file (docs/performance.md).
const TASK_MS: u64 = 41;

/// What the listing has shown.
#[derive(Default)]
struct Plan {
    files: u64,
    bytes: u64,
    /// Log files that can't be read before they are restored.
    archived: u64,
    /// Objects that are no log files of the dates.
    others: u64,
    accounts: BTreeSet<String>,
    regions: BTreeSet<String>,
}

pub(super) fn plan(options: &PlanArguments) -> Result<Status, Stop> {
    let place = place_of(&options.place)?;
    let (from, to) = options.dates.span(Timestamp::now())?;
    let selection = Selection {
        from,
        to,
        ..Selection::default()
    };
    let runtime = s3::runtime().map_err(|error| Stop::usage(error.to_string()))?;
    let mut progress = Progress::new(options.quiet, None);
    let mut plan = Plan::default();
    runtime.block_on(async {
        let store = s3::store().await;
        let mut after = None;
        loop {
            let page = store
                .page(&place.bucket, &place.prefix, after.as_deref())
                .await;
            let page = page.map_err(|error| {
                Stop::incomplete(format!(
                    "s3://{}/{}: {}",
                    place.bucket,
                    place.prefix,
                    s3::in_words(&error)
                ))
            })?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for object in &page {
                plan.add(object, &selection);
                progress.add(&object.key, 0);
            }
        }
    })?;
    progress.finish();
    output::print(&plan.text(&place, from, to, options.concurrency))?;
    Ok(Status::Done)
}

impl Plan {
    fn add(&mut self, object: &ListedObject, selection: &Selection) {
        let name = LogFileName::parse(&object.key);
        let wanted =
            |name: &LogFileName| selection.wants_file(name) && JobOrder::wants(&object.key);
        let Some(name) = name.filter(wanted) else {
            self.others += 1;
            return;
        };
        self.files += 1;
        self.bytes += object.size.unwrap_or_default();
        self.archived += u64::from(object.is_archived);
        self.accounts.insert(name.account);
        self.regions.insert(name.region);
    }

    fn text(
        &self,
        place: &Place,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        concurrency: u16,
    ) -> String {
        let moment = |time: Option<Timestamp>, none: &str| {
            time.map_or_else(|| none.to_owned(), |time| time.to_string())
        };
        #[expect(clippy::cast_precision_loss, reason = "a rounded number of dollars")]
        let millions = self.files as f64 / 1e6;
        let each = MILLION_TASKS + MILLION_GETS + MILLION_INVOCATIONS + MILLION_DURATIONS;
        let dollars = JOB + millions * each;
        let time = self.files * TASK_MS / 1000 / u64::from(concurrency);
        let mut lines = vec![
            ("Bucket", place.bucket.clone()),
            ("Prefix", place.prefix.clone()),
            (
                "Dates",
                format!(
                    "{} to {}",
                    moment(from, "the first"),
                    moment(to, "the last")
                ),
            ),
            (
                "Log files",
                format!(
                    "{} ({}) of {} and {}, by their names",
                    HumanCount(self.files),
                    HumanBytes(self.bytes),
                    output::counted(self.accounts.len(), "account"),
                    output::counted(self.regions.len(), "Region")
                ),
            ),
        ];
        if self.others > 0 {
            lines.push((
                "Left out",
                format!(
                    "{} objects, which are no log files of these dates",
                    HumanCount(self.others)
                ),
            ));
        }
        if self.archived > 0 {
            lines.push((
                "Archived",
                format!(
                    "{} log files are in Glacier or Deep Archive and would fail: restore them first",
                    HumanCount(self.archived)
                ),
            ));
        }
        lines.extend([
            ("Cost", format!("about {dollars:.2} dollars in us-east-1")),
            (
                "Time",
                format!(
                    "at least {}, with {concurrency} invocations at a time",
                    duration(time.max(1))
                ),
            ),
        ]);
        output::labelled(&lines)
    }
}
