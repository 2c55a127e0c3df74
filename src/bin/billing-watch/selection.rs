//! Which files are read, and which findings count.

use billing_watch::cloudtrail::{LogFileName, Record};
use jiff::{Timestamp, ToSpan as _, civil::Date, tz::TimeZone};

/// Days that a file may come before its events, for clocks that differ.
pub(crate) const DAYS_BEFORE: i64 = 1;
/// Days that a file may come after its events: CloudTrail delivers late events, too.
pub(crate) const DAYS_AFTER: i64 = 30;

/// What the user wants to see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The first moment.
    pub(crate) from: Option<Timestamp>,
    /// The first moment that is too late.
    pub(crate) to: Option<Timestamp>,
    /// Empty for all.
    pub(crate) accounts: Vec<String>,
    /// Empty for all.
    pub(crate) regions: Vec<String>,
}

impl Selection {
    /// Whether a file of that name may hold events that are wanted. An event is delivered on its day or
    /// later. The account in the name is the one that recorded the event, which may be about another one,
    /// so only Region and date count.
    pub(crate) fn wants_file(&self, name: &LogFileName) -> bool {
        let (first, last) = self.days();
        let first = first.map(|first| shifted(first, -DAYS_BEFORE));
        let last = last.map(|last| shifted(last, DAYS_AFTER));
        let delivered = name.delivered_on;
        first.is_none_or(|first| delivered >= first)
            && last.is_none_or(|last| delivered <= last)
            && (self.regions.is_empty() || self.regions.contains(&name.region))
    }

    /// The first and the last day, in UTC.
    pub(crate) fn days(&self) -> (Option<Date>, Option<Date>) {
        let day = |time: Timestamp| time.to_zoned(TimeZone::UTC).date();
        let last_moment = |to: Timestamp| to.saturating_sub(1.nanosecond()).unwrap_or(to);
        (self.from.map(day), self.to.map(|to| day(last_moment(to))))
    }

    /// Whether a finding on the record is wanted. `file_account` stands for an account that it does not name.
    pub(crate) fn wants_record(&self, record: &Record, file_account: Option<&str>) -> bool {
        // A record without a time is shown rather than lost.
        let is_in_time = record.event_time().is_none_or(|time| {
            self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
        });
        let affected = record.affected_account();
        let account = affected.as_deref().or(file_account);
        is_in_time
            && (self.accounts.is_empty()
                || account.is_some_and(|id| self.accounts.iter().any(|wanted| wanted == id)))
            && (self.regions.is_empty()
                || record
                    .text("awsRegion")
                    .is_some_and(|region| self.regions.iter().any(|wanted| wanted == region)))
    }
}

fn shifted(date: Date, days: i64) -> Date {
    date.saturating_add(days.days())
}
