//! Plan: which objects and direct events the deliveries bring, each once, and which of them are skipped
//! or refused.

use std::collections::HashMap;

use super::failure;
use crate::{
    cloudtrail::{KeyKind, OtherKind, classify_key},
    envelope::{
        BatchMode, Delivery, DirectEvent, DirectEventKind, Failure, ObjectEvent, ObjectEventKind,
        ObjectRef,
    },
};

/// The work that an envelope asks for.
pub(super) struct Plan<'a> {
    /// Each object once, however many deliveries name it.
    pub(super) jobs: Vec<Job>,
    /// For each delivery, which of the jobs it names.
    pub(super) jobs_of_delivery: Vec<Vec<usize>>,
    /// Each direct event once, however many deliveries bring it.
    pub(super) direct_events: Vec<PlannedEvent<'a>>,
}

/// One direct event and what to do with it.
pub(super) struct PlannedEvent<'a> {
    pub(super) event: &'a DirectEvent,
    /// The deliveries that bring it, in their order.
    pub(super) deliveries: Vec<usize>,
    pub(super) action: DirectAction,
}

/// What to do with a direct event.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum DirectAction {
    /// Look whether it is a finding.
    Take,
    /// It is no record; holds the reason, as the report counts it.
    Skip(&'static str),
    /// It cannot be what it says.
    Refuse(Failure),
}

/// One object and what to do with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Job {
    pub(super) object_event: ObjectEvent,
    /// As of its delivery.
    pub(super) batch_task: Option<BatchMode>,
    pub(super) action: Action,
}

/// What to do with an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// Read it and look for findings.
    Scan {
        /// The account in its key; `None` where the key does not have the shape of a log file's, so
        /// that the object may turn out to be something else.
        file_account: Option<String>,
    },
    /// Do not fetch it.
    Skip(Skip),
}

/// Why an object is not fetched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Skip {
    /// The reason, as the report counts it.
    pub(super) reason: &'static str,
    /// Whether the event says that a log file was removed, which only a lifecycle rule should do.
    pub(super) log_file_removed: bool,
}

/// Plans the work for `deliveries`.
pub(super) fn plan(deliveries: &[Delivery]) -> Plan<'_> {
    let mut jobs: Vec<Job> = Vec::new();
    let mut numbers: HashMap<(ObjectRef, bool, Option<BatchMode>), usize> = HashMap::new();
    let jobs_of_delivery = deliveries
        .iter()
        .map(|delivery| {
            let mut named: Vec<usize> = delivery
                .object_events
                .iter()
                .map(|object_event| {
                    let created = object_event.kind == ObjectEventKind::Created;
                    let identity = (object_event.object.clone(), created, delivery.batch_task);
                    *numbers.entry(identity).or_insert_with(|| {
                        jobs.push(Job {
                            object_event: object_event.clone(),
                            batch_task: delivery.batch_task,
                            action: action(object_event),
                        });
                        jobs.len() - 1
                    })
                })
                .collect();
            named.sort_unstable();
            named.dedup();
            named
        })
        .collect();
    Plan {
        jobs,
        jobs_of_delivery,
        direct_events: direct_events(deliveries),
    }
}

fn direct_events(deliveries: &[Delivery]) -> Vec<PlannedEvent<'_>> {
    let mut planned: Vec<PlannedEvent<'_>> = Vec::new();
    let mut numbers: HashMap<(String, Option<&str>), usize> = HashMap::new();
    for (number, delivery) in deliveries.iter().enumerate() {
        for event in &delivery.direct_events {
            let identity = (event.record.as_value().to_string(), event.sender.as_deref());
            let index = *numbers.entry(identity).or_insert_with(|| {
                planned.push(PlannedEvent {
                    event,
                    deliveries: Vec::new(),
                    action: direct_action(event),
                });
                planned.len() - 1
            });
            let deliveries = &mut planned[index].deliveries;
            if deliveries.last() != Some(&number) {
                deliveries.push(number);
            }
        }
    }
    planned
}

