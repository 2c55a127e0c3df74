//! How far a scan has come, in a file, so that it can go on after it was interrupted.
//!
//! The inputs of each place come in an order that is the same each time. Of each place the file holds the
//! last input before which all are done, and the few after it that are done as well: as many as are read
//! at the same time. So the file does not grow with the number of inputs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

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
    /// Counts the inputs of the place in this run.
    pub(crate) number: u64,
    pub(crate) name: String,
}

/// What is done of one place.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Done {
    /// All inputs up to this one are done.
    up_to: Option<String>,
    /// These are done as well.
    beyond: Vec<String>,
}

impl Done {
    /// Whether an input was done by an earlier run. `is_after` compares the names of two inputs.
    pub(crate) fn includes(&self, name: &str, is_after: impl Fn(&str, &str) -> bool) -> bool {
        self.up_to
            .as_deref()
            .is_some_and(|last| !is_after(name, last))
            || self.beyond.iter().any(|done| done == name)
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
    places: Vec<Done>,
    collection: Collection,
}

/// The same, to be written.
#[derive(Serialize)]
struct StateRef<'a> {
    version: u32,
    scan: &'a str,
    places: Vec<Done>,
    collection: &'a Collection,
}

/// Notes what is done.
pub(crate) struct Journal {
    file: PathBuf,
    scan: String,
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
}

impl Progress {
    fn done(&self) -> Done {
        let earlier = self.before.beyond.iter().cloned();
        Done {
            up_to: self.up_to.clone().or_else(|| self.before.up_to.clone()),
            beyond: earlier.chain(self.beyond.values().cloned()).collect(),
        }
    }
}

impl Journal {
    /// Begins, or goes on where the file of an earlier run ends. `scan` tells this scan from others.
    pub(crate) fn open(
        file: &Path,
        scan: String,
        places: usize,
    ) -> Result<(Self, Collection), Stop> {
        let mut collection = Collection::default();
        let mut progress: Vec<Progress> = (0..places).map(|_| Progress::default()).collect();
        match fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
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
                for (progress, before) in progress.iter_mut().zip(state.places) {
                    progress.before = before;
                }
            }
        }
        let journal = Self {
            file: file.to_owned(),
            scan,
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

    /// Notes that an input is done, and writes the file now and then.
    pub(crate) fn done(&mut self, ticket: Ticket, collection: &Collection) -> Result<(), Stop> {
        let place = &mut self.places[ticket.place];
        place.beyond.insert(ticket.number, ticket.name);
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
            places: self.places.iter().map(Progress::done).collect(),
            collection,
        };
        let temporary = self.file.with_extension("new");
        let written = serde_json::to_vec(&state)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&temporary, bytes))
            .and_then(|()| fs::rename(&temporary, &self.file));
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
