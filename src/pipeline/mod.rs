//! The pipeline: from an envelope's deliveries to alerts, a report, and what failed.
//!
//! Data moves through the stages in one direction, and each stage has a file: `plan`,
//! `record_source`, `triage`, `groups`, `sender`, `outcome`. Only this file knows them all.

mod canary;
mod claimed_finding;
mod coverage;
mod deadline;
mod direct;
mod failure;
mod groups;
mod outcome;
mod plan;
mod publisher;
mod record_source;
mod self_test;
mod sender;
mod sink;
mod task_result;
mod triage;
mod unconfirmed;

use std::sync::Arc;

use futures_util::{StreamExt, future::join, stream};
use jiff::Timestamp;
use tokio::sync::{Mutex, Semaphore};

use crate::{
    alert::{Escaped, Style},
    cloudtrail::{Candidates, Record, Scan, ScanLimits, Sources},
    envelope::{self, BatchMode, Delivery, DeliveryOutcome, Envelope, ErrorType, Failure},
    ledger::{Ledger, LedgerStore},
    report::Report,
    rules::{Level, RulePack},
};
use canary::Met;
use deadline::Deadline;
use direct::DirectEnd;
use failure::Origin;
use groups::Groups;
use outcome::JobOutcome;
use plan::{Action, Job, Plan, plan};
use publisher::{Publisher, SendContext};
use record_source::RecordSource;
use self_test::self_test;
use sender::Sender;
use task_result::TaskResult;
pub use triage::{Decision, Triage, Triaged};

pub use self::{
    canary::{CanaryCallError, CanarySettings, app_name},
    coverage::{CoverageSettings, LogListing, check_coverage},
    deadline::REQUEST_TIME,
    record_source::{LogBody, LogStore, StoreError, StoreErrorKind},
    sink::{AlertSink, SinkError, Subscriptions, Topic},
};

/// Objects of one envelope that are handled at the same time. Most are small: they wait for S3 and take
/// hardly any memory.
const CONCURRENT_OBJECTS: usize = 50;
/// Objects that are not small and are read at the same time. Each may take some megabytes.
const CONCURRENT_LARGE_FILES: usize = 2;
/// Messages that are published at the same time.
const CONCURRENT_MESSAGES: usize = 32;

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sources whose findings alert.
    pub watched: Sources,
    /// The topics, at least one.
    pub topics: Vec<Topic>,
    /// Whether findings of S3 Batch tasks alert whose job does not say.
    pub batch_alerts: bool,
    /// How alerts look.
    pub style: Style,
    /// Bounds of each scan.
    pub limits: ScanLimits,
    /// The canary; `None` if it is off.
    pub canary: Option<CanarySettings>,
}

/// One attempt at an envelope.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Tells this attempt from any other.
    pub id: String,
    /// When Lambda ends it; `None` if it has no timeout.
    pub deadline: Option<Timestamp>,
}

