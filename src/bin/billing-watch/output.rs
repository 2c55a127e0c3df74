//! The result in each format, and where it goes.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    path::Path,
};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use billing_watch::{alert::Escaped, rules::Level};
use clap::ColorChoice;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Value, json};

use crate::{
    Stop,
    arguments::Format,
    collection::{Collected, Summary},
    engine::Found,
};

/// Between two alerts.
pub(crate) const SEPARATOR: &str = concat!(
    "\n────────────────────────────────────────────",
    "────────────────────────────────\n"
);
/// Most gaps that the summary on standard error lists.
const LISTED_GAPS: usize = 10;

/// Prints to standard output. Whoever reads it may stop reading.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Stop::output(&error, "standard output"))
}

/// Lines of a label and what it is about. What others have said is shown without what a terminal would
/// execute.
pub(crate) fn labelled(lines: &[(&str, String)]) -> String {
    lines.iter().fold(String::new(), |mut all, (label, text)| {
        let label = format!("{label}:");
        // Writing to a string can't fail.
        let _ = writeln!(all, "{label:<11}{}", without_controls(text));
        all
    })
}

/// A text without what a terminal would execute; its lines stay.
pub(crate) fn without_controls(text: &str) -> String {
    let visible = |character: char| match character {
        '\n' => '\n',
        character if character.is_control() => '?',
        character => character,
    };
    text.chars().map(visible).collect()
}

/// Refuses a place that exists, or whose folder does not.
pub(crate) fn refuse_to_overwrite(place: &Path, force: bool) -> Result<(), Stop> {
    let folder = place
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        let (place, folder) = (place.display(), folder.display());
        return Err(Stop::usage(format!(
            "{place} can't be written: there is no folder {folder}"
        )));
    }
    if !force && place.exists() {
        return Err(Stop::usage(format!(
            "{} exists; give another name, or --force to overwrite it",
            place.display()
        )));
    }
    Ok(())
}

/// Writes a file.
pub(crate) fn write(place: &Path, text: &str, force: bool) -> Result<(), Stop> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let shown = place.display().to_string();
    let written = options.open(place).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        // A full disk shows here at the latest.
        file.sync_all().or_else(ignore_unsupported)
    });
    written.map_err(|error| Stop::output(&error, &shown))
}

/// A pipe or a device has nothing to synchronize.
fn ignore_unsupported(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(()),
        _ => Err(error),
    }
}

/// Whether text is coloured: as the user says, else where a terminal shows it and wants it.
pub(crate) fn is_coloured(choice: ColorChoice, to_standard_output: bool) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            to_standard_output && AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
        }
    }
}

/// How a line of a level is shown.
fn style(level: Level) -> Style {
    match level {
        Level::Critical => AnsiColor::Red.on_default().bold(),
        Level::High => AnsiColor::Red.on_default(),
        Level::Medium => AnsiColor::Yellow.on_default(),
        Level::Low | Level::Informational => Style::new(),
    }
}

/// One line for each finding.
pub(crate) fn table(collected: &Collected, coloured: bool) -> String {
    if collected.found.is_empty() {
        return "No findings.\n".to_owned();
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "TIME (UTC)",
            "LEVEL",
            "EVENT",
            "OUTCOME",
            "ACCOUNT",
            "WHO",
            "FROM",
        ]);
    for found in &collected.found {
        let one = &found.listing;
        let time = one.event_time.map_or_else(
            || "unknown".to_owned(),
            |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        );
        let account = match (&one.account, &one.account_name) {
            (Some(id), Some(name)) => format!("{id} ({name})"),
            (Some(id), None) => id.to_string(),
            _ => "unknown".to_owned(),
        };
        table.add_row([
            time,
            one.level.to_string(),
            shown(one.event_name.as_ref()),
            one.outcome.clone(),
            account,
            one.who_and_session(),
            shown(one.address.as_ref()),
        ]);
    }
    let lines = table.to_string();
    let header = [Style::new().bold()];
    let levels = collected.found.iter().map(|one| style(one.listing.level));
    let styles = header.into_iter().chain(levels);
    let mut text = String::new();
    for (line, style) in lines.lines().zip(styles) {
        let style = if coloured { style } else { Style::new() };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{style}{}{style:#}", line.trim());
    }
    text
}

