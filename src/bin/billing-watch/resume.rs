//! How far a scan has come, in a file, so that it can go on after it was interrupted.
//!
//! The inputs of each place come in an order that is the same each time. Of each place the file holds the
//! last input before which all are done, those after it that are done as well, and those that storage did
//! not give. So the file grows with what runs ahead of one slow input, and not with all inputs.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Stop, collection::Collection};

/// Between two writes of the file.
const INTERVAL: Duration = Duration::from_secs(2);
/// Changes with the file's shape.
const VERSION: u32 = 1;

/// Which input of which place something is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ticket {
    /// The index of the place.
    pub(crate) place: usize,
    /// Counts the inputs of the place in this run; `None` for one that an earlier run could not read.
    pub(crate) number: Option<u64>,
    pub(crate) name: String,
}

/// What earlier runs have done of an input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Earlier {
    Nothing,
    /// Storage did not give it.
    Tried,
    Done,
}

/// What is done of one place.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Done {
    /// All inputs up to this one are done.
    up_to: Option<String>,
    /// These are done as well.
    beyond: HashSet<String>,
    /// These are to be tried again, although they are among the others.
    again: BTreeSet<String>,
}

impl Done {
    /// What earlier runs have done of an input. `is_after` compares the names of two inputs.
    pub(crate) fn of(&self, name: &str, is_after: impl Fn(&str, &str) -> bool) -> Earlier {
        let is_before = |last| !is_after(name, last);
        if self.again.contains(name) {
            Earlier::Tried
        } else if self.up_to.as_deref().is_some_and(is_before) || self.beyond.contains(name) {
            Earlier::Done
        } else {
            Earlier::Nothing
        }
    }

    /// The inputs that storage did not give.
    pub(crate) fn again(&self) -> impl Iterator<Item = &str> {
        self.again.iter().map(String::as_str)
    }

    /// The input up to which all are done.
    pub(crate) fn up_to(&self) -> Option<&str> {
        self.up_to.as_deref()
    }
}

/// The content of the file.
#[derive(Deserialize)]
struct State {
    version: u32,
    /// What makes it the same scan.
    scan: String,
    /// The first moment that counts, which `--since` tells by the time of the first run.
    from: Option<Timestamp>,
    places: Vec<Done>,
    collection: Collection,
}

/// The same, to be written.
#[derive(Serialize)]
struct StateRef<'a> {
    version: u32,
    scan: &'a str,
    from: Option<Timestamp>,
    places: Vec<Done>,
    collection: &'a Collection,
}

/// Notes what is done.
pub(crate) struct Journal {
    file: PathBuf,
    scan: String,
    from: Option<Timestamp>,
    places: Vec<Progress>,
    written: Instant,
}

/// What is done of one place, in this run and before.
#[derive(Default)]
struct Progress {
    before: Done,
    /// The number of the next input that is not done.
    next: u64,
    up_to: Option<String>,
    /// Inputs after it that are done.
    beyond: BTreeMap<u64, String>,
    /// Inputs that storage did not give.
    again: BTreeSet<String>,
}

impl Progress {
    fn done(&self) -> Done {
        let earlier = self.before.beyond.iter().cloned();
        Done {
            up_to: self.up_to.clone().or_else(|| self.before.up_to.clone()),
            beyond: earlier.chain(self.beyond.values().cloned()).collect(),
            again: self.again.clone(),
        }
    }
}

