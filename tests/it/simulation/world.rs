//! What the function sees of the world: objects, a topic and a ledger that answer late, wrongly,
//! twice, or not at all, as a seed decides.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use billing_watch::{
    alert::{Audience, Message},
    envelope::ObjectRef,
    ledger::{Entry, LedgerError, LedgerStore, Publication, VersionedEntry, WriteOutcome},
    pipeline::{
        AlertSink, LogBody, LogStore, REQUEST_TIME, SinkError, StoreError, StoreErrorKind,
        Subscriptions, Topic,
    },
    rules::Level,
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::support::topic;

/// Who forges direct events. A group of theirs holds no true record.
pub(super) const FORGER: &str = "forger";
/// What is added to the number of a record to name a forged one of the same id.
const FORGED: usize = 5_000;

/// A rule of the ledger that is broken on purpose, to see that it is found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum BrokenRule {
    Nothing,
    /// A living claim is taken over as if it had run out.
    TakesOverUnexpiredClaims,
    /// `If-Match` is not observed.
    ReplacesAnyVersion,
    /// `If-None-Match` is not observed.
    CreatesOverOthers,
    /// Whoever finds a living claim takes the record for alerted.
    TakesClaimedForAlerted,
    /// A claimed record counts as alerted at once.
    PublishesBeforeSending,
    /// Nobody writes that an alert was accepted.
    NeverRecords,
    /// A record of another content counts as the one that an entry is about.
    IgnoresContent,
    /// Whoever writes an entry forgets what other topics have accepted.
    ForgetsOtherTopics,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    None,
    /// Answered well, but seconds later.
    Slow,
    /// An error in place of the effect.
    Refused,
    /// Never arrives, and nobody answers.
    Lost,
    /// Takes place, and nobody answers.
    AnswerLost,
    /// Takes place after the caller has given up, or died.
    Late,
    /// Takes place, is sent again by the client's own retry, and the second answer counts.
    Twice,
}

/// Why a request has no answer.
enum NoAnswer {
    Refused,
    Unknown,
}

/// An alert that the topic has accepted.
pub(super) struct Accepted {
    pub(super) invocation: usize,
    /// ARN of the topic.
    pub(super) topic: String,
    pub(super) message_id: String,
    pub(super) records: BTreeSet<usize>,
    /// Whether the function heard of it.
    pub(super) answered: bool,
    /// Records whose entry the function could not write, by a fault or its own death.
    pub(super) unrecordable: BTreeSet<usize>,
}

pub(super) struct World {
    pub(super) rng: RefCell<fastrand::Rng>,
    start: Instant,
    fault_rate: f64,
    broken: BrokenRule,
    /// The one thing that goes wrong: the first invocation dies when it has been polled so often.
    pub(super) only_crash: Option<u64>,
    /// The number of records of a large schedule. Each comes in some log file and as a direct event, for each
    /// audience.
    pub(super) large: Option<usize>,
    /// The topics, and when the last of them refuses everything.
    pub(super) topics: Vec<Topic>,
    refusing: Option<(Duration, Duration)>,
    pub(super) objects: RefCell<BTreeMap<String, Vec<u8>>>,
    pub(super) entries: RefCell<BTreeMap<String, (Entry, u64)>>,
    versions: Cell<u64>,
    pub(super) accepted: RefCell<Vec<Accepted>>,
    /// Entries to which a faulty request is under way, by invocation and record: what another topic accepts
    /// meanwhile has to wait, perhaps for too long.
    busy_entries: RefCell<BTreeSet<(usize, usize)>>,
    /// How often faulty requests on an entry began or ended, by invocation and record.
    ledger_faults: RefCell<BTreeMap<(usize, usize), usize>>,
    /// When each invocation will be cut off.
    pub(super) deadlines: RefCell<BTreeMap<usize, Instant>>,
    /// Invocations with time enough for all that is kept in reserve.
    pub(super) long_timeouts: RefCell<BTreeSet<usize>>,
    /// The invocation whose code is running.
    pub(super) running: Cell<usize>,
    pub(super) violations: RefCell<Vec<String>>,
    trace: Option<RefCell<Vec<String>>>,
}

/// After this long nothing fails any more.
const TROUBLED: Duration = Duration::from_mins(4);

