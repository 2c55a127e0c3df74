//! A report as one line in CloudWatch's embedded metric format.
//!
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use jiff::Timestamp;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::report::Report;

/// Namespace of every metric.
pub const NAMESPACE: &str = "BillingWatch";

/// Returns the line of metrics of an invocation, without a line break.
#[expect(
    clippy::missing_panics_doc,
    reason = "strings and numbers can always be written as JSON"
)]
pub fn emf_line(report: &Report, function_name: &str, cold_start: bool, now: Timestamp) -> String {
    let line = Line {
        metrics: metrics(report, cold_start),
        function_name,
        now,
    };
    serde_json::to_string(&line).expect("strings and numbers")
}

/// One metric and its values.
struct Metric<'a> {
    definition: Definition,
    value: Values<'a>,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values<'a> {
    One(u64),
    Many(&'a [f64]),
}

fn metrics(report: &Report, cold_start: bool) -> Vec<Metric<'_>> {
    let one = |name, unit, value| Metric {
        definition: Definition { name, unit },
        value: Values::One(value),
    };
    let counters = report.counters().filter(|(name, count)| {
        // Each metric costs money, and most operators have no direct events.
        *count > 0 || !(name.starts_with("Direct") || name.ends_with("Directly"))
    });
    let counters = counters.map(|(name, count)| {
        let is_size = name.ends_with("Bytes");
        one(name, if is_size { "Bytes" } else { "Count" }, count)
    });
    let canary = report
        .canary_missing
        .map(|missing| one("CanaryMissing", "Count", missing));
    let silent = report
        .accounts_without_logs
        .map(|accounts| one("AccountsWithoutLogs", "Count", accounts));
    let unconfirmed = report
        .unconfirmed_direct_events
        .map(|events| one("UnconfirmedDirectEvents", "Count", events));
    let delays = [
        ("CanaryDelay", &report.canary_delay_seconds),
        ("LogFileAlertDelay", &report.log_file_alert_delay_seconds),
        ("DirectAlertDelay", &report.direct_alert_delay_seconds),
        ("HandlingDelay", &report.handling_delay_seconds),
    ];
    let delays = delays
        .into_iter()
        .filter(|(_, seconds)| !seconds.is_empty());
    let rules = report.rules.iter().flat_map(|rules| {
        [
            one("RulesReplaced", "Count", rules.rules_replaced),
            one("CriticalFilters", "Count", rules.critical_filters),
        ]
    });
    counters
        .chain([one("ColdStart", "Count", u64::from(cold_start))])
        .chain(rules)
        .chain(canary)
        .chain(silent)
        .chain(unconfirmed)
        .chain(delays.map(|(name, seconds)| Metric {
            definition: Definition {
                name,
                unit: "Seconds",
            },
            value: Values::Many(seconds),
        }))
        .collect()
}

struct Line<'a> {
    metrics: Vec<Metric<'a>>,
    function_name: &'a str,
    now: Timestamp,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        let definitions = self.metrics.iter().map(|metric| metric.definition);
        members.serialize_entry(
            "_aws",
            &Metadata {
                timestamp: self.now.as_millisecond(),
                cloud_watch_metrics: [Directive {
                    namespace: NAMESPACE,
                    dimensions: [["FunctionName"]],
                    metrics: definitions.collect(),
                }],
            },
        )?;
        members.serialize_entry("FunctionName", self.function_name)?;
        for metric in &self.metrics {
            members.serialize_entry(metric.definition.name, &metric.value)?;
        }
        members.end()
    }
}

/// The member `_aws`, which tells CloudWatch which other members are metrics.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    timestamp: i64,
    cloud_watch_metrics: [Directive; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [[&'static str; 1]; 1],
    metrics: Vec<Definition>,
}