impl Journal {
    /// Begins, or goes on where the file of an earlier run ends. `scan` tells this scan from others. `from`
    /// becomes what it was in the first run.
    pub(crate) fn open(
        file: &Path,
        scan: String,
        from: &mut Option<Timestamp>,
        places: usize,
    ) -> Result<(Self, Collection), Stop> {
        let mut collection = Collection::default();
        let mut progress: Vec<Progress> = (0..places).map(|_| Progress::default()).collect();
        match fs::read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Stop::usage(format!("{}: {error}", file.display()))),
            Ok(bytes) => {
                let state: State = serde_json::from_slice(&bytes).map_err(|error| {
                    Stop::usage(format!(
                        "{} is not a file of --resume: {error}; give another name",
                        file.display()
                    ))
                })?;
                if (state.version, state.scan.as_str()) != (VERSION, scan.as_str()) {
                    return Err(Stop::usage(format!(
                        "{} is of another scan; repeat its arguments, or delete it to begin anew",
                        file.display()
                    )));
                }
                collection = state.collection;
                *from = state.from;
                for (progress, before) in progress.iter_mut().zip(state.places) {
                    progress.again.clone_from(&before.again);
                    progress.before = before;
                }
            }
        }
        let journal = Self {
            file: file.to_owned(),
            scan,
            from: *from,
            places: progress,
            written: Instant::now(),
        };
        // An unwritable place shows before the work.
        journal.write(&collection)?;
        Ok((journal, collection))
    }

    /// What earlier runs have done of each place.
    pub(crate) fn before(&self) -> Vec<Done> {
        self.places
            .iter()
            .map(|place| place.before.clone())
            .collect()
    }

    /// Notes that storage did not give an input, and writes the file now and then.
    pub(crate) fn again(&mut self, ticket: Ticket, collection: &Collection) -> Result<(), Stop> {
        let place = &mut self.places[ticket.place];
        place.again.insert(ticket.name.clone());
        self.note(ticket, collection)
    }

    /// Whether no input is to be tried again.
    pub(crate) fn is_complete(&self) -> bool {
        self.places.iter().all(|place| place.again.is_empty())
    }

    /// Notes that an input is done, and writes the file now and then.
    pub(crate) fn done(&mut self, ticket: Ticket, collection: &Collection) -> Result<(), Stop> {
        self.places[ticket.place].again.remove(&ticket.name);
        self.note(ticket, collection)
    }

    fn note(&mut self, ticket: Ticket, collection: &Collection) -> Result<(), Stop> {
        let place = &mut self.places[ticket.place];
        if let Some(number) = ticket.number {
            place.beyond.insert(number, ticket.name);
        }
        while let Some(name) = place.beyond.remove(&place.next) {
            place.next += 1;
            // What earlier runs had done beyond may lie before it now.
            place.up_to = Some(name);
        }
        if self.written.elapsed() >= INTERVAL {
            self.write(collection)?;
            self.written = Instant::now();
        }
        Ok(())
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn write(&self, collection: &Collection) -> Result<(), Stop> {
        let state = StateRef {
            version: VERSION,
            scan: &self.scan,
            from: self.from,
            places: self.places.iter().map(Progress::done).collect(),
            collection,
        };
        let mut temporary = self.file.clone().into_os_string();
        temporary.push(format!(".{}.new", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let written = serde_json::to_vec(&state)
            .map_err(io::Error::from)
            .and_then(|bytes| {
                let mut file = File::create(&temporary)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                fs::rename(&temporary, &self.file)
            });
        written.map_err(|error| {
            Stop::usage(format!("{} can't be written: {error}", self.file.display()))
        })
    }

    /// Removes the file: the scan is complete.
    pub(crate) fn remove(&self) -> Result<(), Stop> {
        fs::remove_file(&self.file).map_err(|error| {
            Stop::usage(format!("{} can't be removed: {error}", self.file.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where it can't go on")]

    use super::*;

    #[test]
    fn the_file_never_takes_for_done_what_storage_did_not_give() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("scan.progress");
        let scan = || "scan".to_owned();
        let (mut journal, collection) = Journal::open(&file, scan(), &mut None, 1).unwrap();
        // The next note writes the file.
        journal.written = Instant::now().checked_sub(2 * INTERVAL).unwrap();
        let ticket = Ticket {
            place: 0,
            number: Some(0),
            name: "a".to_owned(),
        };
        journal.again(ticket, &collection).unwrap();
        let (written, _) = Journal::open(&file, scan(), &mut None, 1).unwrap();
        assert_eq!(written.before()[0].of("a", |a, b| a > b), Earlier::Tried);
    }
}
