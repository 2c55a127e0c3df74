//! A report as one line in CloudWatch's embedded metric format.
//!
//! Format: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::report::Report;

/// Namespace of every metric.
pub const NAMESPACE: &str = "BillingWatch";

/// Returns the line of metrics of an invocation, without a line break.
pub fn emf_line(report: &Report, function_name: &str, cold_start: bool, now: Timestamp) -> String {
    let mut members = Map::new();
    let mut definitions = Vec::new();
    let mut add = |name: &str, unit: &str, value: Value| {
        definitions.push(json!({"Name": name, "Unit": unit}));
        members.insert(name.to_owned(), value);
    };
    for (name, count) in report.counters() {
        let unit = if name.ends_with("Bytes") {
            "Bytes"
        } else {
            "Count"
        };
        add(name, unit, json!(count));
    }
    add("ColdStart", "Count", json!(u8::from(cold_start)));
    for (name, seconds) in [
        ("AlertDelay", &report.alert_delay_seconds),
        ("HandlingDelay", &report.handling_delay_seconds),
    ] {
        if !seconds.is_empty() {
            add(name, "Seconds", json!(seconds));
        }
    }
    members.insert("FunctionName".to_owned(), json!(function_name));
    members.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["FunctionName"]],
                "Metrics": definitions,
            }],
        }),
    );
    Value::Object(members).to_string()
}
