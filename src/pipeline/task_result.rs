//! The result of an S3 Batch Operations task: what the job's completion report says of its findings.

use std::{cmp::Reverse, collections::BTreeSet, fmt};

use crate::{
    alert::Escaped,
    rules::{Finding, Level},
};

/// Most findings that a result lists.
const LISTED_FINDINGS: usize = 20;

/// How many findings a task has, and those of the highest level in words.
#[derive(Debug, Default)]
pub(super) struct TaskResult {
    count: u64,
    highest: BTreeSet<(Reverse<Level>, String)>,
}

impl TaskResult {
    pub(super) fn add(&mut self, finding: &Finding) {
        self.count += 1;
        let record = &finding.record;
        let words = format!(
            "{} {} {} {}",
            finding.level(),
            Escaped::name(record.text("eventName").unwrap_or("unnamed event"), 64),
            record.outcome(),
            Escaped::name(record.event_id().unwrap_or("without event id"), 64)
        );
        self.list((Reverse(finding.level()), words));
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.count += other.count;
        for listed in &other.highest {
            self.list(listed.clone());
        }
    }

    fn list(&mut self, listed: (Reverse<Level>, String)) {
        self.highest.insert(listed);
        if self.highest.len() > LISTED_FINDINGS {
            self.highest.pop_last();
        }
    }
}

impl fmt::Display for TaskResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("no findings");
        }
        let listed: Vec<&str> = self
            .highest
            .iter()
            .map(|(_, words)| words.as_str())
            .collect();
        let plural = if self.count == 1 { "" } else { "s" };
        write!(f, "{} finding{plural}: {}", self.count, listed.join(", "))?;
        if self.count > listed.len() as u64 {
            f.write_str(", …")?;
        }
        Ok(())
    }
}
