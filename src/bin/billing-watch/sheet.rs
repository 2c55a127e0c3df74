//! Comma-separated values, for spreadsheets.

use billing_watch::alert::{Escaped, Listing};

use crate::collection::Collected;

/// The columns.
const COLUMNS: [&str; 19] = [
    "event_time",
    "level",
    "event_name",
    "event_source",
    "region",
    "account",
    "account_name",
    "who",
    "session",
    "actor_type",
    "actor",
    "outcome",
    "error_code",
    "address",
    "user_agent",
    "event_id",
    "rule_id",
    "rule_title",
    "log_file",
];

/// The findings as a sheet.
pub(crate) fn csv(collected: &Collected) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory can't fail.
    let _ = writer.write_record(COLUMNS);
    for found in &collected.found {
        let _ = writer.write_record(row(&found.listing).map(|cell| inert(&cell)));
    }
    let bytes = writer.into_inner().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn row(one: &Listing) -> [String; COLUMNS.len()] {
    let text = |text: &Option<Escaped>| text.as_ref().map_or_else(String::new, Escaped::to_string);
    [
        one.event_time
            .map_or_else(String::new, |time| time.to_string()),
        one.level.to_string(),
        text(&one.event_name),
        text(&one.event_source),
        text(&one.region),
        text(&one.account),
        text(&one.account_name),
        one.who.to_string(),
        text(&one.session),
        one.actor_type.to_string(),
        text(&one.actor),
        one.outcome.clone(),
        text(&one.error_code),
        text(&one.address),
        text(&one.user_agent),
        text(&one.event_id),
        one.rule_id.to_string(),
        one.rule_title.to_string(),
        text(&one.log_file),
    ]
}

/// A cell that no spreadsheet takes for a formula, whichever character separates cells where it is opened.
/// See <https://owasp.org/www-community/attacks/CSV_Injection>.
pub(crate) fn inert(cell: &str) -> String {
    let mut safe = String::with_capacity(cell.len());
    let mut begins = true;
    for character in cell.chars() {
        let is_separator = matches!(character, ';' | ',' | '|' | '\t' | '\r' | '\n');
        if begins
            && (matches!(character, '=' | '+' | '-' | '@') || (is_separator && safe.is_empty()))
        {
            safe.push('\'');
        }
        // Quotes and spaces do not keep a formula from being one.
        begins = is_separator || (begins && matches!(character, '"' | ' '));
        safe.push(character);
    }
    safe
}
