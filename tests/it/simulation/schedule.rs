//! One schedule: log files with shared records, their deliveries, and what must hold in the end.

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    rc::Rc,
    task::{self, Poll},
    time::Duration,
};

use billing_watch::{
    cloudtrail::{ScanLimits, Sources},
    envelope::Envelope,
    ledger::{ArchivedMessage, Ledger},
    pipeline::{Invocation, Pipeline, Settings},
    report::Report,
    rules::RulePack,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep},
};

use super::world::{
    Accepted, BrokenRule, FORGER, Instance, World, entry_prefix, event_id, forged, records_named,
};
use crate::support::{
    BUCKET, CONSOLE, assert_identities, direct_event, finance_role, log_file, log_key, noise,
    queue_event_in, queue_of, record, record_with, s3_event, style,
};

type SimulatedPipeline = Pipeline<Instance, Instance, Instance, Box<dyn Fn() -> Timestamp>>;

/// Instances of the function, each with a clock of its own.
const INSTANCES: usize = 3;
/// Tries of a delivery once nothing fails any more, after which it must have succeeded, or can't.
const HEALTHY_TRIES: usize = 4;

/// What a schedule came to, or many of them.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) schedules: u64,
    pub(super) records: u64,
    pub(super) alerts: u64,
    pub(super) invocations: u64,
    pub(super) crashes: u64,
    pub(super) failures: u64,
    pub(super) duplicates: u64,
    /// Findings of log files that had come as direct events before.
    pub(super) came_directly: u64,
    /// Alerts more than records needed, all within the one window.
    pub(super) excused: u64,
    pub(super) violations: Vec<String>,
    pub(super) trace: String,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.records += other.records;
        self.alerts += other.alerts;
        self.invocations += other.invocations;
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.duplicates += other.duplicates;
        self.came_directly += other.came_directly;
        self.excused += other.excused;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} schedules, {} records, {} alerts, {} invocations, of which {} crashed or were \
             cut off and {} failed; {} findings known as duplicates, {} came directly before; lost 0; \
             second alerts {} within the window, 0 outside",
            self.schedules,
            self.records,
            self.alerts,
            self.invocations,
            self.crashes,
            self.failures,
            self.duplicates,
            self.came_directly,
            self.excused
        )
    }
}

/// A log file or a direct event, and the records in it that must alert.
#[derive(Clone)]
struct Item {
    /// The key of the log file, or the id of the direct event's message.
    key: String,
    alerting: BTreeSet<usize>,
    /// Whether it can be handled whole at all.
    sound: bool,
    /// The record of a direct event.
    direct: Option<Value>,
}

/// Runs the schedule of a seed.
pub(super) fn run(seed: u64, pack: &RulePack, broken: BrokenRule, traced: bool) -> Outcome {
    run_world(seed, pack, |random| World::new(random, broken, traced))
}

/// Runs the schedule of a seed without any fault but that its first invocation dies at its
/// `polls`th poll.
pub(super) fn run_with_one_crash(seed: u64, pack: &RulePack, polls: u64) -> Outcome {
    run_world(seed, pack, |random| {
        let mut world = World::new(random, BrokenRule::Nothing, false);
        world.only_crash = Some(polls);
        world
    })
}

/// Runs a schedule of so many records, all of which come by both paths, with faults, for all three audiences.
pub(super) fn run_large(seed: u64, pack: &RulePack, records: usize) -> Outcome {
    run_world(seed, pack, |random| World::large(random, records))
}

fn run_world(seed: u64, pack: &RulePack, make: impl FnOnce(fastrand::Rng) -> World) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let world = Rc::new(make(fastrand::Rng::with_seed(seed)));
        let schedule = Rc::new(Schedule::new(Rc::clone(&world), pack));
        Schedule::deliver_all(&schedule).await;
        schedule.check_the_end();
        let mut outcome = schedule.outcome.take();
        outcome.schedules = 1;
        outcome.alerts = world.accepted.borrow().len() as u64;
        outcome.violations = world.violations.take();
        outcome.trace = world.trace();
        outcome
    }))
}

struct Schedule {
    world: Rc<World>,
    /// The instances, each with how far its clock is ahead.
    pipelines: Vec<(SimulatedPipeline, SignedDuration)>,
    /// The log files, and then the direct events.
    items: Vec<Item>,
    crash_rate: f64,
    outcome: std::cell::RefCell<Outcome>,
}

