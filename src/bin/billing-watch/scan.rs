//! `billing-watch scan`: files are read side by side, their findings come together in one place.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use billing_watch::{
    alert::{AccountNames, Style},
    cloudtrail::{KeyKind, LogFileName, ScanLimits, classify_key},
    pipeline::Triage,
};
use jiff::Timestamp;

use crate::{
    Status, Stop, archive,
    arguments::{Format, ScanArguments},
    collection::{Collected, Collection},
    engine::{Engine, FileEnd, FileResult},
    inputs::{Input, Inputs},
    output,
    progress::Progress,
    report, rule_commands,
    s3::{self, Place},
    selection::Selection,
};

/// Inputs and results that wait for each thread.
const WAITING: usize = 4;

/// Runs the command.
pub(crate) fn scan(options: &ScanArguments) -> Result<Status, Stop> {
    // Before hours of work, not after them.
    for place in options.output.iter().chain(&options.report) {
        output::refuse_to_overwrite(place, options.force)?;
    }
    let engine = Arc::new(engine(options)?);
    let jobs = options.jobs.map_or_else(
        || thread::available_parallelism().map_or(1, usize::from),
        usize::from,
    );
    let (mut places, mut paths) = (Vec::new(), Vec::new());
    for path in &options.paths {
        match Place::parse(path) {
            Some(place) => places.push(place?),
            None => paths.push(path.clone()),
        }
    }
    // S3 would have to be listed twice to know the total.
    let is_counted = Progress::is_shown(options.quiet) && places.is_empty();
    let total = is_counted.then(|| count_files(&paths));
    let mut progress = Progress::new(options.quiet, total);
    let mut collection = Collection::default();
    let s3 = S3Work {
        places: &places,
        path_style: options.has_own_s3(),
    };
    read_all(&engine, &paths, &s3, jobs, |file| {
        progress.add(&file.name, file.bytes);
        if let Some(message) = collection.add(file) {
            progress.say(&format!("billing-watch: {message}"));
        }
    });
    progress.finish();
    let collected = collection.finish();
    write(options, &engine, &collected)?;
    if !options.quiet {
        eprint!("{}", output::summary_text(&collected.summary));
    }
    Ok(status(options, &collected))
}

fn status(options: &ScanArguments, collected: &Collected) -> Status {
    let worst = collected
        .found
        .iter()
        .map(|found| found.listing.level)
        .max();
    if options.fail_on.is_some_and(|level| worst >= Some(level)) {
        Status::Findings
    } else if collected.summary.files_failed > 0 {
        Status::Incomplete
    } else {
        Status::Done
    }
}

fn write(options: &ScanArguments, engine: &Engine, collected: &Collected) -> Result<(), Stop> {
    let text = match options.format {
        Format::Table => output::table(collected),
        Format::Text | Format::Ocsf => output::rendered(collected, options.format),
        Format::Json => output::json(collected),
        Format::Jsonl => output::json_lines(collected),
        Format::Csv => crate::sheet::csv(collected),
    };
    match &options.output {
        Some(place) => output::write(place, &text, options.force)?,
        None => output::print(&text)?,
    }
    if let Some(place) = &options.report {
        let page = report::page(collected, &engine.selection, engine.now);
        output::write(place, &page, options.force)?;
    }
    Ok(())
}

fn engine(options: &ScanArguments) -> Result<Engine, Stop> {
    let now = Timestamp::now();
    let pack = rule_commands::load(&options.rules)?;
    let watched = options.watched(pack.sources().iter().cloned());
    let since = match options.since {
        Some(age) => Some(
            now.checked_sub(age)
                .map_err(|error| Stop::usage(format!("--since: {error}")))?,
        ),
        None => None,
    };
    let selection = Selection {
        from: options.from.or(since),
        to: options.to,
        accounts: options.account.clone(),
        regions: options.region.clone(),
    };
    if let (Some(from), Some(to)) = (selection.from, selection.to)
        && from >= to
    {
        return Err(Stop::usage(format!(
            "nothing lies between --from ({from}) and --to ({to})"
        )));
    }
    Ok(Engine {
        candidates: Arc::new(pack.candidates().clone()),
        triage: Triage {
            pack,
            watched,
            minimum_level: options.minimum_level,
            batch_alerts: true,
        },
        limits: ScanLimits {
            expanded_bytes: options.max_expanded_bytes,
            ..ScanLimits::default()
        },
        selection,
        style: Style {
            withhold_values: !options.show_values,
            account_names: account_names(options.account_names.as_deref())?,
            time_zone: None,
        },
        format: options.format,
        now,
    })
}

/// Reads the names of accounts.
pub(crate) fn account_names(file: Option<&Path>) -> Result<AccountNames, Stop> {
    let Some(file) = file else {
        return Ok(AccountNames::default());
    };
    let text = fs::read_to_string(file)
        .map_err(|error| Stop::usage(format!("{} can't be read: {error}", file.display())))?;
    AccountNames::parse(&text).map_err(|error| Stop::usage(format!("{}: {error}", file.display())))
}

fn count_files(paths: &[PathBuf]) -> u64 {
    Inputs::new(paths).count() as u64
}

/// What is in S3.
struct S3Work<'a> {
    places: &'a [Place],
    path_style: bool,
}

/// Reads all inputs with so many threads. `take` gets each result, in any order.
fn read_all(
    engine: &Arc<Engine>,
    paths: &[PathBuf],
    s3: &S3Work<'_>,
    jobs: usize,
    mut take: impl FnMut(FileResult),
) {
    let (give, inputs) = mpsc::sync_channel::<Input>(jobs * WAITING);
    let inputs = Mutex::new(inputs);
    let (tell, results) = mpsc::sync_channel::<FileResult>(jobs * WAITING);
    thread::scope(|scope| {
        scope.spawn(move || {
            for input in Inputs::new(paths) {
                if give.send(input).is_err() {
                    break;
                }
            }
        });
        for _ in 0..jobs {
            let (tell, inputs) = (tell.clone(), &inputs);
            scope.spawn(move || {
                loop {
                    let next = inputs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(input) = next else { break };
                    read(engine, input, &|result| {
                        // The end of the receiver is the end of the program.
                        let _ = tell.send(result);
                    });
                }
            });
        }
        if !s3.places.is_empty() {
            let tell = tell.clone();
            scope.spawn(move || s3::read_all(engine, s3.places, jobs, s3.path_style, &tell));
        }
        drop(tell);
        for result in results {
            take(result);
        }
    });
}

/// Reads one input, which may hold several files.
fn read(engine: &Engine, input: Input, give: &dyn Fn(FileResult)) {
    match input {
        Input::Stdin => {
            give(engine.read(Path::new("standard input"), io::stdin().lock()));
        }
        Input::Archive(path) => {
            let each = |name: PathBuf, reader: &mut dyn Read| {
                give(match skip(engine, &name.to_string_lossy(), None, false) {
                    Some(skipped) => skipped,
                    None => engine.read(&name, reader),
                });
            };
            if let Err(error) = archive::each_file(&path, each) {
                give(failed(&path, &error.to_string()));
            }
        }
        Input::File { path, named } => {
            let skipped = skip(engine, &path.to_string_lossy(), None, named);
            give(skipped.unwrap_or_else(|| match File::open(&path) {
                Ok(file) => engine.read(&path, file),
                Err(error) => failed(&path, &error.to_string()),
            }));
        }
        Input::Broken(path, problem) => give(failed(&path, &problem)),
    }
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
