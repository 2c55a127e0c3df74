//! The pipeline: from an envelope's deliveries to alerts, a report, and what failed.
//!
//! Data moves through the stages in one direction, and each stage has a file: `plan`,
//! `record_source`, `triage`, `groups`, `sender`, `outcome`. Only this file knows them all.

mod deadline;
mod failure;
mod groups;
mod outcome;
mod plan;
mod record_source;
mod self_test;
mod sender;
mod sink;
mod task_result;
mod triage;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use crate::{
    alert::escape::clean,
    cloudtrail::{Scan, ScanLimits, Sources},
    envelope::{Delivery, DeliveryOutcome, Envelope, ErrorType, Failure},
    ledger::{Ledger, LedgerStore},
    report::Report,
    rules::{Level, RulePack},
};
use deadline::Deadline;
use groups::Groups;
use outcome::JobOutcome;
use plan::{Action, Job, Plan, plan};
use record_source::RecordSource;
use sender::{Origin, Sender};
use task_result::TaskResult;
use triage::Triage;

pub use self::{
    deadline::REQUEST_TIME,
    record_source::{LogBody, LogStore, StoreError, StoreErrorKind},
    sink::{AlertSink, SinkError, Subscribers},
};

/// Objects of one envelope that are scanned at the same time.
const CONCURRENT_OBJECTS: usize = 4;

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sources whose findings alert.
    pub watched: Sources,
    /// The lowest level that alerts.
    pub minimum_level: Level,
    /// Whether findings of S3 Batch tasks alert.
    pub batch_alerts: bool,
    /// Whether personal values are withheld from alerts.
    pub withhold_values: bool,
    /// Bounds of each scan.
    pub limits: ScanLimits,
}

/// One attempt at an envelope.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Tells this attempt from any other.
    pub id: String,
    /// When it will be cut off, if ever.
    pub deadline: Option<Timestamp>,
}

/// Everything that handles envelopes.
pub struct Pipeline<S, A, L, C> {
    store: S,
    sink: A,
    ledger: Ledger<L>,
    triage: Triage,
    /// The sources whose records a scan hands to triage.
    sources: Arc<Sources>,
    withhold_values: bool,
    limits: ScanLimits,
    clock: C,
}

impl<S: LogStore, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Pipeline<S, A, L, C> {
    /// A pipeline over its store, sink and ledger; `clock` returns the time.
    pub fn new(
        store: S,
        sink: A,
        ledger: Ledger<L>,
        pack: RulePack,
        settings: Settings,
        clock: C,
    ) -> Self {
        Self {
            store,
            sink,
            ledger,
            sources: Arc::new(pack.sources()),
            triage: Triage {
                pack,
                watched: settings.watched,
                minimum_level: settings.minimum_level,
                batch_alerts: settings.batch_alerts,
            },
            withhold_values: settings.withhold_values,
            limits: settings.limits,
            clock,
        }
    }

    /// Handles every object of `envelope`, as far as time allows.
    ///
    /// Returns the report and one outcome for each delivery; the failures are in both.
    pub async fn handle(
        &self,
        envelope: &Envelope,
        invocation: &Invocation,
    ) -> (Report, Vec<DeliveryOutcome>) {
        let deadline = &Deadline::new(invocation.deadline, &self.clock);
        let plan = plan(&envelope.deliveries);
        let outcomes = self.handle_jobs(&plan.jobs, &invocation.id, deadline).await;
        let mut report = sum_reports(&outcomes);
        let mut deliveries = delivery_outcomes(&envelope.deliveries, &plan, &outcomes, &mut report);
        if envelope.is_self_test() {
            self.self_test(deadline, &mut report, &mut deliveries).await;
        }
        (report, deliveries)
    }