impl Schedule {
    fn new(world: Rc<World>, pack: &RulePack) -> Self {
        let mut items = make_files(&world);
        items.extend(make_direct_events(&world, &items));
        let pipelines = (0..INSTANCES)
            .map(|_| {
                let instance = Instance(Rc::clone(&world));
                let skew = SignedDuration::from_millis(world.number(0..=4_000).cast_signed());
                let clock = Rc::clone(&world);
                let settings = Settings {
                    watched: Sources::only([CONSOLE]),
                    topics: world.topics.clone(),
                    batch_alerts: false,
                    style: style(),
                    // Most of the time of a schedule would go into clearing a larger one.
                    limits: ScanLimits {
                        buffer_bytes: 4_096,
                        ..ScanLimits::default()
                    },
                    canary: None,
                };
                let clock: Box<dyn Fn() -> Timestamp> = Box::new(move || clock.now() + skew);
                let ledger = Ledger::new(instance.clone());
                let pack = pack.clone();
                let pipeline =
                    Pipeline::new(instance.clone(), instance, ledger, pack, settings, clock);
                (pipeline, skew)
            })
            .collect();
        let crash_rate = [0.0, 0.1, 0.4][usize::try_from(world.number(0..=2)).unwrap()];
        Self {
            world,
            pipelines,
            items,
            crash_rate,
            outcome: std::cell::RefCell::default(),
        }
    }

    /// Puts the items into envelopes, and delivers each envelope once to thrice at any time.
    async fn deliver_all(schedule: &Rc<Self>) {
        let world = &schedule.world;
        let is_direct = |item: &Item| item.direct.is_some();
        let mut deliveries = Vec::new();
        let mut kinds = schedule.items.chunk_by(|a, b| is_direct(a) == is_direct(b));
        let mut rest = kinds.next().unwrap_or_default();
        loop {
            if rest.is_empty() {
                match kinds.next() {
                    Some(next) => rest = next,
                    None => break,
                }
            }
            let most = rest.len().min(if world.large.is_some() { 60 } else { 3 }) as u64;
            let (items, others) = rest.split_at(usize::try_from(world.number(1..=most)).unwrap());
            rest = others;
            let as_queue = is_direct(&items[0]) || world.chance(0.5);
            for _ in 0..world.number(1..=3) {
                let (schedule, items) = (Rc::clone(schedule), items.to_vec());
                let wait = Duration::from_millis(if world.chance(0.5) {
                    world.number(0..=100)
                } else {
                    world.number(0..=100_000)
                });
                deliveries.push(tokio::task::spawn_local(async move {
                    sleep(wait).await;
                    schedule.deliver(items, as_queue).await;
                }));
            }
        }
        for delivery in deliveries {
            if let Err(error) = delivery.await {
                world.violate(format!("panic: {error}"));
            }
        }
    }

    /// Delivers until everything has succeeded, as AWS does: what failed comes again.
    async fn deliver(&self, mut files: Vec<Item>, as_queue: bool) {
        let mut healthy_tries = 0;
        while !files.is_empty() {
            if !self.world.is_troubled() {
                healthy_tries += 1;
                let all_sound = files.iter().all(|file| file.sound);
                if healthy_tries > if all_sound { HEALTHY_TRIES } else { 2 } {
                    if all_sound {
                        let keys: Vec<&str> = files.iter().map(|file| &*file.key).collect();
                        self.world.violate(format!("{keys:?} can't be delivered"));
                    }
                    return;
                }
            }
            let done = self.attempt(&files, as_queue).await;
            for file in done {
                self.acknowledged(&file);
                files.retain(|other| other.key != file.key);
            }
            let wait = match self.world.number(0..=2) {
                // A queue that delivers again at once; a dead claim may well outlive that.
                0 if self.world.is_troubled() => self.world.number(0..=2_000),
                0 | 1 => 60_000,
                _ => 120_000,
            };
            sleep(Duration::from_millis(wait)).await;
        }
    }