impl World {
    pub(super) fn new(mut rng: fastrand::Rng, broken: BrokenRule, traced: bool) -> Self {
        let rates = [0.0, 0.02, 0.1, 0.3];
        let fault_rate = rates[rng.usize(..rates.len())];
        let mut topics = vec![topic(Audience::People, Level::Medium)];
        // Most alerts are for machines, too, and some for chat.
        match rng.u8(..4) {
            0 => {}
            1 => topics.push(topic(Audience::Chat, Level::Medium)),
            _ => topics.push(topic(Audience::Machines, Level::Medium)),
        }
        let refusing = (topics.len() > 1 && rng.f64() < 0.3).then(|| {
            let from = Duration::from_secs(rng.u64(..=100));
            (from, from + Duration::from_secs(rng.u64(..=140)))
        });
        Self {
            topics,
            refusing,
            rng: RefCell::new(rng),
            start: Instant::now(),
            fault_rate,
            broken,
            only_crash: None,
            large: None,
            objects: RefCell::default(),
            entries: RefCell::default(),
            versions: Cell::new(0),
            accepted: RefCell::default(),
            busy_entries: RefCell::default(),
            ledger_faults: RefCell::default(),
            deadlines: RefCell::default(),
            long_timeouts: RefCell::default(),
            running: Cell::new(0),
            violations: RefCell::default(),
            trace: traced.then(RefCell::default),
        }
    }

    /// A world of many records and all topics, in which one request in ten goes wrong.
    pub(super) fn large(rng: fastrand::Rng, records: usize) -> Self {
        let audiences = [Audience::People, Audience::Chat, Audience::Machines];
        Self {
            fault_rate: 0.1,
            topics: audiences
                .map(|audience| topic(audience, Level::Medium))
                .into(),
            refusing: None,
            large: Some(records),
            ..Self::new(rng, BrokenRule::Nothing, false)
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        crate::support::now() + self.start.elapsed()
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.start.elapsed() < TROUBLED
    }

    pub(super) fn chance(&self, probability: f64) -> bool {
        self.rng.borrow_mut().f64() < probability
    }

    pub(super) fn number(&self, range: std::ops::RangeInclusive<u64>) -> u64 {
        self.rng.borrow_mut().u64(range)
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let line = format!(
                "{:>9.3} invocation {}: {}",
                self.start.elapsed().as_secs_f64(),
                self.running.get(),
                what()
            );
            trace.borrow_mut().push(line);
        }
    }

    pub(super) fn trace(&self) -> String {
        self.trace
            .as_ref()
            .map(|trace| trace.borrow().join("\n"))
            .unwrap_or_default()
    }

    pub(super) fn violate(&self, what: String) {
        self.note(|| format!("VIOLATION: {what}"));
        self.violations.borrow_mut().push(what);
    }

    /// The alerts on a topic that the ledger holds for records of an id.
    pub(super) fn publications(&self, record: usize, topic: &str) -> Vec<Publication> {
        let entries = self.entries.borrow();
        let prefix = entry_prefix(record);
        let entries = entries.iter().filter(|(key, _)| key.starts_with(&prefix));
        entries
            .filter_map(|(_, (entry, _))| entry.publication_on(topic).cloned())
            .collect()
    }

    /// Whether the ledger holds this very alert for a record.
    pub(super) fn has_recorded(&self, record: usize, accepted: &Accepted) -> bool {
        let publications = self.publications(record, &accepted.topic);
        publications
            .iter()
            .any(|publication| publication.message_id == accepted.message_id)
    }

    /// Whether a topic refuses everything for now.
    fn is_refused_by(&self, topic: &Topic) -> bool {
        let is_last = self.topics.last().is_some_and(|last| last.arn == topic.arn);
        let refusing = self
            .refusing
            .filter(|_| is_last && self.only_crash.is_none());
        refusing.is_some_and(|(from, to)| (from..to).contains(&self.start.elapsed()))
    }

    /// An invocation ended with its work undone: what it had not recorded by now, it can't any more.
    pub(super) fn died(&self, invocation: usize) {
        for accepted in self.accepted.borrow_mut().iter_mut() {
            if accepted.invocation == invocation {
                let unrecorded = accepted
                    .records
                    .iter()
                    .filter(|record| !self.has_recorded(**record, accepted));
                let unrecorded: BTreeSet<usize> = unrecorded.copied().collect();
                accepted.unrecordable.extend(unrecorded);
            }
        }
    }