fn direct_action(event: &DirectEvent) -> DirectAction {
    match event.kind {
        DirectEventKind::Insight => return DirectAction::Skip("insight"),
        DirectEventKind::NetworkActivity => return DirectAction::Skip("network activity"),
        DirectEventKind::Record => {}
    }
    match (&event.sender, event.record.recipient_account()) {
        (Some(sender), Some(account)) if *sender != account => {
            DirectAction::Refuse(failure::direct_event_refused(sender, &account))
        }
        _ => DirectAction::Take,
    }
}

fn action(object_event: &ObjectEvent) -> Action {
    let key_kind = classify_key(&object_event.object.key, object_event.size_bytes);
    let is_log_file = matches!(key_kind, KeyKind::LogFile { .. });
    let skip = |reason| {
        Action::Skip(Skip {
            reason,
            log_file_removed: false,
        })
    };
    match (&object_event.kind, key_kind) {
        (ObjectEventKind::Removed(_), _) => Action::Skip(Skip {
            reason: "removed",
            log_file_removed: is_log_file,
        }),
        (ObjectEventKind::Other(_), _) => skip("not a creation"),
        (ObjectEventKind::Created, KeyKind::LogFile { account }) => Action::Scan {
            file_account: Some(account),
        },
        (ObjectEventKind::Created, KeyKind::Unknown) => Action::Scan { file_account: None },
        (ObjectEventKind::Created, KeyKind::Other(kind)) => skip(match kind {
            OtherKind::Digest => "digest",
            OtherKind::Insight => "insight",
            OtherKind::Aggregated => "aggregated",
            OtherKind::NetworkActivity => "network activity",
            OtherKind::Marker => "marker",
            OtherKind::OtherService => "another service's log",
            OtherKind::OtherName => "not named like a log file",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG_FILE: &str = "AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/02/a.json.gz";

    fn event(key: &str, kind: ObjectEventKind) -> ObjectEvent {
        ObjectEvent {
            object: ObjectRef {
                bucket: "logs".to_owned(),
                key: key.to_owned(),
                version_id: None,
            },
            size_bytes: None,
            created_at: None,
            kind,
        }
    }

    fn delivery(object_events: Vec<ObjectEvent>, batch_task: Option<BatchMode>) -> Delivery {
        Delivery {
            object_events,
            batch_task,
            ..Delivery::default()
        }
    }

    #[test]
    fn the_event_and_the_key_decide_what_happens_to_an_object() {
        let removed = || ObjectEventKind::Removed("ObjectRemoved:Delete".to_owned());
        let restored = || ObjectEventKind::Other("ObjectRestore:Post".to_owned());
        let scan = |account: Option<&str>| Action::Scan {
            file_account: account.map(str::to_owned),
        };
        let skip = |reason, log_file_removed| {
            Action::Skip(Skip {
                reason,
                log_file_removed,
            })
        };
        for (key, kind, expected) in [
            (
                LOG_FILE,
                ObjectEventKind::Created,
                scan(Some("111122223333")),
            ),
            ("copy.json.gz", ObjectEventKind::Created, scan(None)),
            (
                "readme.txt",
                ObjectEventKind::Created,
                skip("not named like a log file", false),
            ),
            (LOG_FILE, removed(), skip("removed", true)),
            ("readme.txt", removed(), skip("removed", false)),
            (LOG_FILE, restored(), skip("not a creation", false)),
        ] {
            assert_eq!(
                action(&event(key, kind.clone())),
                expected,
                "{key} {kind:?}"
            );
        }
    }

    #[test]
    fn an_object_named_by_several_deliveries_is_one_job() {
        let created = || event(LOG_FILE, ObjectEventKind::Created);
        let removed = event(
            LOG_FILE,
            ObjectEventKind::Removed("Object Deleted".to_owned()),
        );
        let deliveries = [
            delivery(vec![created(), created(), removed], None),
            delivery(vec![created()], None),
            delivery(vec![created()], Some(BatchMode::Unsaid)),
            delivery(Vec::new(), None),
        ];
        let plan = plan(&deliveries);
        assert_eq!(plan.jobs.len(), 3);
        assert_eq!(
            plan.jobs_of_delivery,
            [vec![0, 1], vec![0], vec![2], vec![]]
        );
    }
}
