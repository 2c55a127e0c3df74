//! Direct events that no log file has confirmed.
//!
//! A direct event leaves a note under the day on which it came. A check on the days before reads the
//! entries that the notes name: each should know the log file that its record was in.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::{CONCURRENT_REQUESTS, Entry, Ledger, LedgerError, LedgerStore};

/// Where the notes are. No record has such a key.
const NOTES: &str = "direct/";
/// How long a log file may take. CloudTrail delivers most within 15 minutes, and some after hours.
const LOG_FILE_TIME: SignedDuration = SignedDuration::from_hours(24);
/// How long an event that has not been confirmed is told of.
const TOLD_TIME: SignedDuration = SignedDuration::from_hours(48);

/// Direct events that came one to two days ago, by the names of their entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Unconfirmed {
    /// How many came.
    pub direct_events: u64,
    /// The names of those that no log file has confirmed.
    pub entries: Vec<String>,
}

impl<S: LedgerStore> Ledger<S> {
    /// Notes that a direct event has come whose record must be in a log file, too.
    pub(super) async fn expect_log_file(
        &self,
        key: &str,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let note = format!("{}{key}", notes_of(now));
        // Where there is a note already, there is nothing to write.
        self.store
            .create(&note, &Entry::default())
            .await
            .map(|_| ())
    }

    /// Looks for direct events that came between one and two days ago and that no log file has confirmed.
    ///
    /// # Errors
    ///
    /// The store failed. Nothing is known then.
    pub async fn unconfirmed(&self, now: Timestamp) -> Result<Unconfirmed, LedgerError> {
        let mut notes = Vec::new();
        for day in [now - TOLD_TIME, now - LOG_FILE_TIME] {
            let prefix = notes_of(day);
            let listed = self.store.list(&prefix).await?;
            notes.extend(
                listed
                    .iter()
                    .filter_map(|note| note.strip_prefix(&prefix))
                    .map(str::to_owned),
            );
        }
        let direct_events: Vec<(String, bool)> = stream::iter(notes)
            .map(|key| async move {
                let entry = self.store.read(&key).await?.map(|found| found.entry);
                Ok::<_, LedgerError>((key, entry))
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_filter_map(|(key, entry)| async move {
                // Without an entry nothing has alerted, and the event is delivered again.
                let entry = entry.filter(|entry| entry.is_due(now));
                Ok(entry.map(|entry| (key, entry.log_file.is_none())))
            })
            .try_collect()
            .await?;
        let mut unconfirmed = Unconfirmed {
            direct_events: direct_events.len() as u64,
            entries: Vec::new(),
        };
        let missing = direct_events
            .into_iter()
            .filter(|(_, is_missing)| *is_missing);
        unconfirmed.entries.extend(missing.map(|(key, _)| key));
        unconfirmed.entries.sort_unstable();
        Ok(unconfirmed)
    }
}

impl Entry {
    /// Whether the direct event came between one and two days ago.
    fn is_due(&self, now: Timestamp) -> bool {
        self.direct_at.is_some_and(|came_at| {
            let age = now.duration_since(came_at);
            (LOG_FILE_TIME..TOLD_TIME).contains(&age)
        })
    }
}

/// The prefix of the notes of a day.
fn notes_of(day: Timestamp) -> String {
    format!("{NOTES}{}/", day.strftime("%Y-%m-%d"))
}
