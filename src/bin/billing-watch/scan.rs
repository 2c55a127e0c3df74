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
    Status, Stop,
    archive::{self, Part},
    arguments::ScanArguments,
    collection::Collection,
    engine::{Engine, FileEnd, FileResult},
    inputs::{Input, Inputs},
    output,
    progress::Progress,
    result,
    resume::{Done, Earlier, Journal, Ticket},
    s3::{self, Place},
};

/// How long a result is waited for before a look at Ctrl-C.
const LOOK_UP: Duration = Duration::from_millis(200);
/// The exit status of a program that Ctrl-C ended, as shells know it.
const INTERRUPTED: i32 = 130;

/// Runs the command.
pub(crate) fn scan(options: &ScanArguments, color: ColorChoice) -> Result<Status, Stop> {
    let mut engine = result::engine(&options.result)?;
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
            let scan = identity(options, &engine)?;
            let (journal, collection) =
                Journal::open(file, scan, &mut engine.selection.from, places)?;
            (Some(journal), collection)
        }
        None => (None, Collection::default()),
    };
    let engine = Arc::new(engine);
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
    };
    let interrupted = interruption(work.is_resumable)?;
    // What storage did not give to a scan that may be resumed, and so is no part of what was done.
    let mut unread: Vec<FileResult> = Vec::new();
    read_all(&engine, &work, options.result.jobs(), |files| {
        if interrupted.load(Ordering::Relaxed)
            && let Some(journal) = &journal
        {
            journal.write(&collection)?;
            progress.finish();
            eprintln!("billing-watch: interrupted; repeat the command to go on");
            std::process::exit(INTERRUPTED);
        }
        for mut file in files {
            let Some(journal) = &mut journal else {
                result::take(file, &mut collection, &mut progress);
                continue;
            };
            if let FileEnd::NotListed(problem) = &file.end {
                journal.write(&collection)?;
                progress.finish();
                return Err(Stop {
                    message: format!("{}: {problem}; repeat the command to go on", file.name),
                    status: Status::Incomplete,
                });
            }
            match (file.ticket.take(), &file.end) {
                (Some(ticket), FileEnd::Unread(_)) => {
                    unread.push(file);
                    journal.again(ticket, &collection)?;
                }
                (ticket, _) => {
                    result::take(file, &mut collection, &mut progress);
                    if let Some(ticket) = ticket {
                        journal.done(ticket, &collection)?;
                    }
                }
            }
        }
        Ok(())
    });
    if let Some(journal) = &journal {
        // If the output can't be written, the work was not in vain.
        journal.write(&collection)?;
    }
    for file in unread {
        result::take(file, &mut collection, &mut progress);
    }
    progress.finish();
    let status = result::conclude(&options.result, &engine, collection, color)?;
    match &journal {
        Some(journal) if journal.is_complete() => journal.remove()?,
        Some(_) => eprintln!(
            "billing-watch: some files could not be fetched; repeat the command, with --force if it \
             writes files, to try them again"
        ),
        None => {}
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
fn identity(options: &ScanArguments, engine: &Engine) -> Result<String, Stop> {
    let result = &options.result;
    let folder = std::env::current_dir()
        .map_err(|error| Stop::usage(format!("the working directory: {error}")))?;
    Ok(format!(
        "{} {:?} {:?} {:?} {:?} {} {:?} {} {:?}",
        folder.display(),
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
    ))
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
}

/// Reads all inputs with so many threads. `take` gets the results of each input, in any order, and nothing now
/// and then.
fn read_all(
    engine: &Arc<Engine>,
    work: &Work,
    jobs: usize,
    mut take: impl FnMut(Vec<FileResult>) -> Result<(), Stop> + Send,
) {
    let take = Mutex::new(|files| {
        if let Err(stop) = take(files) {
            // The threads would go on with what is of no use.
            eprintln!("billing-watch: {}", output::without_controls(&stop.message));
            std::process::exit(stop.status as i32);
        }
    });
    // A queue between the threads would cost more than most files.
    let tell = |files| lock(&take)(files);
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
                s3::read_all(engine, buckets, done, first, jobs, tell);
            });
        }
        drop(running);
        while ended.recv_timeout(LOOK_UP) == Err(RecvTimeoutError::Timeout) {
            tell(Vec::new());
        }
    });
}

/// A thread that panicked has ended the program.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The inputs that no earlier run has done.
fn list(work: &Work) -> impl Iterator<Item = (Input, Ticket)> + Send {
    work.paths
        .iter()
        .enumerate()
        .flat_map(move |(place, path)| {
            let mut count = 0;
            Inputs::new(std::slice::from_ref(path)).filter_map(move |input| {
                let name = input.place_in_order();
                let is_after = |a: &str, b: &str| Path::new(a) > Path::new(b);
                let number = match work.done[place].of(&name, is_after) {
                    Earlier::Done => return None,
                    Earlier::Tried => None,
                    Earlier::Nothing => {
                        count += 1;
                        Some(count - 1)
                    }
                };
                let ticket = Ticket {
                    place,
                    number,
                    name,
                };
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
    give: &impl Fn(Vec<FileResult>),
) {
    let mut results = match input {
        Input::Stdin => vec![engine.read(Path::new("standard input"), io::stdin().lock())],
        Input::Archive(path) => read_archive(engine, &path, is_resumable, give),
        Input::File { path, named } => {
            let skipped = skip(engine, &path.to_string_lossy(), None, named);
            vec![skipped.unwrap_or_else(|| match File::open(&path) {
                Ok(file) => engine.read(&path, file),
                Err(error) => {
                    FileResult::ended(path.to_string_lossy(), FileEnd::Unread(error.to_string()))
                }
            })]
        }
        Input::Broken(path, problem) => vec![FileResult::ended(
            path.to_string_lossy(),
            FileEnd::Failed(problem),
        )],
    };
    if let Some(last) = results.last_mut() {
        last.ticket = Some(ticket);
    }
    give(results);
}

/// Reads an archive. Returns the results that are still to be given, at least one. Of a scan that may be
/// resumed an archive counts whole or not at all.
fn read_archive(
    engine: &Engine,
    path: &Path,
    is_resumable: bool,
    give: &impl Fn(Vec<FileResult>),
) -> Vec<FileResult> {
    let mut held = Vec::new();
    let read = archive::each_part(path, |part| {
        let mut result = match part {
            Part::File(name, reader) => skip(engine, &name.to_string_lossy(), None, false)
                .unwrap_or_else(|| engine.read(&name, reader)),
            Part::Other(name) => FileResult::ended(
                name.to_string_lossy(),
                FileEnd::Skipped("no plain file in an archive"),
            ),
        };
        // It is not tried again by itself.
        if let FileEnd::Unread(problem) = result.end {
            result.end = FileEnd::Failed(problem);
        }
        held.push(result);
        if !is_resumable && held.len() > 1 {
            give(vec![held.remove(0)]);
        }
    });
    if let Err(error) = read {
        held.push(FileResult::ended(
            path.to_string_lossy(),
            FileEnd::Failed(error.to_string()),
        ));
    } else if held.is_empty() {
        held.push(FileResult::ended(
            path.to_string_lossy(),
            FileEnd::Skipped("empty"),
        ));
    }
    held
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
        log_file,
        ..FileResult::ended(name, FileEnd::Skipped(reason))
    })
}
