//! The result of looking through log files: what is asked for, and what becomes of it.

use std::{fs, path::Path, sync::Arc};

use billing_watch::{
    alert::{AccountNames, Style},
    cloudtrail::ScanLimits,
    pipeline::Triage,
};
use clap::ColorChoice;
use jiff::Timestamp;

use crate::{
    Status, Stop,
    arguments::{Format, ResultArguments},
    collection::{Collected, Collection},
    engine::{Engine, FileResult},
    output,
    progress::Progress,
    report, rule_commands,
    selection::Selection,
};

/// Takes what became of a file.
pub(crate) fn take(file: FileResult, collection: &mut Collection, progress: &mut Progress) {
    progress.add(&file.name, file.bytes);
    if let Some(message) = collection.add(file) {
        progress.say(&format!("billing-watch: {message}"));
    }
}

/// Writes the result, and returns how the program ends.
pub(crate) fn conclude(
    options: &ResultArguments,
    engine: &Engine,
    collection: Collection,
    color: ColorChoice,
) -> Result<Status, Stop> {
    let collected = collection.finish(&engine.selection);
    write(options, engine, &collected, color)?;
    if !options.quiet {
        eprint!("{}", output::summary_text(&collected.summary));
    }
    Ok(status(options, &collected))
}

fn status(options: &ResultArguments, collected: &Collected) -> Status {
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

fn write(
    options: &ResultArguments,
    engine: &Engine,
    collected: &Collected,
    color: ColorChoice,
) -> Result<(), Stop> {
    if let Some(place) = &options.report {
        let page = report::page(collected, &engine.selection, engine.now);
        output::write(place, &page, options.force)?;
    }
    let text = match options.format {
        Format::Table => output::table(
            collected,
            output::is_coloured(color, options.output.is_none()),
        ),
        Format::Text | Format::Ocsf => output::rendered(collected, options.format),
        Format::Json => output::json(collected),
        Format::Jsonl => output::json_lines(collected),
        Format::Csv => crate::sheet::csv(collected),
    };
    match &options.output {
        Some(place) => output::write(place, &text, options.force)?,
        // Whoever reads it may have stopped, which changes nothing else.
        None => match output::print(&text) {
            Err(stop) if stop.status == Status::Done => {}
            printed => printed?,
        },
    }
    Ok(())
}

/// What reads files as the options say.
pub(crate) fn engine(options: &ResultArguments) -> Result<Engine, Stop> {
    // Before hours of work, not after them.
    for place in options.output.iter().chain(&options.report) {
        output::refuse_to_overwrite(place, options.force)?;
    }
    if options.output.is_some() && options.output == options.report {
        return Err(Stop::usage("--output and --report name the same file"));
    }
    let now = Timestamp::now();
    let pack = rule_commands::load(&options.rules)?;
    let watched = options.watched(pack.sources().iter().cloned());
    let (from, to) = options.dates.span(now)?;
    let selection = Selection {
        from,
        to,
        accounts: options.account.clone(),
        regions: options.region.clone(),
    };
    Ok(Engine {
        candidates: Arc::new(pack.candidates().clone()),
        triage: Triage {
            pack,
            watched,
            minimum_level: options.minimum_level,
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
