//! A ledger store that serves one warm instance and forgets with it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Entry, LedgerError, LedgerStore, Tagged, Written};

/// Entries that are remembered; the oldest are forgotten first.
const REMEMBERED_ENTRIES: usize = 10_000;

/// Entries in this process's memory, without the alerts' texts.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<String, Tagged>,
    oldest_first: VecDeque<String>,
    writes: u64,
}

impl Entries {
    fn write(&mut self, key: &str, entry: &Entry) -> Written {
        self.writes += 1;
        let tag = self.writes.to_string();
        let mut entry = entry.clone();
        for publication in &mut entry.published {
            publication.archive = None;
        }
        let tagged = Tagged {
            entry,
            tag: tag.clone(),
        };
        if self.by_key.insert(key.to_owned(), tagged).is_none() {
            self.oldest_first.push_back(key.to_owned());
            if self.oldest_first.len() > REMEMBERED_ENTRIES
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.by_key.remove(&oldest);
            }
        }
        Written::Yes(tag)
    }
}

impl MemoryLedger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No code that holds the lock can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerStore for MemoryLedger {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        Ok(self.entries().by_key.get(key).cloned())
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        let mut entries = self.entries();
        if entries.by_key.contains_key(key) {
            return Ok(Written::Conflict);
        }
        Ok(entries.write(key, entry))
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        let mut entries = self.entries();
        match entries.by_key.get(key) {
            Some(current) if current.tag == tag => Ok(entries.write(key, entry)),
            _ => Ok(Written::Conflict),
        }
    }
}
