//! The function's configuration: the only reader of environment variables, and all their problems
//! at once.

use std::collections::BTreeSet;

use crate::{
    cloudtrail::Sources,
    rules::{Level, OptionalRules, RulePack},
};

/// The word that stands for every source that the bundled rules name.
const BILLING_FAMILY: &str = "billing-family";
/// What is watched unless the operator says otherwise.
const BILLING_CONSOLE: &str = "billingconsole.amazonaws.com";
/// The end of a FIFO topic's name, which SNS demands in lower case.
const FIFO_ENDING: &str = ".fifo";
/// Default time within which a canary must arrive.
const DEFAULT_CANARY_MINUTES: i64 = 60;
/// Default number of days without a log file.
const DEFAULT_COVERAGE_DAYS: i64 = 7;
/// Default cap on an object's expanded size.
const DEFAULT_EXPANDED_BYTES: u64 = 1 << 30;

/// Every variable of the function's own, in the order in which the documentation lists them.
pub const VARIABLES: [&str; 14] = [
    "ALERT_TOPIC_ARN",
    "EVENT_SOURCES",
    "MINIMUM_LEVEL",
    "BATCH_ALERTS",
    "OPTIONAL_RULES",
    "RULES_URI",
    "LEDGER_BUCKET",
    "LOG_READER_ROLE_ARN",
    "CANARY_ROLE_ARN",
    "CANARY_MINUTES",
    "COVERAGE_URI",
    "COVERAGE_DAYS",
    "WITHHOLD_VALUES",
    "MAX_EXPANDED_BYTES",
];

/// What the operator decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Topic for alerts.
    pub alert_topic_arn: String,
    /// Region of that topic.
    pub alert_region: String,
    /// Sources by name whose findings alert, in lower case.
    pub event_sources: BTreeSet<String>,
    /// Whether the sources that the bundled rules name are watched as well.
    pub billing_family: bool,
    /// The lowest level that alerts.
    pub minimum_level: Level,
    /// Whether findings of S3 Batch tasks alert.
    pub batch_alerts: bool,
    /// Bundled rules that apply only on request.
    pub optional_rules: OptionalRules,
    /// Where more rules are.
    pub rules: RulesLocation,
    /// Bucket of the ledger; without it this instance's memory serves.
    pub ledger_bucket: Option<String>,
    /// Role that log files are read through; without it the function's own.
    pub log_reader_role_arn: Option<String>,
    /// The function's own role, which calls the canary; `None` if the canary is off.
    pub canary_role_arn: Option<String>,
    /// Minutes within which a canary must arrive.
    pub canary_minutes: i64,
    /// Bucket and prefix of the log files, for the coverage check; `None` if the check is off.
    pub coverage: Option<(String, String)>,
    /// Days without a log file after which the coverage check names an account.
    pub coverage_days: i64,
    /// Whether personal values are withheld from alerts.
    pub withhold_values: bool,
    /// Cap on an object's expanded size, in bytes.
    pub max_expanded_bytes: u64,
    /// Whether S3 is reached at an address of the operator's, which knows no bucket host names.
    pub path_style_s3: bool,
}

/// Where more rules are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RulesLocation {
    /// The bundled pack alone.
    Bundled,
    /// A directory of this machine.
    Directory(String),
    /// Objects under a prefix.
    S3 {
        /// Bucket name.
        bucket: String,
        /// Prefix of their keys; may be empty.
        prefix: String,
    },
}

/// Everything that is wrong with the environment.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct ConfigError {
    /// One sentence a problem, with the variable's name and the remedy.
    pub problems: Vec<String>,
}

impl Config {
    /// Reads the process's environment.
    pub fn from_env() -> Result<Self, ConfigError> {
        #[allow(
            clippy::disallowed_methods,
            reason = "the one place that reads the environment"
        )]
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere.
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader {
            read,
            problems: Vec::new(),
        };
        let alert_topic_arn = reader.required(
            "ALERT_TOPIC_ARN",
            "the ARN of a standard SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME",
        );
        let alert_region = topic_region(&alert_topic_arn)
            .unwrap_or_default()
            .to_owned();
        if !alert_topic_arn.is_empty() && alert_region.is_empty() {
            reader.problem(format!(
                "ALERT_TOPIC_ARN is `{}`; set it to the ARN of a standard SNS topic (a FIFO topic \
                 has no email subscribers)",
                alert_topic_arn.escape_default()
            ));
        }
        let (event_sources, billing_family) = reader.event_sources();
        let minimum_level = reader.parsed("MINIMUM_LEVEL", Level::Medium, str::parse::<Level>);
        let batch_alerts = reader.parsed("BATCH_ALERTS", false, boolean);
        let optional_rules = reader.parsed("OPTIONAL_RULES", OptionalRules::default(), str::parse);
        let rules = reader.parsed("RULES_URI", RulesLocation::Bundled, rules_location);
        let ledger_bucket = reader.parsed("LEDGER_BUCKET", None, bucket_name);
        let log_reader_role_arn = reader.parsed("LOG_READER_ROLE_ARN", None, role_arn);
        let canary_role_arn = reader.parsed("CANARY_ROLE_ARN", None, role_arn);
        let canary_minutes = reader.parsed("CANARY_MINUTES", DEFAULT_CANARY_MINUTES, minutes);
        if canary_role_arn.is_some() && ledger_bucket.is_none() {
            reader.problem(
                "CANARY_ROLE_ARN is set and LEDGER_BUCKET is not; set both, because the ledger \
                 remembers the canary"
                    .to_owned(),
            );
        }
        let coverage = reader.parsed("COVERAGE_URI", None, |text| {
            bucket_and_prefix(text).map(Some)
        });
        let coverage_days = reader.parsed("COVERAGE_DAYS", DEFAULT_COVERAGE_DAYS, days);
        let withhold_values = reader.parsed("WITHHOLD_VALUES", true, boolean);
        let max_expanded_bytes =
            reader.parsed("MAX_EXPANDED_BYTES", DEFAULT_EXPANDED_BYTES, |text| {
                text.parse().ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
                    let text = text.escape_default();
                    format!("`{text}` is not a number of bytes above 0")
                })
            });
        let path_style_s3 = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
            .iter()
            .any(|name| reader.text(name).is_some());
        if !reader.problems.is_empty() {
            return Err(ConfigError {
                problems: reader.problems,
            });
        }
        Ok(Self {
            alert_topic_arn,
            alert_region,
            event_sources,
            billing_family,
            minimum_level,
            batch_alerts,
            optional_rules,
            rules,
            ledger_bucket,
            log_reader_role_arn,
            canary_role_arn,
            canary_minutes,
            coverage,
            coverage_days,
            withhold_values,
            max_expanded_bytes,
            path_style_s3,
        })
    }

    /// The watched sources; `bundled` is the pack without the user's rules.
    pub fn watched(&self, bundled: &RulePack) -> Sources {
        let mut names = self.event_sources.clone();
        if self.billing_family {
            names.extend(bundled.sources().iter().cloned());
        }
        Sources::Only(names)
    }
}

