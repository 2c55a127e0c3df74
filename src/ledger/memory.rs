//! A ledger store in the memory of one function instance.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Entry, LedgerError, LedgerStore, VersionedEntry, WriteOutcome};

/// Most entries; the oldest is dropped first.
const MOST_ENTRIES: usize = 10_000;

/// Entries in this process's memory, without the texts of alerts.
#[derive(Debug, Default)]
pub struct MemoryLedgerStore {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, VersionedEntry>,
    oldest_first: VecDeque<String>,
    writes: u64,
}

impl Entries {
    fn write(&mut self, key: &str, entry: &Entry) -> WriteOutcome {
        self.writes += 1;
        let etag = self.writes.to_string();
        let mut entry = entry.clone();
        for publication in &mut entry.published {
            publication.archive = None;
        }
        let versioned = VersionedEntry {
            entry,
            etag: etag.clone(),
        };
        if self.by_key.insert(key.to_owned(), versioned).is_none() {
            self.oldest_first.push_back(key.to_owned());
            if self.oldest_first.len() > MOST_ENTRIES
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.by_key.remove(&oldest);
            }
        }
        WriteOutcome::Written(etag)
    }
}

impl MemoryLedgerStore {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerStore for MemoryLedgerStore {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        Ok(self.entries().by_key.get(key).cloned())
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        let mut entries = self.entries();
        if entries.by_key.contains_key(key) {
            return Ok(WriteOutcome::PreconditionFailed);
        }
        Ok(entries.write(key, entry))
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        let mut entries = self.entries();
        match entries.by_key.get(key) {
            Some(current) if current.etag == etag => Ok(entries.write(key, entry)),
            _ => Ok(WriteOutcome::PreconditionFailed),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        let entries = self.entries();
        let keys = entries.by_key.keys().filter(|key| key.starts_with(prefix));
        Ok(keys.cloned().collect())
    }
}
