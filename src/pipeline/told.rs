//! What the completion report of an S3 Batch Operations job says of a task's findings.

use std::{cmp::Reverse, collections::BTreeSet, fmt};

use crate::{
    alert::escape::clean,
    rules::{Finding, Level},
};

/// Most findings that are named.
const NAMED: usize = 20;

/// How many findings there are, and the gravest of them in words.
#[derive(Debug, Default)]
pub(super) struct Told {
    count: u64,
    gravest: BTreeSet<(Reverse<Level>, String)>,
}

impl Told {
    pub(super) fn add(&mut self, finding: &Finding) {
        self.count += 1;
        let record = &finding.record;
        let words = format!(
            "{} {} {} {}",
            finding.level(),
            clean(record.text("eventName").unwrap_or("unnamed event"), 64),
            record.outcome(),
            clean(record.event_id().unwrap_or("without event id"), 64)
        );
        self.keep((Reverse(finding.level()), words));
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.count += other.count;
        for named in &other.gravest {
            self.keep(named.clone());
        }
    }

    fn keep(&mut self, named: (Reverse<Level>, String)) {
        self.gravest.insert(named);
        if self.gravest.len() > NAMED {
            self.gravest.pop_last();
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("no findings");
        }
        let named: Vec<&str> = self
            .gravest
            .iter()
            .map(|(_, words)| words.as_str())
            .collect();
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} finding{plural}: {}", self.count, named.join(", "))?;
        if self.count > named.len() as u64 {
            f.write_str(", …")?;
        }
        Ok(())
    }
}