    /// Handles jobs side by side. Returns their outcomes in the order of the jobs.
    async fn handle_jobs(
        &self,
        jobs: &[Job],
        invocation: &str,
        deadline: &Deadline<'_, C>,
    ) -> Vec<JobOutcome> {
        let mut numbered: Vec<(usize, JobOutcome)> = stream::iter(jobs.iter().enumerate())
            .map(|(number, job)| async move {
                // On the heap: it holds the client's whole request.
                let handled = Box::pin(self.handle_job(job, invocation, deadline));
                (number, handled.await)
            })
            .buffer_unordered(CONCURRENT_OBJECTS)
            .collect()
            .await;
        numbered.sort_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Takes one object through the stages: each record is triaged, findings are grouped, groups are
    /// sent.
    async fn handle_job(
        &self,
        job: &Job,
        invocation: &str,
        deadline: &Deadline<'_, C>,
    ) -> JobOutcome {
        let object = &job.object_event.object;
        let file_account = match &job.action {
            Action::Scan { file_account } => file_account.as_deref(),
            Action::Skip {
                reason,
                log_file_removed,
            } => return JobOutcome::skipped(job, reason, *log_file_removed),
        };
        let scan = Scan::new(Arc::clone(&self.sources), self.limits);
        let key_is_log_file = file_account.is_some();
        let mut records = RecordSource::new(&self.store, object, key_is_log_file, scan, deadline);
        let mut groups = Groups::new(file_account.map(str::to_owned));
        let origin = Origin {
            object,
            file_account,
            withhold_values: self.withhold_values,
            invocation,
        };
        let mut sender = Sender::new(&self.ledger, &self.sink, deadline, origin);
        let mut outcome = JobOutcome::new();
        let read = loop {
            match records.next().await {
                Ok(Some(record)) => {
                    let triaged = self.triage.decide(record, job.batch_task, deadline.now());
                    let finding =
                        triaged.and_then(|triaged| outcome.count(triaged, job.batch_task));
                    if let Some(group) = finding.and_then(|finding| groups.add(finding)) {
                        sender.send(vec![group]).await;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        sender.send(groups.into_rest()).await;
        outcome.add(sender.finish().await);
        outcome.report.fetched_bytes = records.fetched_bytes();
        outcome.report.expanded_bytes = records.expanded_bytes();
        outcome.finish(read, job, deadline.now())
    }

    async fn self_test(
        &self,
        deadline: &Deadline<'_, C>,
        report: &mut Report,
        deliveries: &mut [DeliveryOutcome],
    ) {
        let tested = Box::pin(self_test::self_test(&self.sink, deadline, report));
        if let Err(failure) = tested.await {
            tracing::error!(
                error_type = %failure.error_type,
                error = failure.message,
                "the self-test failed"
            );
            for delivery in deliveries {
                delivery.failures.push(failure.clone());
            }
        }
    }
}

fn sum_reports(outcomes: &[JobOutcome]) -> Report {
    let mut sum = Report::default();
    for outcome in outcomes {
        sum.add(&outcome.report);
    }
    sum
}

/// What became of each delivery: its own problems, and the outcomes of the jobs that it names.
fn delivery_outcomes(
    deliveries: &[Delivery],
    plan: &Plan,
    outcomes: &[JobOutcome],
    report: &mut Report,
) -> Vec<DeliveryOutcome> {
    let mut all = Vec::with_capacity(deliveries.len());
    for (delivery, jobs) in deliveries.iter().zip(&plan.jobs_of_delivery) {
        let mut failures = Vec::new();
        for problem in &delivery.problems {
            report.envelope_problems += 1;
            let message = problem.to_string();
            tracing::error!(
                delivery = clean(&delivery.id, 128),
                problem = message,
                "part of the envelope has an unknown shape"
            );
            failures.push(Failure {
                error_type: ErrorType::UnknownEnvelope,
                message,
            });
        }
        let mut result = TaskResult::default();
        for &job in jobs {
            failures.extend(outcomes[job].failure.clone());
            result.extend(&outcomes[job].result);
        }
        all.push(DeliveryOutcome {
            failures,
            result: result.to_string(),
        });
    }
    all
}
