//! The timeline of a report: findings by day or month, one colour a level.

use std::collections::BTreeMap;

use billing_watch::rules::Level;
use jiff::{ToSpan as _, Unit, civil::Date, tz::TimeZone};
use svg::{
    Document, Node as _,
    node::element::{Group, Line, Rectangle, Text, Title},
};

use crate::engine::Found;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 24.0;
const TOP: f64 = 12.0;
/// A day alone does not fill the plot.
const MOST_BAR_WIDTH: f64 = 24.0;
/// With more days than this a bar is a month.
const MOST_DAYS: i64 = 120;

/// The plot as SVG, or `None` if no finding has a time.
pub(crate) fn timeline(found: &[Found]) -> Option<String> {
    let counts = by_day(found);
    let (first, last) = (*counts.keys().next()?, *counts.keys().next_back()?);
    let monthly = days_between(first, last) > MOST_DAYS;
    let bars = bars(&counts, first, last, monthly);
    let most = bars
        .iter()
        .map(|(_, levels)| levels.values().sum::<u32>())
        .max()?;
    let step = (WIDTH - LEFT) / f64::from(u32::try_from(bars.len()).ok()?);
    let height_of = |count: u32| (HEIGHT - BOTTOM - TOP) * f64::from(count) / f64::from(most);
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, HEIGHT))
        .set("role", "img")
        .set("aria-labelledby", "timeline-title")
        .add(Title::new("Findings over time, by level").set("id", "timeline-title"))
        .add(axis(most));
    for (index, (day, levels)) in bars.iter().enumerate() {
        let x = LEFT + step * f64::from(u32::try_from(index).ok()?);
        let mut bar = Group::new();
        let label = if monthly {
            day.strftime("%Y-%m").to_string()
        } else {
            day.to_string()
        };
        let told: Vec<String> = levels
            .iter()
            .rev()
            .map(|(level, count)| format!("{count} {level}"))
            .collect();
        bar.append(Title::new(format!("{label}: {}", told.join(", "))));
        let mut y = HEIGHT - BOTTOM;
        for (level, count) in levels {
            let height = height_of(*count);
            y -= height;
            bar.append(
                Rectangle::new()
                    .set("class", format!("bar {level}"))
                    .set("x", x)
                    .set("y", y)
                    .set("width", (step * 0.9).clamp(1.0, MOST_BAR_WIDTH))
                    .set("height", height),
            );
        }
        document = document.add(bar);
    }
    for (day, x) in [(first, LEFT), (last, WIDTH)] {
        let anchor = if x > LEFT { "end" } else { "start" };
        document = document.add(
            Text::new(day.to_string())
                .set("x", x)
                .set("y", HEIGHT - 6.0)
                .set("text-anchor", anchor),
        );
    }
    Some(document.to_string())
}

fn axis(most: u32) -> Group {
    Group::new()
        .add(
            Line::new()
                .set("class", "axis")
                .set("x1", LEFT)
                .set("x2", WIDTH)
                .set("y1", HEIGHT - BOTTOM)
                .set("y2", HEIGHT - BOTTOM),
        )
        .add(
            Text::new(most.to_string())
                .set("x", LEFT - 6.0)
                .set("y", TOP + 10.0)
                .set("text-anchor", "end"),
        )
        .add(
            Text::new("0")
                .set("x", LEFT - 6.0)
                .set("y", HEIGHT - BOTTOM)
                .set("text-anchor", "end"),
        )
}

type Counts = BTreeMap<Level, u32>;

fn by_day(found: &[Found]) -> BTreeMap<Date, Counts> {
    let mut counts: BTreeMap<Date, Counts> = BTreeMap::new();
    for one in found {
        if let Some(time) = one.listing.event_time {
            let day = time.to_zoned(TimeZone::UTC).date();
            *counts
                .entry(day)
                .or_default()
                .entry(one.listing.level)
                .or_default() += 1;
        }
    }
    counts
}

/// One bar for each day or month from the first to the last, with none left out.
fn bars(
    counts: &BTreeMap<Date, Counts>,
    first: Date,
    last: Date,
    monthly: bool,
) -> Vec<(Date, Counts)> {
    let (mut start, step) = if monthly {
        (first.first_of_month(), 1.month())
    } else {
        (first, 1.day())
    };
    let mut bars = Vec::new();
    while start <= last {
        let end = start.saturating_add(step);
        let mut levels = Counts::new();
        for (level, count) in counts.range(start..end).flat_map(|(_, levels)| levels) {
            *levels.entry(*level).or_default() += count;
        }
        bars.push((start, levels));
        start = end;
    }
    bars
}

fn days_between(first: Date, last: Date) -> i64 {
    first
        .until((Unit::Day, last))
        .map_or(0, |span| i64::from(span.get_days()))
}