/// Everything that handles envelopes.
pub struct Pipeline<S, A, L, C> {
    store: S,
    sink: A,
    ledger: Ledger<L>,
    triage: Triage,
    /// The records that a scan hands to triage.
    candidates: Arc<Candidates>,
    topics: Vec<Topic>,
    batch_alerts: bool,
    style: Style,
    limits: ScanLimits,
    canary: Option<CanarySettings>,
    /// Has a permit for each large file that may be read at the same time.
    large_files: Semaphore,
    /// Has a permit for each message that may be published at the same time.
    publishing: Semaphore,
    /// Held by the alert of a backfill that is being published.
    backfill_turn: Mutex<()>,
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
            candidates: Arc::new(candidates(&pack, settings.canary.is_some())),
            triage: Triage {
                pack,
                watched: settings.watched,
                minimum_level: lowest_level(&settings.topics),
            },
            batch_alerts: settings.batch_alerts,
            topics: settings.topics,
            style: settings.style,
            limits: settings.limits,
            canary: settings.canary,
            large_files: Semaphore::new(CONCURRENT_LARGE_FILES),
            publishing: Semaphore::new(CONCURRENT_MESSAGES),
            backfill_turn: Mutex::new(()),
            clock,
        }
    }

    /// Handles every object and direct event of `envelope`, as far as time allows.
    ///
    /// Returns the report and one outcome for each delivery. A failure is counted in the report and
    /// stands in the outcome of each delivery that it concerns.
    pub async fn handle(
        &self,
        envelope: &Envelope,
        invocation: &Invocation,
    ) -> (Report, Vec<DeliveryOutcome>) {
        let deadline = &Deadline::new(invocation.deadline, &self.clock);
        let deliveries = &envelope.deliveries;
        log_problems(deliveries);
        let plan = plan(deliveries);
        let (jobs, direct) = join(
            self.handle_jobs(&plan.jobs, &invocation.id, deadline),
            self.handle_direct_events(&plan.direct_events, &invocation.id, deadline),
        )
        .await;
        let mut report = sum_reports(deliveries, &jobs);
        report.add(&direct.report);
        let rules = self.triage.pack.identity(deadline.now());
        let mut outcomes = delivery_outcomes(deliveries, &plan, &jobs, direct);
        match envelope.action() {
            Some(envelope::Action::SelfTest) => {
                let test = Box::pin(self_test(&self.sink, &self.topics, &rules, deadline)).await;
                report.messages += test.messages;
                for outcome in &mut outcomes {
                    outcome.failures.extend(test.failures.iter().cloned());
                }
            }
            Some(envelope::Action::Unconfirmed) => {
                let failure =
                    Box::pin(unconfirmed::check(&self.ledger, deadline, &mut report)).await;
                for outcome in &mut outcomes {
                    outcome.failures.extend(failure.clone());
                }
            }
            _ => {}
        }
        report.rules = Some(rules);
        (report, outcomes)
    }

    /// Judges the last canary and calls the next one through `call`. `nonce` is 16 hexadecimal digits.
    ///
    /// Returns what [`Pipeline::handle`] returns, for an envelope that asks for a canary.
    pub async fn canary(
        &self,
        nonce: &str,
        invocation: &Invocation,
        call: impl AsyncFnOnce(&str) -> Result<(), CanaryCallError>,
    ) -> (Report, Vec<DeliveryOutcome>) {
        let deadline = &Deadline::new(invocation.deadline, &self.clock);
        let (mut report, failure) = match &self.canary {
            Some(settings) => canary::send(&self.ledger, settings, nonce, deadline, call).await,
            None => (Report::default(), Some(failure::canary_off())),
        };
        if let Some(failure) = &failure {
            tracing::error!(
                error_type = %failure.error_type,
                error = failure.message,
                "the canary failed"
            );
        }
        report.rules = Some(self.triage.pack.identity(deadline.now()));
        let outcome = DeliveryOutcome {
            failures: failure.into_iter().collect(),
            ..DeliveryOutcome::default()
        };
        (report, vec![outcome])
    }

    /// Returns the nonce of a record that looks like a canary's.
    fn canary_nonce<'a>(&self, record: &'a Record) -> Option<&'a str> {
        self.canary.as_ref()?.nonce(record)
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

    async fn handle_job(
        &self,
        job: &Job,
        invocation: &str,
        deadline: &Deadline<'_, C>,
    ) -> JobOutcome {
        match &job.action {
            Action::Skip(skip) => JobOutcome::skipped(job, skip),
            Action::Scan { file_account } => {
                let context = SendContext {
                    origin: Origin::LogFile(&job.object_event.object),
                    file_account: file_account.as_deref(),
                    backfill: job.batch_task.is_some(),
                    style: &self.style,
                    invocation,
                };
                self.scan(job, context, deadline).await
            }
        }
    }

    /// Whether findings of a job stand in its result only.
    fn is_result_only(&self, job: &Job) -> bool {
        match job.batch_task {
            None | Some(BatchMode::Alert) => false,
            Some(BatchMode::Unsaid) => !self.batch_alerts,
            Some(BatchMode::Report) => true,
        }
    }

    /// The sender of one job.
    fn sender<'a>(
        &'a self,
        context: SendContext<'a>,
        deadline: &'a Deadline<'a, C>,
    ) -> Sender<'a, A, L, C> {
        Sender::new(Publisher {
            ledger: &self.ledger,
            sink: &self.sink,
            topics: &self.topics,
            publishing: &self.publishing,
            backfill_turn: &self.backfill_turn,
            deadline,
            context,
        })
    }

    /// Takes one object through the stages: each record is triaged, findings are grouped, groups are
    /// sent.
    async fn scan(
        &self,
        job: &Job,
        context: SendContext<'_>,
        deadline: &Deadline<'_, C>,
    ) -> JobOutcome {
        let scan = Scan::new(Arc::clone(&self.candidates), self.limits);
        let large_files = &self.large_files;
        let object = &job.object_event.object;
        let mut records = RecordSource::new(&self.store, object, scan, large_files, deadline);
        let mut groups = Groups::new(context.file_account.map(str::to_owned));
        let mut sender = self.sender(context, deadline);
        let mut outcome = JobOutcome::new();
        let result_only = self.is_result_only(job);
        let read = loop {
            let record = match records.next().await {
                Ok(Some(record)) => record,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if let Some(nonce) = self.canary_nonce(&record) {
                // On the heap: it is seldom needed.
                let met = Box::pin(canary::meet(&self.ledger, nonce, deadline));
                match met.await {
                    Ok(Met::Canary(delay)) => {
                        outcome.report.note_canary_delay(delay);
                        continue;
                    }
                    Ok(Met::Other) => {}
                    Err(failure) => {
                        outcome.fail(failure);
                        continue;
                    }
                }
            }
            let triaged = self.triage.decide(record, result_only, deadline.now());
            let Some(triaged) = triaged else { continue };
            outcome.count(&triaged, job.batch_task.is_some());
            if let Decision::Alert(finding) = triaged.decision
                && let Some(group) = groups.add(finding)
            {
                outcome.add(sender.send(vec![group]).await);
            }
        };
        outcome.add(sender.send(groups.into_rest()).await);
        outcome.add(sender.finish().await);
        // A large file's permit is held until here, because the sender may hold findings of it.
        outcome.finish(records.end(read), job, deadline.now())
    }
}