    fn fault(&self) -> Fault {
        if self.only_crash.is_some() || !self.is_troubled() || !self.chance(self.fault_rate) {
            return Fault::None;
        }
        let faults = [
            Fault::Slow,
            Fault::Refused,
            Fault::Lost,
            Fault::AnswerLost,
            Fault::Late,
            Fault::Twice,
        ];
        faults[self.rng.borrow_mut().usize(..faults.len())]
    }

    /// A request that takes effect in the world whether or not its caller lives to see it.
    async fn request<T: 'static>(
        self: &Rc<Self>,
        fault: Fault,
        effect: impl Fn(&Self) -> T + 'static,
    ) -> Result<T, NoAnswer> {
        let milliseconds = |range| Duration::from_millis(self.number(range));
        let way = milliseconds(0..=10);
        let (tell, answer) = oneshot::channel();
        let arrival = match fault {
            Fault::Refused => {
                sleep(way).await;
                return Err(NoAnswer::Refused);
            }
            Fault::Lost => None,
            Fault::Slow => Some(milliseconds(500..=5_000)),
            Fault::Late => Some(REQUEST_TIME + milliseconds(0..=10_000)),
            Fault::None | Fault::AnswerLost | Fault::Twice => Some(way),
        };
        if let Some(arrival) = arrival {
            let world = Rc::clone(self);
            let again = (fault == Fault::Twice).then(|| milliseconds(0..=1_000));
            tokio::task::spawn_local(async move {
                sleep(arrival).await;
                let mut outcome = effect(&world);
                if let Some(again) = again {
                    sleep(again).await;
                    outcome = effect(&world);
                }
                let _ = tell.send(outcome);
            });
        }
        match fault {
            Fault::None | Fault::Slow | Fault::Twice => {
                let answer = answer.await.map_err(|_| NoAnswer::Unknown)?;
                sleep(milliseconds(0..=10)).await;
                Ok(answer)
            }
            _ => {
                // A connection that is reset, or one that is dead.
                let reset = fault == Fault::AnswerLost && self.chance(0.5);
                sleep(if reset { way * 2 } else { REQUEST_TIME }).await;
                Err(NoAnswer::Unknown)
            }
        }
    }

    fn write(&self, key: &str, etag: Option<&str>, entry: &Entry) -> WriteOutcome {
        let mut entries = self.entries.borrow_mut();
        let current = entries.get(key).map(|(_, version)| version.to_string());
        let unconditional = match etag {
            Some(_) => self.broken == BrokenRule::ReplacesAnyVersion,
            None => self.broken == BrokenRule::CreatesOverOthers,
        };
        if !unconditional && current.as_deref() != etag {
            return WriteOutcome::PreconditionFailed;
        }
        let version = self.versions.get() + 1;
        self.versions.set(version);
        entries.insert(key.to_owned(), (entry.clone(), version));
        WriteOutcome::Written(version.to_string())
    }

    fn has_long_timeout(&self) -> bool {
        self.long_timeouts.borrow().contains(&self.running.get())
    }

    /// How long the running invocation has to go.
    fn time_left(&self) -> Duration {
        let deadlines = self.deadlines.borrow();
        deadlines
            .get(&self.running.get())
            .map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            })
    }

    /// A request about one entry. `recorded` are the publications in it, if it is to record one.
    ///
    /// Only a publication that never took effect may excuse a second alert: all else the function has to
    /// cope with.
    async fn ledger_request<T: 'static>(
        self: &Rc<Self>,
        verb: &'static str,
        key: &str,
        recorded: &[Publication],
        effect: impl Fn(&Self) -> T + 'static,
    ) -> Result<T, LedgerError> {
        let fault = self.fault();
        self.note(|| format!("{verb} {key}: {fault:?}"));
        if !recorded.is_empty() && matches!(fault, Fault::Refused | Fault::Lost | Fault::Late) {
            self.excuse(key);
        }
        // The function copes with one fault of the ledger on an entry. After more of them, time may run out.
        if fault != Fault::None {
            self.count_ledger_fault(key);
        }
        let busy = (self.running.get(), id_of(key));
        if !recorded.is_empty() && fault != Fault::None {
            self.busy_entries.borrow_mut().insert(busy);
        }
        let answer = self.request(fault, effect).await;
        self.busy_entries.borrow_mut().remove(&busy);
        if fault != Fault::None {
            self.count_ledger_fault(key);
        }
        answer.map_err(|_| LedgerError::new("no answer".to_owned()))
    }

    /// Counts the beginning or the end of a faulty request on an entry, once a topic has accepted its alert.
    fn count_ledger_fault(&self, key: &str) {
        let (running, id) = (self.running.get(), id_of(key));
        let is_about = |one: &Accepted| one.records.iter().any(|record| record % FORGED == id);
        let accepted = self.accepted.borrow();
        let mut own = accepted.iter().filter(|one| one.invocation == running);
        if !own.any(is_about) {
            return;
        }
        drop(accepted);
        let mut faults = self.ledger_faults.borrow_mut();
        let count = faults.entry((running, id)).or_default();
        *count += 1;
        if *count > 2 {
            self.excuse(key);
        }
    }

    /// What topics have accepted of a record in this invocation cannot be recorded.
    fn excuse(&self, key: &str) {
        let id = id_of(key);
        for accepted in self.accepted.borrow_mut().iter_mut() {
            if accepted.invocation == self.running.get() {
                let records = accepted.records.iter().copied();
                let of_entry = records.filter(|record| record % FORGED == id);
                accepted.unrecordable.extend(of_entry);
            }
        }
    }
}