/// Each finding as an alert shows it.
pub(crate) fn rendered(collected: &Collected, format: Format) -> String {
    let texts: Vec<&str> = collected
        .found
        .iter()
        .filter_map(|found| found.rendered.as_deref())
        .collect();
    match format {
        Format::Text if texts.is_empty() => "No findings.\n".to_owned(),
        Format::Text => texts.join(SEPARATOR),
        _ => lines(texts.into_iter().map(str::to_owned)),
    }
}

/// One document.
pub(crate) fn json(collected: &Collected) -> String {
    let listings: Vec<Value> = collected.found.iter().map(object).collect();
    let document = json!({"summary": collected.summary, "findings": listings});
    format!("{document:#}\n")
}

/// One object on each line.
pub(crate) fn json_lines(collected: &Collected) -> String {
    lines(
        collected
            .found
            .iter()
            .map(|found| object(found).to_string()),
    )
}

/// A finding as docs/finding.schema.json describes it.
fn object(found: &Found) -> Value {
    let mut object = json!(found.listing);
    if let Value::Object(members) = &mut object {
        // What the report shows beside it.
        for name in ["headline", "fields", "command"] {
            members.remove(name);
        }
    }
    object
}

fn lines(texts: impl Iterator<Item = String>) -> String {
    texts.map(|text| text + "\n").collect()
}

fn shown(text: Option<&Escaped>) -> String {
    text.map_or_else(|| "unknown".to_owned(), Escaped::to_string)
}

/// A number of things, in words.
pub(crate) fn counted(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// What a careful person asks, as a text.
pub(crate) fn summary_text(summary: &Summary) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{label:<14}{value}");
    };
    line(
        "Files:",
        format!(
            "{} read, {} skipped, {} failed",
            summary.files_read,
            summary.files_skipped.values().sum::<u64>(),
            summary.files_failed
        ),
    );
    for (reason, count) in &summary.files_skipped {
        line("", format!("{count} skipped: {reason}"));
    }
    line(
        "Findings:",
        match summary.findings {
            0 => "none".to_owned(),
            count => {
                let levels = Level::ALL.iter().rev().filter_map(|level| {
                    let count = summary.findings_by_level.get(level.as_str())?;
                    Some(format!("{count} {level}"))
                });
                format!("{count}: {}", levels.collect::<Vec<_>>().join(", "))
            }
        },
    );
    if let (Some(first), Some(last)) = (summary.first_finding, summary.last_finding) {
        line("", format!("the first on {first}, the last on {last}"));
    }
    for (count, what) in [
        (summary.duplicates, "copies of findings, which count once"),
        (summary.below_level, "below the minimum level"),
        (summary.suppressed, "suppressed by filters"),
        (
            summary.unwatched,
            "of sources that are not watched (--event-source)",
        ),
        (
            summary.unselected,
            "outside of the selected time, accounts and Regions",
        ),
    ] {
        if count > 0 {
            line("", format!("{count} more: {what}"));
        }
    }
    if !summary.accounts.is_empty() {
        line(
            "Seen:",
            format!(
                "{} and {}, by the names of the files",
                counted(summary.accounts.len(), "account"),
                counted(summary.regions.len(), "Region")
            ),
        );
    }
    for gap in summary.gaps.iter().take(LISTED_GAPS) {
        line(
            "No files:",
            format!(
                "account {}, {} to {} ({})",
                gap.account,
                gap.from,
                gap.to,
                counted(gap.days, "day")
            ),
        );
    }
    if summary.gaps.len() > LISTED_GAPS {
        line(
            "",
            format!("and {} more gaps", summary.gaps.len() - LISTED_GAPS),
        );
    }
    if summary.files_failed > 0 {
        line(
            "Incomplete:",
            "findings in the files that failed are missing".to_owned(),
        );
    }
    text
}