/// The lowest of the topics' levels; without a topic nothing could alert.
fn lowest_level(topics: &[Topic]) -> Level {
    let levels = topics.iter().map(|topic| topic.minimum_level);
    levels.min().unwrap_or(Level::Critical)
}

/// The records that some rule can match, and those of the canary.
fn candidates(pack: &RulePack, with_canary: bool) -> Candidates {
    let candidates = pack.candidates().clone();
    if with_canary {
        candidates.and(canary::SOURCE, canary::EVENT_NAME)
    } else {
        candidates
    }
}

/// Logs the parts of an envelope that have an unknown shape.
fn log_problems(deliveries: &[Delivery]) {
    for delivery in deliveries {
        for problem in &delivery.problems {
            tracing::error!(
                error_type = %ErrorType::UnknownEnvelope,
                delivery = %Escaped::name(&delivery.id, 128),
                %problem,
                "part of the envelope has an unknown shape"
            );
        }
    }
}

fn sum_reports(deliveries: &[Delivery], outcomes: &[JobOutcome]) -> Report {
    let mut sum = Report::default();
    for outcome in outcomes {
        sum.add(&outcome.report);
    }
    let problems = deliveries.iter().map(|delivery| delivery.problems.len());
    sum.envelope_problems += problems.sum::<usize>() as u64;
    sum
}

/// What became of each delivery: its own problems, and the outcomes of the jobs that it names and of its
/// direct events.
fn delivery_outcomes(
    deliveries: &[Delivery],
    plan: &Plan<'_>,
    outcomes: &[JobOutcome],
    mut direct: DirectEnd,
) -> Vec<DeliveryOutcome> {
    let mut all = Vec::with_capacity(deliveries.len());
    for (number, (delivery, jobs)) in deliveries.iter().zip(&plan.jobs_of_delivery).enumerate() {
        let problems = delivery.problems.iter().map(|problem| Failure {
            error_type: ErrorType::UnknownEnvelope,
            message: problem.to_string(),
        });
        let mut failures: Vec<Failure> = problems.collect();
        failures.extend(direct.failures.remove(&number).unwrap_or_default());
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
