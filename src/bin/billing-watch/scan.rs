//! `billing-watch scan`: files are read side by side, their findings come together in one place.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use billing_watch::cloudtrail::{KeyKind, LogFileName, classify_key};
use clap::ColorChoice;

use crate::{
    Status, Stop, archive,
    arguments::ScanArguments,
    collection::Collection,
    engine::{Engine, FileEnd, FileResult},
    inputs::{Input, Inputs},
    progress::Progress,
    result,
    resume::{Done, Journal, Ticket},
    s3::{self, Place},
};

/// How long a result is waited for before a look at Ctrl-C.
const LOOK_UP: Duration = Duration::from_millis(200);
/// The exit status of a program that Ctrl-C ended, as shells know it.
const INTERRUPTED: i32 = 130;

/// Runs the command.
pub(crate) fn scan(options: &ScanArguments, color: ColorChoice) -> Result<Status, Stop> {
    let engine = Arc::new(result::engine(&options.result)?);
    let quiet = options.result.quiet;
    let (mut buckets, mut paths) = (Vec::new(), Vec::new());
    for path in &options.paths {
        match Place::parse(path) {
            Some(place) => buckets.push(place?),
            None => paths.push(path.clone()),
        }
    }
    let (mut journal, mut collection) = match &options.resume {
        Some(file) => {
            let places = paths.len() + buckets.len();
            let (journal, collection) = Journal::open(file, identity(options, &engine), places)?;
            (Some(journal), collection)
        }
        None => (None, Collection::default()),
    };
    // S3 would have to be listed twice to know the total.
    let is_counted = Progress::is_shown(quiet) && buckets.is_empty();
    let total = is_counted.then(|| count_files(&paths));
    let mut progress = Progress::new(quiet, total);
    let work = Work {
        done: journal.as_ref().map_or_else(
            || vec![Done::default(); paths.len() + buckets.len()],
            Journal::before,
        ),
        is_resumable: journal.is_some(),
        paths,
        buckets,
        path_style: options.result.s3.is_own(),
    };
    let interrupted = interruption(work.is_resumable)?;
    read_all(&engine, &work, options.result.jobs(), |file| {
        if interrupted.load(Ordering::Relaxed)
            && let Some(journal) = &journal
        {
            journal.write(&collection)?;
            progress.finish();
            eprintln!("billing-watch: interrupted; repeat the command to go on");
            std::process::exit(INTERRUPTED);
        }
        let Some(mut file) = file else { return Ok(()) };
        let ticket = file.ticket.take();
        if let (Some(journal), None, FileEnd::Failed(problem)) = (&journal, &ticket, &file.end) {
            // No input but a listing: what it would have given is to be found when the command is repeated.
            journal.write(&collection)?;
            progress.finish();
            return Err(Stop {
                message: format!("{}: {problem}; repeat the command to go on", file.name),
                status: Status::Incomplete,
            });
        }
        result::take(file, &mut collection, &mut progress);
        match (&mut journal, ticket) {
            (Some(journal), Some(ticket)) => journal.done(ticket, &collection),
            _ => Ok(()),
        }
    });
    progress.finish();
    if let Some(journal) = &journal {
        // If the output can't be written, the work was not in vain.
        journal.write(&collection)?;
    }
    let status = result::conclude(&options.result, &engine, collection, color)?;
    if let Some(journal) = &journal {
        journal.remove()?;
    }
    Ok(status)
}

/// Returns whether somebody has pressed Ctrl-C, for a scan that then has something to note. Any other
/// ends at once.
fn interruption(is_resumable: bool) -> Result<Arc<AtomicBool>, Stop> {
    let flag = Arc::new(AtomicBool::new(false));
    if is_resumable {
        let raised = Arc::clone(&flag);
        ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed))
            .map_err(|error| Stop::usage(format!("Ctrl-C can't be handled: {error}")))?;
    }
    Ok(flag)
}

/// What tells this scan from others: everything that its result depends on.
fn identity(options: &ScanArguments, engine: &Engine) -> String {
    let result = &options.result;
    format!(
        "{:?} {:?} {:?} {:?} {} {:?} {} {:?}",
        options.paths,
        result.dates.from,
        result.dates.to,
        result.dates.since,
        result.minimum_level,
        (
            &result.account,
            &result.region,
            &result.event_source,
            result.format
        ),
        engine.triage.pack.identity(engine.now).digest,
        (
            result.show_values,
            &result.account_names,
            result.max_expanded_bytes
        ),
    )
}

fn count_files(paths: &[PathBuf]) -> u64 {
    Inputs::new(paths).count() as u64
}

/// What is to be read, and what of it was read before.
struct Work {
    paths: Vec<PathBuf>,
    buckets: Vec<Place>,
    /// Of each of the paths, and then of each of the buckets.
    done: Vec<Done>,
    is_resumable: bool,
    path_style: bool,
}

