//! The report: one HTML page that a manager can open, without a network.

use billing_watch::{
    alert::{Escaped, Listing},
    rules::Level,
};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use crate::{
    collection::{Collected, Summary},
    plot,
    selection::Selection,
    sheet,
};

const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// Rows of each of the small tables.
const TOP_ROWS: usize = 10;

/// The page. Every text in it is escaped by the template.
pub(crate) fn page(collected: &Collected, selection: &Selection, now: Timestamp) -> String {
    let summary = &collected.summary;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy());
                title { "Billing and ownership of AWS accounts: findings" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Changes to billing, ownership and contacts" }
                p.soft {
                    "Made by billing-watch " (env!("CARGO_PKG_VERSION")) " on " (day_and_time(now))
                    " from CloudTrail's log files. " (selected(selection))
                }
                (overview(summary))
                @if let Some(svg) = plot::timeline(&collected.found) {
                    h2 { "When" }
                    (PreEscaped(svg))
                }
                (top("By account", collected, account))
                (top("By actor", collected, |one| one.who.to_string()))
                (top("By rule", collected, |one| one.rule_title.to_string()))
                (gaps(summary))
                (findings(collected))
                (advice(collected))
                (coverage(summary))
                pre id="csv" hidden { (sheet::csv(collected)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Nothing is loaded, and no script runs but the page's own.
fn policy() -> String {
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        checksum(STYLE),
        checksum(SCRIPT)
    )
}

fn checksum(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(Sha256::digest(text))
}

fn selected(selection: &Selection) -> String {
    let mut parts = Vec::new();
    if let Some(from) = selection.from {
        parts.push(format!("from {}", day_and_time(from)));
    }
    if let Some(to) = selection.to {
        parts.push(format!("before {}", day_and_time(to)));
    }
    if !selection.accounts.is_empty() {
        parts.push(format!("accounts {}", selection.accounts.join(", ")));
    }
    if !selection.regions.is_empty() {
        parts.push(format!("Regions {}", selection.regions.join(", ")));
    }
    if parts.is_empty() {
        "All events in the files.".to_owned()
    } else {
        format!("Only events {}.", parts.join(", "))
    }
}

fn overview(summary: &Summary) -> Markup {
    html! {
        ul.cards {
            li { b { (summary.findings) } "findings" }
            @for level in Level::ALL.iter().rev() {
                @if let Some(count) = summary.findings_by_level.get(level.as_str()) {
                    li { b class={ "level " (level) } { (count) } (level) }
                }
            }
            li { b { (summary.files_read) } "files read" }
            @if summary.files_failed > 0 {
                li { b { (summary.files_failed) } "files failed" }
            }
        }
        @if summary.files_failed > 0 {
            p { strong { "This report is incomplete: " } "some files could not be read. They are listed at its end." }
        }
        @if let (Some(first), Some(last)) = (summary.first_finding, summary.last_finding) {
            p { "The first finding is of " (day_and_time(first)) ", the last of " (day_and_time(last)) "." }
        }
    }
}

/// The most frequent values of something, with their findings by level.
fn top(title: &str, collected: &Collected, value: impl Fn(&Listing) -> String) -> Markup {
    let mut counts = std::collections::BTreeMap::<String, (u64, Level)>::new();
    for found in &collected.found {
        let (count, level) = counts.entry(value(&found.listing)).or_default();
        *count += 1;
        *level = if *count == 1 {
            found.listing.level
        } else {
            (*level).max(found.listing.level)
        };
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by(|(a, (a_count, a_level)), (b, (b_count, b_level))| {
        (b_level, b_count, a).cmp(&(a_level, a_count, b))
    });
    let rest = counts.len().saturating_sub(TOP_ROWS);
    html! {
        @if !counts.is_empty() {
            h2 { (title) }
            div.scroll { table {
                thead { tr { th scope="col" { (title.trim_start_matches("By ")) } th scope="col" { "findings" } th scope="col" { "highest level" } } }
                tbody {
                    @for (value, (count, level)) in counts.iter().take(TOP_ROWS) {
                        tr { td { (value) } td { (count) } td { span class={ "level " (level) } { (level) } } }
                    }
                }
            } }
            @if rest > 0 { p.soft { "And " (rest) " more." } }
        }
    }
}

fn gaps(summary: &Summary) -> Markup {
    html! {
        h2 { "Days without any log file" }
        @if summary.gaps.is_empty() {
            p { "None, as far as the names of the files tell." }
        } @else {
            p { "Nothing is known of these days. Somebody may have stopped the trail." }
            div.scroll { table {
                thead { tr { th scope="col" { "account" } th scope="col" { "from" } th scope="col" { "to" } th scope="col" { "days" } } }
                tbody {
                    @for gap in &summary.gaps {
                        tr { td { (gap.account) } td { (gap.from) } td { (gap.to) } td { (gap.days) } }
                    }
                }
            } }
        }
    }
}

fn findings(collected: &Collected) -> Markup {
    html! {
        h2 { "Findings" }
        @if collected.found.is_empty() {
            p { "No findings." }
        } @else {
            div.controls {
                label { "Search" input id="search" type="search"; }
                label { "Level" select id="level" {
                    option value="" { "all" }
                    @for level in Level::ALL.iter().rev() { option { (level) } }
                } }
                button id="download" type="button" { "Download CSV" }
                span id="shown" role="status" { (collected.found.len()) " findings" }
            }
            div.scroll { table id="findings" {
                thead { tr {
                    @for column in ["Time (UTC)", "Level", "Event", "Outcome", "Account", "Who"] {
                        th scope="col" { button type="button" { (column) } }
                    }
                } }
                tbody {
                    @for found in &collected.found { (row(&found.listing)) }
                }
            } }
        }
    }
}

fn row(one: &Listing) -> Markup {
    let text = |text: &Option<Escaped>| {
        text.as_ref()
            .map_or_else(|| "unknown".to_owned(), Escaped::to_string)
    };
    html! {
        tr data-level=(one.level) {
            td { (one.event_time.map_or_else(|| "unknown".to_owned(), day_and_time)) }
            td data-key=(one.level as u8) { span class={ "level " (one.level) } { (one.level) } }
            td {
                details {
                    summary { (text(&one.event_name)) }
                    p { (one.headline) }
                    dl {
                        dt { "Source" } dd { (text(&one.event_source)) ", Region " (text(&one.region)) }
                        dt { "Actor" } dd { code { (text(&one.actor)) } " (" (one.actor_type) ")" }
                        dt { "From" } dd { (text(&one.address)) }
                        dt { "Agent" } dd { (text(&one.user_agent)) }
                        @if let Some(code) = &one.error_code { dt { "Error" } dd { (code) } }
                        dt { "Rule" } dd { a href={ "#rule-" (one.rule_id) } { (one.rule_title) } }
                        dt { "Event id" } dd { code { (text(&one.event_id)) } }
                        dt { "File" } dd { code { (text(&one.log_file)) } }
                        @if let Some(command) = &one.command { dt { "Look up" } dd { code { (command) } } }
                        @for (path, value) in &one.fields { dt { (path) } dd { (value) } }
                    }
                }
            }
            td { (one.outcome) }
            td { (account(one)) }
            td { (one.who_and_session()) }
        }
    }
}

fn advice(collected: &Collected) -> Markup {
    html! {
        @if !collected.advice.is_empty() {
            h2 { "What the rules advise" }
            @for rule in &collected.advice {
                section id={ "rule-" (rule.id) } {
                    h3 { (rule.title) " " span class={ "level " (rule.level) } { (rule.level) } }
                    p { (rule.description) }
                    @if !rule.response.is_empty() { ol { @for step in &rule.response { li { (step) } } } }
                    @if !rule.false_positives.is_empty() {
                        p { "Known benign causes:" }
                        ul { @for cause in &rule.false_positives { li { (cause) } } }
                    }
                }
            }
        }
    }
}

fn coverage(summary: &Summary) -> Markup {
    html! {
        h2 { "What was read" }
        dl {
            dt { "Files" } dd { (summary.files_read) " read, " (summary.files_failed) " failed" }
            @for (reason, count) in &summary.files_skipped { dt { "Skipped" } dd { (count) ": " (reason) } }
            dt { "Accounts" } dd { (list(&summary.accounts)) }
            dt { "Regions" } dd { (list(&summary.regions)) }
            dt { "Copies" } dd { (summary.duplicates) " findings were in more than one file, and count once" }
            @if summary.below_level > 0 { dt { "Below the level" } dd { (summary.below_level) } }
            @if summary.suppressed > 0 { dt { "Filtered" } dd { (summary.suppressed) } }
            @if summary.unwatched > 0 { dt { "Other sources" } dd { (summary.unwatched) } }
        }
        @if !summary.failures.is_empty() {
            p { "Files that could not be read:" }
            ul { @for failure in &summary.failures { li { code { (failure) } } } }
            @if summary.files_failed > summary.failures.len() as u64 {
                p.soft { "And " (summary.files_failed - summary.failures.len() as u64) " more." }
            }
        }
    }
}

fn list(texts: &[String]) -> String {
    match texts.len() {
        0 => "unknown: the files are not named like log files".to_owned(),
        1..=TOP_ROWS => texts.join(", "),
        more => format!(
            "{} and {} more",
            texts[..TOP_ROWS].join(", "),
            more - TOP_ROWS
        ),
    }
}

fn account(one: &Listing) -> String {
    match (&one.account, &one.account_name) {
        (Some(id), Some(name)) => format!("{id} ({name})"),
        (Some(id), None) => id.to_string(),
        _ => "unknown".to_owned(),
    }
}

fn day_and_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