struct Reader<R> {
    read: R,
    problems: Vec<String>,
}

impl<R: Fn(&str) -> Option<String>> Reader<R> {
    /// A variable with something in it: templates pass what is unset as an empty text.
    fn text(&self, name: &str) -> Option<String> {
        let text = (self.read)(name)?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn required(&mut self, name: &str, what: &str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.problem(format!("{name} is not set; set it to {what}"));
            String::new()
        })
    }

    fn parsed<T>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = self.text(name) else {
            return default;
        };
        parse(&text).unwrap_or_else(|problem| {
            self.problem(format!("{name}: {problem}"));
            default
        })
    }

    fn event_sources(&mut self) -> (BTreeSet<String>, bool) {
        let text = self
            .text("EVENT_SOURCES")
            .unwrap_or_else(|| BILLING_CONSOLE.to_owned());
        let mut names = BTreeSet::new();
        let mut family = false;
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            if name.eq_ignore_ascii_case(BILLING_FAMILY) {
                family = true;
            } else if is_source(name) {
                names.insert(name.to_lowercase());
            } else {
                self.problem(format!(
                    "EVENT_SOURCES: `{}` is not an event source; write names such as \
                     {BILLING_CONSOLE}, or {BILLING_FAMILY}, with commas between them",
                    name.escape_default()
                ));
            }
        }
        if names.is_empty() && !family {
            self.problem(format!(
                "EVENT_SOURCES names no source, so nothing could alert; write {BILLING_CONSOLE}"
            ));
        }
        (names, family)
    }
}

fn is_source(name: &str) -> bool {
    name.contains('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// The Region in the ARN of a standard topic.
fn topic_region(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && crate::cloudtrail::is_account_id(account)
                && !name.is_empty()
                && !name.ends_with(FIFO_ENDING) =>
        {
            Some(region)
        }
        _ => None,
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!(
            "`{}` is neither true nor false",
            text.escape_default()
        )),
    }
}

/// S3's rule on the names of general purpose buckets, as far as a typing error breaks it.
fn minutes(text: &str) -> Result<i64, String> {
    let minutes = text
        .parse()
        .ok()
        .filter(|minutes| (1..=10_000).contains(minutes));
    minutes.ok_or_else(|| {
        let text = text.escape_default();
        format!("`{text}` is not a number of minutes from 1 to 10000")
    })
}

fn days(text: &str) -> Result<i64, String> {
    let days = text.parse().ok().filter(|days| (1..=365).contains(days));
    days.ok_or_else(|| {
        let text = text.escape_default();
        format!("`{text}` is not a number of days from 1 to 365")
    })
}

fn bucket_and_prefix(text: &str) -> Result<(String, String), String> {
    match rules_location(text)? {
        RulesLocation::S3 { bucket, prefix } => Ok((bucket, prefix)),
        _ => Err(format!(
            "`{}` is not s3://BUCKET/PREFIX/",
            text.escape_default()
        )),
    }
}

fn bucket_name(text: &str) -> Result<Option<String>, String> {
    let is_name = (3..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'));
    if is_name {
        Ok(Some(text.to_owned()))
    } else {
        Err(format!(
            "`{}` is not the name of a bucket; write the name alone, without s3:// or a key",
            text.escape_default()
        ))
    }
}

fn role_arn(text: &str) -> Result<Option<String>, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, role]
            if partition.starts_with("aws")
                && crate::cloudtrail::is_account_id(account)
                && role.len() > "role/".len()
                && role.starts_with("role/") =>
        {
            Ok(Some(text.to_owned()))
        }
        _ => Err(format!(
            "`{}` is not the ARN of a role; write arn:aws:iam::ACCOUNT:role/NAME",
            text.escape_default()
        )),
    }
}

fn rules_location(text: &str) -> Result<RulesLocation, String> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err("no bucket; write s3://BUCKET/PREFIX/".to_owned());
        }
        return Ok(RulesLocation::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        });
    }
    if text.contains("://") {
        return Err(format!(
            "`{}` is neither a directory nor s3://BUCKET/PREFIX/",
            text.escape_default()
        ));
    }
    Ok(RulesLocation::Directory(text.to_owned()))
}