/// What the ledger's keys of a record of this world begin with.
pub(super) fn entry_prefix(record: usize) -> String {
    format!("2026/03/02/{}", event_id(record))
}

/// The event id of a record; a forged one has that of the true one.
pub(super) fn event_id(record: usize) -> String {
    format!("record-{:04}", record % FORGED)
}

/// The number of the forged record that has the id of a true one.
pub(super) fn forged(record: usize) -> usize {
    record + FORGED
}

/// The records that a text names.
pub(super) fn records_named(text: &str) -> BTreeSet<usize> {
    let offset = if text.contains(FORGER) { FORGED } else { 0 };
    text.match_indices("record-")
        .filter_map(|(at, word)| text.get(at + word.len()..at + word.len() + 4)?.parse().ok())
        .map(|id: usize| id + offset)
        .collect()
}

fn id_of(key: &str) -> usize {
    records_named(key).into_iter().next().unwrap()
}

/// The world as one instance of the function reaches it.
#[derive(Clone)]
pub(super) struct Instance(pub(super) Rc<World>);

pub(super) struct Body {
    world: Rc<World>,
    rest: Vec<Bytes>,
}

impl LogStore for Instance {
    type Body = Body;

    async fn open(&self, object: &ObjectRef) -> Result<Body, StoreError> {
        let world = &self.0;
        let fault = world.fault();
        world.note(|| format!("open {}: {fault:?}", object.key));
        let key = object.key.clone();
        let found = world.request(fault, move |world| {
            world.objects.borrow().get(&key).cloned()
        });
        let error = |kind, cause: &'static str| StoreError {
            kind,
            remedy: "",
            source: cause.into(),
        };
        match found.await {
            Ok(Some(bytes)) => {
                let pieces = usize::try_from(world.number(1..=3)).unwrap();
                let size = bytes.len().div_ceil(pieces).max(1);
                let mut rest: Vec<Bytes> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
                rest.reverse();
                Ok(Body {
                    world: Rc::clone(world),
                    rest,
                })
            }
            Ok(None) => Err(error(StoreErrorKind::Missing, "NoSuchKey")),
            Err(NoAnswer::Refused) => Err(error(StoreErrorKind::Throttled, "SlowDown")),
            Err(NoAnswer::Unknown) => Err(error(StoreErrorKind::Other, "no answer")),
        }
    }
}

impl LogBody for Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let fault = self.world.fault();
        match self.world.request(fault, |_| ()).await {
            Ok(()) => Ok(self.rest.pop()),
            Err(_) => Err(StoreError {
                kind: StoreErrorKind::Other,
                remedy: "",
                source: "connection reset".into(),
            }),
        }
    }
}

