//! Schedules of faults, each made of a seed: deliveries come twice and at the same time, requests
//! fail, hang, take effect late or twice, and invocations die at any await. Records come in log files,
//! as direct events, or both, and some direct events are forged. There are one or two topics, one of which
//! may refuse everything for a while. After each schedule, no record may be lost, none may have alerted
//! twice on a topic without the one excuse that there is, and every report must add up.
//!
//! `make simulate SCHEDULES=… SEED=…` runs any number of them, from any seed on.

mod schedule;
mod world;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use billing_watch::rules::{OptionalRules, RulePack};

use schedule::{Outcome, run, run_large, run_with_one_crash};
use world::BrokenRule;

/// Schedules of an ordinary test run.
const SCHEDULES: u64 = 2_000;

/// How many seeds are run between signs of life.
const PROGRESS: u64 = 100_000;

fn variable(name: &str) -> Option<u64> {
    #[allow(clippy::disallowed_methods, reason = "the Makefile's own parameters")]
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number")),
    )
}

/// Runs schedules until one fails; gives the sums of all, and the failing seed.
fn run_all(
    seeds: std::ops::Range<u64>,
    broken: BrokenRule,
) -> (Outcome, Option<(u64, Vec<String>)>) {
    let next = AtomicU64::new(seeds.start);
    let failed: Mutex<Option<(u64, Vec<String>)>> = Mutex::new(None);
    let sum = Mutex::new(Outcome::default());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
                let mut own = Outcome::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().unwrap().is_some() {
                        break;
                    }
                    let outcome = run(seed, &pack, broken, false);
                    if !outcome.violations.is_empty() {
                        let mut failed = failed.lock().unwrap();
                        failed.get_or_insert((seed, outcome.violations));
                        break;
                    }
                    own.add(&outcome);
                    if seed % PROGRESS == PROGRESS - 1 {
                        #[allow(clippy::print_stdout, reason = "for those who wait")]
                        {
                            println!("seed {seed}");
                        }
                    }
                }
                sum.lock().unwrap().add(&own);
            });
        }
    });
    (sum.into_inner().unwrap(), failed.into_inner().unwrap())
}

#[test]
fn nothing_is_lost_and_nothing_alerts_twice() {
    let seed = variable("SEED").unwrap_or(0);
    let schedules = variable("SCHEDULES").unwrap_or(SCHEDULES);
    let (sum, failed) = run_all(seed..seed + schedules, BrokenRule::Nothing);
    if let Some((seed, violations)) = failed {
        let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
        let again = run(seed, &pack, BrokenRule::Nothing, true);
        panic!(
            "{}\n\nschedule {seed}: {}\nreplay: make simulate SCHEDULES=1 SEED={seed}",
            again.trace,
            violations.join("; ")
        );
    }
    let rates = format!("seeds {seed} to {}: {sum}", seed + schedules - 1);
    #[allow(clippy::print_stdout, reason = "what `make simulate` is run for")]
    {
        println!("{rates}");
    }
    if schedules >= SCHEDULES {
        // The schedules must reach what they are meant to try.
        assert!(sum.crashes * 2 > schedules && sum.excused > 0, "{rates}");
        assert!(sum.came_directly > schedules / 4, "{rates}");
        assert!(
            sum.duplicates > schedules && sum.failures > schedules,
            "{rates}"
        );
    }
}

/// In a log file the record may be first, or as a direct event, or both at the same time.
#[test]
fn a_thousand_events_that_come_by_both_paths_alert_once_on_each_of_three_topics() {
    let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
    let mut sum = Outcome::default();
    for seed in 0..variable("LARGE").unwrap_or(1) {
        let outcome = run_large(seed, &pack, 1_000);
        assert_eq!(outcome.violations, [""; 0], "seed {seed}");
        sum.add(&outcome);
    }
    #[allow(clippy::print_stdout, reason = "figures for docs/testing.md")]
    {
        println!("{sum}");
    }
    assert!(sum.records >= 1_000 && sum.came_directly > 100, "{sum}");
}

#[test]
fn a_seed_gives_the_same_schedule_every_time() {
    let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
    for seed in 0..20 {
        let first = run(seed, &pack, BrokenRule::Nothing, true);
        let second = run(seed, &pack, BrokenRule::Nothing, true);
        assert!(first.trace == second.trace, "seed {seed}");
    }
}

#[test]
fn a_crash_at_any_await_loses_nothing() {
    let pack = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
    let (mut crashes, mut second) = (0, 0);
    for seed in 0..20 {
        for polls in 1..10_000 {
            let outcome = run_with_one_crash(seed, &pack, polls);
            assert!(
                outcome.violations.is_empty(),
                "seed {seed}, dead at poll {polls}: {:?}",
                outcome.violations
            );
            if outcome.crashes == 0 {
                break;
            }
            crashes += 1;
            second += outcome.excused;
        }
    }
    assert!(crashes > 200 && second > 0, "{crashes} {second}");
}

#[test]
fn every_broken_rule_of_the_ledger_is_detected() {
    for (broken, sign) in [
        (BrokenRule::TakesOverUnexpiredClaims, "twice"),
        (BrokenRule::ReplacesAnyVersion, "twice"),
        (BrokenRule::CreatesOverOthers, "twice"),
        (BrokenRule::NeverRecords, "nothing says"),
        (BrokenRule::TakesClaimedForAlerted, "lost"),
        (BrokenRule::PublishesBeforeSending, "lost"),
        (BrokenRule::IgnoresContent, "lost"),
        (BrokenRule::ForgetsOtherTopics, "twice"),
    ] {
        let (_, failed) = run_all(0..SCHEDULES, broken);
        let (seed, violations) = failed.unwrap_or_else(|| panic!("{broken:?} was not found out"));
        assert!(
            violations.iter().any(|violation| violation.contains(sign)),
            "{broken:?}, seed {seed}: {violations:?}"
        );
    }
}