    /// Invokes the function once; gives the files that AWS takes for handled.
    async fn attempt(&self, files: &[Item], as_queue: bool) -> Vec<Item> {
        let world = &self.world;
        let invocation = {
            let mut outcome = self.outcome.borrow_mut();
            outcome.invocations += 1;
            usize::try_from(outcome.invocations).unwrap()
        };
        let keys: Vec<&str> = files.iter().map(|file| &*file.key).collect();
        let direct = files.iter().filter_map(|item| {
            let event = direct_event(item.direct.as_ref()?);
            Some((&*item.key, event.to_string()))
        });
        let direct: Vec<(&str, String)> = direct.collect();
        let payload = if !direct.is_empty() {
            queue_of(&direct)
        } else if as_queue {
            queue_event_in(BUCKET, &keys)
        } else {
            s3_event(&keys)
        };
        let envelope = Envelope::parse(&payload).unwrap();
        let instance = usize::try_from(world.number(0..=2)).unwrap();
        let (pipeline, skew) = &self.pipelines[instance];
        let seconds = [3, 10, 60, 60, 60, 60][usize::try_from(world.number(0..=5)).unwrap()];
        let timeout = (!world.chance(0.1)).then_some(Duration::from_secs(seconds));
        let deadline = timeout.map(|timeout| world.now() + *skew + timeout);
        let crash = world.is_troubled() && world.chance(self.crash_rate);
        let polls = match world.only_crash {
            Some(polls) if invocation == 1 => polls,
            // Early deaths are as likely as late ones, of however many polls.
            None if crash => world.number(1..=1 << world.number(1..=8)),
            _ => u64::MAX,
        };
        let named = Invocation {
            id: format!("invocation-{invocation}"),
            deadline,
        };
        if let Some(timeout) = timeout {
            let mut deadlines = world.deadlines.borrow_mut();
            deadlines.insert(invocation, Instant::now() + timeout);
            if timeout >= Duration::from_mins(1) {
                world.long_timeouts.borrow_mut().insert(invocation);
            }
        }
        let handling = CrashAfter {
            world,
            invocation,
            polls,
            work: Box::pin(pipeline.handle(&envelope, &named)),
        };
        let handled = match timeout {
            Some(timeout) => {
                let handled = tokio::time::timeout(timeout, handling).await;
                if handled.is_err() {
                    world.violate(format!("invocation {invocation} ran into its deadline"));
                }
                handled.ok().flatten()
            }
            None => handling.await,
        };
        world.running.set(invocation);
        let Some((report, outcomes)) = handled else {
            world.note(|| "died".to_owned());
            world.died(invocation);
            self.outcome.borrow_mut().crashes += 1;
            return Vec::new();
        };
        assert_identities(&report);
        self.count(&report);
        let reply = envelope.respond(&outcomes, json!(report));
        world.note(|| format!("replied {reply:?}"));
        let failed: Vec<String> = match reply {
            Err(_) => return Vec::new(),
            Ok(reply) if as_queue => reply["batchItemFailures"]
                .as_array()
                .unwrap()
                .iter()
                .map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned())
                .collect(),
            Ok(_) => Vec::new(),
        };
        files
            .iter()
            .filter(|file| !failed.contains(&file.key))
            .cloned()
            .collect()
    }

    fn count(&self, report: &Report) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.duplicates += report.duplicate;
        outcome.came_directly += report.came_directly;
        outcome.failures += u64::from(report.failed + report.direct_failed > 0);
    }

    /// What AWS takes for handled never comes again: all of it must have alerted by now.
    fn acknowledged(&self, file: &Item) {
        if !file.sound {
            self.world.violate(format!(
                "{} is broken, and its delivery was acknowledged",
                file.key
            ));
        }
        let accepted = self.world.accepted.borrow();
        for topic in &self.world.topics {
            let is_about =
                |one: &Accepted, record| one.topic == topic.arn && one.records.contains(record);
            for record in &file.alerting {
                if !accepted.iter().any(|one| is_about(one, record)) {
                    self.world.violate(format!(
                        "record {record} is lost: {} was acknowledged without its alert for {:?}",
                        file.key, topic.audience
                    ));
                }
            }
        }
    }

    fn check_the_end(&self) {
        let world = &self.world;
        let alerting: BTreeSet<usize> = self
            .items
            .iter()
            .flat_map(|item| item.alerting.iter().copied())
            .collect();
        self.outcome.borrow_mut().records = alerting.len() as u64;
        for topic in &world.topics {
            for record in &alerting {
                self.check_record(*record, &topic.arn);
            }
        }
        let entries = world.entries.borrow();
        for key in entries.keys() {
            let key = key.strip_prefix("direct/2026-03-02/").unwrap_or(key);
            if !alerting
                .iter()
                .any(|record| key.starts_with(&entry_prefix(*record)))
            {
                world.violate(format!("{key} is in the ledger, but nothing alerts on it"));
            }
        }
    }

    /// A record must have alerted on a topic, and twice only where nobody could record it.
    fn check_record(&self, record: usize, topic: &str) {
        let world = &self.world;
        let accepted = world.accepted.borrow();
        let alerts: Vec<&Accepted> = accepted
            .iter()
            .filter(|one| one.topic == topic && one.records.contains(&record))
            .collect();
        if alerts.is_empty() {
            world.violate(format!("record {record} is lost on {topic}"));
        }
        let inexcusable = alerts
            .iter()
            .filter(|one| {
                let unrecordable = !one.answered || one.unrecordable.contains(&record);
                !unrecordable || world.has_recorded(record, one)
            })
            .count();
        if inexcusable > 1 {
            world.violate(format!("record {record} has alerted twice on {topic}"));
        }
        self.outcome.borrow_mut().excused += (alerts.len() as u64).saturating_sub(1);
        self.check_archive(record, &alerts);
    }

    /// The ledger must hold the text that was sent about a record, unless it failed over the one
    /// entry that the alert's text goes to.
    fn check_archive(&self, record: usize, alerts: &[&Accepted]) {
        let world = &self.world;
        let Some(alert) = alerts.iter().find(|one| world.has_recorded(record, one)) else {
            return world.violate(format!("nothing says that record {record} has alerted"));
        };
        let message_of = |record| {
            let publications = world.publications(record, &alert.topic).into_iter();
            let mut own = publications.filter(|one| one.message_id == alert.message_id);
            own.find_map(|publication| Some(publication.archive?.message))
        };
        let message = match message_of(record) {
            Some(ArchivedMessage::InEntry(key)) => {
                let lead = records_named(&key).into_iter().next().unwrap();
                let is_lead = |other: &&usize| event_id(**other) == event_id(lead);
                let excused = alert.unrecordable.iter().any(|other| is_lead(&other));
                if !world.has_recorded(lead, alert) && excused {
                    return;
                }
                message_of(lead)
            }
            kept => kept,
        };
        match message {
            Some(ArchivedMessage::Here(sent)) if sent.text.contains(&event_id(record)) => {}
            other => world.violate(format!("the archive of record {record} has {other:?}")),
        }
    }
}

