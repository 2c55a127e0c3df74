//! The check on direct events: which of them no log file has confirmed.

use jiff::Timestamp;

use super::{deadline::Deadline, failure};
use crate::{
    envelope::Failure,
    ledger::{Ledger, LedgerStore},
    report::Report,
};

/// Most entries in a log line and in the reply.
const NAMED_ENTRIES: usize = 100;

/// Looks for direct events without a log file, and notes them in the report. Returns why the check failed.
pub(super) async fn check<L: LedgerStore, C: Fn() -> Timestamp>(
    ledger: &Ledger<L>,
    deadline: &Deadline<'_, C>,
    report: &mut Report,
) -> Option<Failure> {
    let checked = deadline
        .before_reply(ledger.unconfirmed(deadline.now()))
        .await;
    let failure = match checked {
        Some(Ok(mut unconfirmed)) => {
            let count = unconfirmed.entries.len() as u64;
            unconfirmed.entries.truncate(NAMED_ENTRIES);
            if count > 0 {
                tracing::warn!(
                    count,
                    direct_events = unconfirmed.direct_events,
                    entries = unconfirmed.entries.join(","),
                    "direct events that no log file has confirmed within a day: forged, or their log \
                     files were lost"
                );
            }
            report.unconfirmed_direct_events = Some(count);
            report.unconfirmed = unconfirmed.entries;
            return None;
        }
        Some(Err(error)) => failure::unconfirmed_ledger(&error),
        None => failure::unconfirmed_too_late(),
    };
    tracing::error!(
        error_type = %failure.error_type,
        error = failure.message,
        "the check on direct events failed"
    );
    Some(failure)
}
