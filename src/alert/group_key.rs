//! What findings have in common that share an alert, and the order in which it names them.

use std::{cmp::Reverse, fmt::Write as _};

use sha2::{Digest as _, Sha256};

use super::{Escaped, content::affected_account};
use crate::{
    cloudtrail::{Outcome, Record},
    rules::Finding,
};

/// What findings have in common that share an alert.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupKey {
    affected_account: Option<String>,
    /// Type of the actor; its ARN or the next best identifier; its session.
    actor: (String, Option<String>, Option<String>),
}

impl GroupKey {
    /// The group of a record.
    pub fn of(record: &Record, file_account: Option<&str>) -> Self {
        let actor = record.actor();
        let identity = actor
            .arn
            .or(actor.principal_id)
            .or(actor.name)
            .or(actor.access_key_id)
            .or(actor.account.as_deref())
            .or(actor.invoked_by);
        Self {
            affected_account: affected_account(record, file_account),
            actor: (
                actor.actor_type.to_owned(),
                identity.map(str::to_owned),
                actor.session.map(str::to_owned),
            ),
        }
    }

    /// A name for the group that is the same in every alert and tells nothing of the actor.
    pub(super) fn thread(&self) -> Escaped {
        let (actor_type, identity, session) = &self.actor;
        let parts = [
            self.affected_account.as_deref(),
            Some(actor_type),
            identity.as_deref(),
            session.as_deref(),
        ];
        let mut hasher = Sha256::new();
        for part in parts {
            // Its length keeps a part apart from the next one.
            let part = part.unwrap_or_default();
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        let mut thread = String::from("billing-watch-");
        for byte in &hasher.finalize()[..8] {
            // Writing to a string can't fail.
            let _ = write!(thread, "{byte:02x}");
        }
        Escaped::name(&thread, thread.len())
    }
}

/// The order in which alerts name findings, whatever order the file had.
pub fn order(first: &Finding, second: &Finding) -> std::cmp::Ordering {
    let key = |finding: &'_ Finding| {
        let text = |name| finding.record.text(name).map(str::to_owned);
        (
            Reverse(finding.level()),
            finding.record.outcome() != Outcome::Succeeded,
            text("eventTime"),
            text("eventName"),
            text("eventID"),
        )
    };
    // Records without an id may differ in nothing else.
    let content = |finding: &Finding| finding.record.as_value().to_string();
    key(first)
        .cmp(&key(second))
        .then_with(|| content(first).cmp(&content(second)))
}