impl AlertSink for Instance {
    async fn publish(&self, topic: &Topic, message: &Message) -> Result<String, SinkError> {
        let world = &self.0;
        let fault = if world.is_refused_by(topic) {
            Fault::Refused
        } else {
            world.fault()
        };
        let invocation = world.running.get();
        let records = records_named(&message.body);
        let audience = topic.audience;
        world.note(|| format!("publish {records:?} for {audience:?}: {fault:?}"));
        let left = world.time_left();
        // With half a minute or more, room is kept for the slowest answers of SNS and the ledger.
        if left < 2 * REQUEST_TIME && world.has_long_timeout() {
            world.violate(format!(
                "an alert on {records:?} is begun with {left:?} to go"
            ));
        }
        let (named, arn) = (records.clone(), topic.arn.clone());
        let accept = move |world: &World| {
            let mut accepted = world.accepted.borrow_mut();
            let message_id = format!("message-{}", accepted.len());
            world.note(|| format!("accepted {named:?} as {message_id}"));
            accepted.push(Accepted {
                invocation,
                topic: arn.clone(),
                message_id: message_id.clone(),
                records: named.clone(),
                answered: false,
                unrecordable: BTreeSet::new(),
            });
            message_id
        };
        match world.request(fault, accept).await {
            Ok(message_id) => {
                let mut all = world.accepted.borrow_mut();
                for accepted in all.iter_mut().filter(|one| one.message_id == message_id) {
                    accepted.answered = true;
                    // An answer that took seconds may leave too little time to record it.
                    if world.time_left() < REQUEST_TIME {
                        accepted.unrecordable.clone_from(&records);
                    }
                    let busy = world.busy_entries.borrow();
                    let waits = |record: &&usize| busy.contains(&(invocation, **record % FORGED));
                    accepted.unrecordable.extend(records.iter().filter(waits));
                }
                Ok(message_id)
            }
            Err(no_answer) => Err(SinkError {
                retryable: matches!(no_answer, NoAnswer::Unknown) || world.chance(0.5),
                remedy: "",
                source: "not accepted".into(),
            }),
        }
    }

    async fn subscriptions(&self, _: &Topic) -> Result<Subscriptions, SinkError> {
        unreachable!("only a self-test asks")
    }
}

impl LedgerStore for Instance {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        let name = key.to_owned();
        let read = move |world: &World| world.entries.borrow().get(&name).cloned();
        let found = self.0.ledger_request("read", key, &[], read).await?;
        Ok(found.map(|(mut entry, version)| {
            match (self.0.broken, &mut entry.claim) {
                (BrokenRule::TakesOverUnexpiredClaims, Some(claim)) => {
                    claim.expires_at = Timestamp::UNIX_EPOCH;
                }
                (BrokenRule::TakesClaimedForAlerted, Some(claim))
                    if claim.expires_at > self.0.now() =>
                {
                    entry.published.extend(self.0.nothing_sent());
                }
                _ => {}
            }
            if self.0.broken == BrokenRule::IgnoresContent {
                entry.digest = None;
            }
            VersionedEntry {
                entry,
                etag: version.to_string(),
            }
        }))
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        let (name, mut entry) = (key.to_owned(), entry.clone());
        if self.0.broken == BrokenRule::PublishesBeforeSending {
            entry.published.extend(self.0.nothing_sent());
        }
        let write = move |world: &World| world.write(&name, None, &entry);
        self.0.ledger_request("create", key, &[], write).await
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        let (name, etag, mut entry) = (key.to_owned(), etag.to_owned(), entry.clone());
        let (verb, recorded) = if self.0.is_new_publication(key, &entry) {
            ("record", entry.published.clone())
        } else {
            ("replace", Vec::new())
        };
        match self.0.broken {
            BrokenRule::NeverRecords if verb == "record" => {
                return Ok(WriteOutcome::Written(etag));
            }
            BrokenRule::ForgetsOtherTopics => {
                let last = entry.published.pop();
                entry.published = last.into_iter().collect();
            }
            _ => {}
        }
        let write = move |world: &World| world.write(&name, Some(&etag), &entry);
        self.0.ledger_request(verb, key, &recorded, write).await
    }

    async fn list(&self, _: &str) -> Result<Vec<String>, LedgerError> {
        unreachable!("only the check on direct events lists")
    }
}

impl World {
    /// Whether an entry that is to be written holds a publication that the stored one does not.
    fn is_new_publication(&self, key: &str, entry: &Entry) -> bool {
        let entries = self.entries.borrow();
        let known = |publication: &Publication| {
            let stored = entries.get(key).map(|(stored, _)| stored);
            let stored = stored.and_then(|stored| stored.publication_on(&publication.topic));
            stored.is_some_and(|stored| stored.message_id == publication.message_id)
        };
        !entry.published.iter().all(known)
    }

    /// A publication on each topic that never took place.
    fn nothing_sent(&self) -> Vec<Publication> {
        let topics = self.topics.iter();
        topics
            .map(|topic| Publication {
                topic: topic.arn.clone(),
                message_id: "none".to_owned(),
                accepted_at: crate::support::now(),
                archive: None,
            })
            .collect()
    }
}
