//! The one orchestration: from an envelope's objects to alerts, a report, and what failed.

mod failure;
mod job;
mod object;
mod send;
mod time;
mod told;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use crate::{
    alert::{self, Alert, escape::clean},
    cloudtrail::{ScanLimits, Sources},
    envelope::{DeliveryOutcome, Envelope, ErrorType, Failure, ObjectRef},
    ledger::{Ledger, LedgerStore},
    report::Report,
    rules::{Level, RulePack},
};
use job::distinct_jobs;
use object::ObjectOutcome;
use time::{TimeLeft, before};
use told::Told;

/// Objects of one envelope that are scanned at the same time.
const CONCURRENT_OBJECTS: usize = 4;

/// How long a sink or a ledger store may take over one request, with all its own tries. Before
/// the deadline, room is kept for two of them: the alert, and its entry in the ledger.
pub const REQUEST_TIME: Duration = Duration::from_secs(6);

/// Where objects are read: S3, or a folder.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LogStore {
    /// An object's body on its way in.
    type Body: LogBody;

    /// Begins to read an object.
    async fn open(&self, object: &ObjectRef) -> Result<Self::Body, StoreError>;
}

/// An object's body, chunk by chunk.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LogBody {
    /// The next chunk; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError>;
}

/// Where alerts go: SNS, or standard output.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait AlertSink {
    /// Hands an alert over; returns the id under which it was accepted.
    async fn publish(&self, alert: &Alert) -> Result<String, SinkError>;

    /// How many subscribers are sure to get alerts, and how many have not confirmed that they want to.
    async fn subscribers(&self) -> Result<Subscribers, SinkError>;
}

/// Who hears of alerts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Subscribers {
    /// Those that get alerts.
    pub confirmed: u64,
    /// Those that have been asked and have not answered.
    pub pending: u64,
}

/// An object could not be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What kind of trouble it is.
    pub kind: StoreErrorKind,
    /// The cause, as the store tells it.
    pub message: String,
}

/// Kinds of trouble with reading an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreErrorKind {
    /// The object, its version or its bucket does not exist.
    Missing,
    /// The function may not read the object.
    AccessDenied,
    /// The function may not use the key that the object is encrypted with.
    KeyAccessDenied,
    /// The function may not assume the role that log files are read through.
    RoleRefused,
    /// Too many requests.
    Throttled,
    /// Anything else, such as a broken connection.
    Other,
}

/// An alert could not be handed over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SinkError {
    /// The cause, as the sink tells it.
    pub message: String,
    /// Whether another try may succeed without anybody's help.
    pub retryable: bool,
}

impl SinkError {
    fn no_answer() -> Self {
        Self {
            message: "no answer before the invocation's deadline".to_owned(),
            retryable: true,
        }
    }
}

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
    pack: RulePack,
    sources: Arc<Sources>,
    settings: Settings,
    clock: C,
}

impl<S: LogStore, A: AlertSink, L: LedgerStore, C: Fn() -> Timestamp> Pipeline<S, A, L, C> {
    /// A pipeline over its store, sink and ledger; `clock` tells the time.
    pub fn new(
        store: S,
        sink: A,
        ledger: Ledger<L>,
        pack: RulePack,
        settings: Settings,
        clock: C,
    ) -> Self {
        Self {
            sources: Arc::new(pack.sources()),
            store,
            sink,
            ledger,
            pack,
            settings,
            clock,
        }
    }

    /// Handles every object of `envelope`, as far as time allows.
    ///
    /// Failures are in the outcomes, one for each delivery, and in the report.
    pub async fn handle(
        &self,
        envelope: &Envelope,
        invocation: &Invocation,
    ) -> (Report, Vec<DeliveryOutcome>) {
        let (jobs, jobs_of_delivery) = distinct_jobs(envelope);
        let time = &TimeLeft::new(invocation.deadline, (self.clock)());
        let mut numbered: Vec<(usize, ObjectOutcome)> = stream::iter(jobs.iter().enumerate())
            .map(|(number, job)| async move {
                (
                    number,
                    object::handle(self, job, &invocation.id, time).await,
                )
            })
            .buffer_unordered(CONCURRENT_OBJECTS)
            .collect()
            .await;
        numbered.sort_by_key(|(number, _)| *number);
        let mut report = Report::default();
        for (_, outcome) in &numbered {
            report.add(&outcome.report);
        }
        let mut outcomes = Vec::with_capacity(envelope.deliveries.len());
        for (delivery, jobs) in envelope.deliveries.iter().zip(jobs_of_delivery) {
            let mut outcome = DeliveryOutcome::default();
            for problem in &delivery.problems {
                report.envelope_problems += 1;
                let message = problem.to_string();
                tracing::error!(delivery = %clean(&delivery.id, 128), problem = %message, "part of the envelope not understood");
                outcome.failures.push(Failure {
                    error_type: ErrorType::UnknownEnvelope,
                    message,
                });
            }
            let mut told = Told::default();
            for number in jobs {
                let object = &numbered[number].1;
                outcome.failures.extend(object.failure.clone());
                told.extend(&object.told);
            }
            outcome.told = told.to_string();
            outcomes.push(outcome);
        }
        if envelope.is_self_test() {
            let failure = self.self_test(time, &mut report).await.err();
            for outcome in &mut outcomes {
                outcome.failures.extend(failure.clone());
            }
        }
        (report, outcomes)
    }

    /// Sends the self-test's alert; that it was accepted says nothing unless somebody listens.
    async fn self_test(&self, time: &TimeLeft, report: &mut Report) -> Result<(), Failure> {
        let now = || (self.clock)();
        let alert = alert::self_test(now());
        let sent = before(time.end(), now(), self.sink.publish(&alert)).await;
        let tested = match sent.unwrap_or_else(|| Err(SinkError::no_answer())) {
            Ok(_) => {
                report.alerts += 1;
                let subscribers = before(time.end(), now(), self.sink.subscribers()).await;
                failure::of_subscribers(subscribers.unwrap_or_else(|| Err(SinkError::no_answer())))
            }
            Err(error) => Err(failure::of_sink("the self-test alert", &error)),
        };
        tested.inspect_err(|failure| {
            tracing::error!(
                error_type = %failure.error_type,
                error = failure.message,
                "the self-test failed"
            );
        })
    }
}