/// An invocation that dies when it has been polled so often.
struct CrashAfter<'a, F> {
    world: &'a World,
    invocation: usize,
    polls: u64,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for CrashAfter<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.world.running.set(self.invocation);
        match self.work.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                if self.polls == 0 {
                    return Poll::Ready(None);
                }
                Poll::Pending
            }
        }
    }
}

/// A record that alerts. Each number has one of two actors.
fn alerting_record(number: usize) -> Value {
    let id = event_id(number);
    if number.is_multiple_of(2) {
        record("CloseAccount", &id)
    } else {
        record_with(
            "SetContactAddress",
            &id,
            json!({"userIdentity": finance_role()}),
        )
    }
}

/// Direct events of some records of the files, and forged ones with their ids.
fn make_direct_events(world: &World, files: &[Item]) -> Vec<Item> {
    let mut share = [0.0, 0.5, 1.0][usize::try_from(world.number(0..=2)).unwrap()];
    if world.large.is_some() {
        share = 1.0;
    }
    let forger = format!("arn:aws:iam::111122223333:user/{FORGER}");
    let forger = json!({"userIdentity": {"type": "IAMUser", "arn": forger, "userName": FORGER}});
    let alerting: BTreeSet<usize> = files
        .iter()
        .flat_map(|file| file.alerting.iter().copied())
        .collect();
    let mut events = Vec::new();
    for number in alerting {
        let mut add = |number: usize, record: Value| {
            events.push(Item {
                key: format!("direct-{}", events.len()),
                alerting: BTreeSet::from([number]),
                sound: true,
                direct: Some(record),
            });
        };
        if world.chance(share * 0.1) {
            let id = event_id(number);
            add(
                forged(number),
                record_with("SetPayInformation", &id, forger.clone()),
            );
        }
        if world.chance(share) {
            add(number, alerting_record(number));
        }
    }
    events
}

/// Log files that share records, with others among them that must not alert.
fn make_files(world: &World) -> Vec<Item> {
    // Now and then more than a scan holds at a time, or than the ledger serves at a time.
    let (most, padding) = match world.number(0..=999) {
        0 => (12, 150_000),
        1..=5 => (60, 0),
        _ => (6, 0),
    };
    let padding = json!({"requestParameters": {"city": "x".repeat(padding)}});
    let mut records = usize::try_from(world.number(1..=most)).unwrap();
    let mut count = world.number(1..=4);
    if let Some(large) = world.large {
        (records, count) = (large, 8);
    }
    (0..count)
        .map(|number| {
            let mut body = vec![noise(usize::try_from(number).unwrap())];
            let mut alerting = BTreeSet::new();
            for index in 0..records {
                if !world.chance(0.6) {
                    continue;
                }
                let mut one = alerting_record(index);
                if most == 12 {
                    one["requestParameters"] = padding["requestParameters"].clone();
                }
                if world.chance(0.3) {
                    body.push(one.clone());
                }
                body.push(one);
                alerting.insert(index);
            }
            // Below the level, and of a source that nobody watches.
            body.push(record("GetAddresses", "record-4900"));
            let mut unwatched = record("CloseAccount", "record-4901");
            unwatched["eventSource"] = json!("account.amazonaws.com");
            body.push(unwatched);
            let key = log_key(&format!("file{number}"));
            let mut bytes = log_file(&body);
            let sound = !world.chance(0.1);
            if !sound {
                bytes.truncate(bytes.len() - 1);
            }
            if sound || world.chance(0.7) {
                world.objects.borrow_mut().insert(key.clone(), bytes);
            } else {
                // Gone before anybody could read it.
                alerting.clear();
            }
            Item {
                key,
                alerting,
                sound,
                direct: None,
            }
        })
        .collect()
}
