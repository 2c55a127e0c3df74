//! Reads CloudTrail records from standard input, one a line, and prints the id of each rule that matches
//! with the `eventID` of the record, before levels and filters. The optional rules count, too. The
//! test of the exported rules compares its searches with this.

use std::io::{BufRead as _, Write as _};

use billing_watch::{
    cloudtrail::Record,
    rules::{OptionalRules, RulePack},
};
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let optional: Vec<&str> = OptionalRules::known().collect();
    let pack = RulePack::load(&optional.join(",").parse()?, &[])?.pack;
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let record = Record::from_value(serde_json::from_str(&line?)?);
        let matched = pack.evaluate(&record, Timestamp::UNIX_EPOCH);
        for rule in matched.into_iter().flat_map(|matched| matched.rules) {
            let id = record.event_id().unwrap_or_default();
            writeln!(output, "{}\t{id}", rule.id)?;
        }
    }
    Ok(())
}
