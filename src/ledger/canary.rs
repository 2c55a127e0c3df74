//! The memory of the canaries: calls that the function makes, and expects to meet in a log file.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Entry, Ledger, LedgerError, LedgerStore, VersionedEntry, WRITE_ATTEMPTS, WriteOutcome, back_off,
};

/// The entry that holds the canaries. No record has such a key.
const KEY: &str = "canary.json";
/// Canaries that are kept, so that a late one is still recognized.
const KEPT: usize = 10;

/// One canary.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Canary {
    /// Tells it from every other. The call's record carries it.
    pub nonce: String,
    /// When it was called first.
    pub called_at: Timestamp,
    /// When a log file with its record was scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met_at: Option<Timestamp>,
}

/// What a canary's invocation has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanaryRun {
    /// The nonce to call with.
    pub nonce: String,
    /// Whether the canary before did not arrive in time.
    pub is_missing: bool,
}

/// What the nonce of a record means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CanaryMeeting {
    /// The record of a canary, for the first time. Holds the time since its call.
    First(SignedDuration),
    /// The record of a canary that was met before.
    Again,
    /// No canary of this function.
    Unknown,
}

impl<S: LedgerStore> Ledger<S> {
    /// Judges the last canary, and begins another one unless that one is still expected.
    ///
    /// A canary that has not arrived `within` this time is missing, and stays so in each run until it or
    /// another one arrives. One that is still expected is called again, because its first call may have
    /// failed.
    ///
    /// # Errors
    ///
    /// The store failed, or others wrote the entry in each attempt. The new canary may exist all the
    /// same; the next run calls it.
    pub async fn begin_canary(
        &self,
        nonce: &str,
        within: SignedDuration,
        now: Timestamp,
    ) -> Result<CanaryRun, LedgerError> {
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            let found = self.store.read(KEY).await?;
            let (mut canaries, etag) = known(found);
            let is_unmet = |canary: &Canary| canary.met_at.is_none();
            if let Some(last) = canaries.first() {
                // An earlier attempt wrote it, and its answer was lost.
                let is_own = last.nonce == nonce;
                let is_late = now.duration_since(last.called_at) >= within;
                if is_own || (is_unmet(last) && !is_late) {
                    return Ok(CanaryRun {
                        nonce: last.nonce.clone(),
                        is_missing: canaries.get(1).is_some_and(is_unmet),
                    });
                }
            }
            let is_missing = canaries.first().is_some_and(is_unmet);
            let canary = Canary {
                nonce: nonce.to_owned(),
                called_at: now,
                met_at: None,
            };
            canaries.insert(0, canary);
            canaries.truncate(KEPT);
            if self.write_canaries(canaries, etag.as_deref()).await? {
                return Ok(CanaryRun {
                    nonce: nonce.to_owned(),
                    is_missing,
                });
            }
        }
        Err(written_by_others())
    }

    /// Notes that a log file with a canary's record was scanned.
    ///
    /// # Errors
    ///
    /// The store failed, or others wrote the entry in each attempt.
    pub async fn meet_canary(
        &self,
        nonce: &str,
        now: Timestamp,
    ) -> Result<CanaryMeeting, LedgerError> {
        for attempt in 0..WRITE_ATTEMPTS {
            back_off(attempt).await;
            let found = self.store.read(KEY).await?;
            let (mut canaries, etag) = known(found);
            let Some(canary) = canaries.iter_mut().find(|canary| canary.nonce == nonce) else {
                return Ok(CanaryMeeting::Unknown);
            };
            if canary.met_at.is_some() {
                return Ok(CanaryMeeting::Again);
            }
            canary.met_at = Some(now);
            let delay = now.duration_since(canary.called_at);
            if self.write_canaries(canaries, etag.as_deref()).await? {
                return Ok(CanaryMeeting::First(delay));
            }
        }
        Err(written_by_others())
    }

    /// Writes the canaries over the version that was read. Returns whether nobody else had written.
    async fn write_canaries(
        &self,
        canaries: Vec<Canary>,
        etag: Option<&str>,
    ) -> Result<bool, LedgerError> {
        let entry = Entry {
            canaries,
            ..Entry::default()
        };
        let written = match etag {
            Some(etag) => self.store.replace(KEY, etag, &entry).await?,
            None => self.store.create(KEY, &entry).await?,
        };
        Ok(matches!(written, WriteOutcome::Written(_)))
    }
}

fn known(found: Option<VersionedEntry>) -> (Vec<Canary>, Option<String>) {
    found.map_or_else(Default::default, |found| {
        (found.entry.canaries, Some(found.etag))
    })
}

fn written_by_others() -> LedgerError {
    LedgerError::new(format!(
        "{KEY} was written by others in each of {WRITE_ATTEMPTS} attempts"
    ))
}
