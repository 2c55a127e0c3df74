//! Which objects an envelope asks for, and which of them are not worth a look.

use std::collections::HashMap;

use super::failure;
use crate::{
    alert::escape::clean,
    cloudtrail::{KeyKind, OtherKind, classify_key},
    envelope::{Envelope, Happening, Mention, ObjectRef},
};

/// One object to look at, however many deliveries name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Job {
    pub(super) mention: Mention,
    pub(super) batch_task: bool,
}

/// The objects of an envelope, each once, and which of them each delivery names.
pub(super) fn distinct_jobs(envelope: &Envelope) -> (Vec<Job>, Vec<Vec<usize>>) {
    let mut jobs: Vec<Job> = Vec::new();
    let mut numbers: HashMap<(ObjectRef, bool, bool), usize> = HashMap::new();
    let of_delivery = envelope
        .deliveries
        .iter()
        .map(|delivery| {
            let mut named: Vec<usize> = delivery
                .mentions
                .iter()
                .map(|mention| {
                    let created = mention.happening == Happening::Created;
                    let key = (mention.object.clone(), created, delivery.batch_task);
                    *numbers.entry(key).or_insert_with(|| {
                        jobs.push(Job {
                            mention: mention.clone(),
                            batch_task: delivery.batch_task,
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
    (jobs, of_delivery)
}

/// Why an object is not even fetched; else the account in its key, if it is shaped like a log file's.
pub(super) fn skip_reason(mention: &Mention) -> Result<Option<String>, &'static str> {
    match mention.happening {
        Happening::Created => {}
        Happening::Removed(_) => return Err("removed"),
        Happening::Other(_) => return Err("not a creation"),
    }
    match classify_key(&mention.object.key, mention.size) {
        KeyKind::LogFile { account } => Ok(Some(account)),
        KeyKind::Unknown => Ok(None),
        KeyKind::Other(kind) => Err(match kind {
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

/// Nobody but a lifecycle rule should remove log files.
pub(super) fn warn_of_removal(mention: &Mention) {
    let is_log_file = matches!(
        classify_key(&mention.object.key, mention.size),
        KeyKind::LogFile { .. }
    );
    if let Happening::Removed(event) = &mention.happening
        && is_log_file
    {
        let (object, event) = (failure::shown(&mention.object), clean(event, 128));
        tracing::warn!(object, event, "a log file was removed");
    }
}