/// Reads all inputs with so many threads. `take` gets each result, in any order, and nothing now and then.
fn read_all(
    engine: &Arc<Engine>,
    work: &Work,
    jobs: usize,
    mut take: impl FnMut(Option<FileResult>) -> Result<(), Stop> + Send,
) {
    let take = Mutex::new(|file| {
        if let Err(stop) = take(file) {
            // The threads would go on with what is of no use.
            eprintln!("billing-watch: {}", stop.message);
            std::process::exit(stop.status as i32);
        }
    });
    // A queue between the threads would cost more than most files.
    let tell = |file| lock(&take)(Some(file));
    let inputs = Mutex::new(list(work));
    let (running, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (running, inputs, tell) = (running.clone(), &inputs, &tell);
            scope.spawn(move || {
                let _running = running;
                loop {
                    let next = lock(inputs).next();
                    let Some((input, ticket)) = next else { break };
                    read(engine, input, ticket, work.is_resumable, tell);
                }
            });
        }
        if !work.buckets.is_empty() {
            let (running, tell) = (running.clone(), &tell);
            let (buckets, done) = (&work.buckets, &work.done[work.paths.len()..]);
            let first = work.paths.len();
            scope.spawn(move || {
                let _running = running;
                s3::read_all(engine, buckets, done, first, jobs, work.path_style, tell);
            });
        }
        drop(running);
        while ended.recv_timeout(LOOK_UP) == Err(RecvTimeoutError::Timeout) {
            lock(&take)(None);
        }
    });
}

/// A thread that panicked has ended the program.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The inputs that no earlier run has done.
fn list(work: &Work) -> impl Iterator<Item = (Input, Ticket)> + Send {
    work.paths
        .iter()
        .enumerate()
        .flat_map(move |(place, path)| {
            let mut number = 0;
            Inputs::new(std::slice::from_ref(path)).filter_map(move |input| {
                let name = input.place_in_order();
                if work.done[place].includes(&name, |a, b| Path::new(a) > Path::new(b)) {
                    return None;
                }
                let ticket = Ticket {
                    place,
                    number,
                    name,
                };
                number += 1;
                Some((input, ticket))
            })
        })
}

/// Reads one input, which may hold several files. The last result has the ticket.
fn read(
    engine: &Engine,
    input: Input,
    ticket: Ticket,
    is_resumable: bool,
    give: &(dyn Fn(FileResult) + Sync),
) {
    let last = match input {
        Input::Stdin => engine.read(Path::new("standard input"), io::stdin().lock()),
        Input::Archive(path) => read_archive(engine, &path, is_resumable, give),
        Input::File { path, named } => skip(engine, &path.to_string_lossy(), None, named)
            .unwrap_or_else(|| match File::open(&path) {
                Ok(file) => engine.read(&path, file),
                Err(error) => failed(&path, &error.to_string()),
            }),
        Input::Broken(path, problem) => failed(&path, &problem),
    };
    give(FileResult {
        ticket: Some(ticket),
        ..last
    });
}

/// Reads an archive. Returns the result of its last file. Of a scan that may be resumed an archive counts
/// whole or not at all.
fn read_archive(
    engine: &Engine,
    path: &Path,
    is_resumable: bool,
    give: &(dyn Fn(FileResult) + Sync),
) -> FileResult {
    let mut held = Vec::new();
    let read = archive::each_file(path, |name, reader| {
        held.push(
            skip(engine, &name.to_string_lossy(), None, false)
                .unwrap_or_else(|| engine.read(&name, reader)),
        );
        if !is_resumable && held.len() > 1 {
            give(held.remove(0));
        }
    });
    if let Err(error) = read {
        held.push(failed(path, &error.to_string()));
    }
    let last = held.pop();
    held.into_iter().for_each(give);
    last.unwrap_or_else(|| FileResult {
        name: path.to_string_lossy().into_owned(),
        end: FileEnd::Skipped("empty"),
        ..FileResult::default()
    })
}

/// What becomes of a file that is not read, because of its name and perhaps its size in bytes.
pub(crate) fn skip(
    engine: &Engine,
    name: &str,
    size: Option<u64>,
    named: bool,
) -> Option<FileResult> {
    let log_file = LogFileName::parse(name);
    let reason = match (&log_file, classify_key(&name.replace('\\', "/"), size)) {
        (Some(log_file), _) if !engine.selection.wants_file(log_file) => "outside of the selection",
        (None, KeyKind::Other(_)) if !named => "not a log file by its name",
        _ => return None,
    };
    Some(FileResult {
        name: name.to_owned(),
        log_file,
        end: FileEnd::Skipped(reason),
        ..FileResult::default()
    })
}

fn failed(path: &Path, problem: &str) -> FileResult {
    FileResult {
        name: path.to_string_lossy().into_owned(),
        end: FileEnd::Failed(problem.to_owned()),
        ..FileResult::default()
    }
}
