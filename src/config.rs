//! The function's configuration: the only reader of environment variables, and all their problems
//! at once.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use crate::{
    cloudtrail::Sources,
    rules::{Level, OptionalRules, RulePack},
};

/// The word that stands for every source that the bundled rules name.
const BILLING_FAMILY: &str = "billing-family";
/// What is watched unless the operator says otherwise.
const BILLING_CONSOLE: &str = "billingconsole.amazonaws.com";
/// What the variables of topics must be.
const STANDARD_TOPIC: &str = "the ARN of a standard SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME";
/// The end of a FIFO topic's name, which SNS demands in lower case.
const FIFO_ENDING: &str = ".fifo";
/// Default time within which a canary must arrive.
const DEFAULT_CANARY_MINUTES: i64 = 60;
/// Default number of days without a log file.
const DEFAULT_COVERAGE_DAYS: i64 = 7;
/// Default cap on an object's expanded size.
const DEFAULT_EXPANDED_BYTES: u64 = 1 << 30;

/// Every variable of the function's own, in the order in which the documentation lists them.
pub const VARIABLES: [&str; 20] = [
    "ALERT_TOPIC_ARN",
    "CHAT_TOPIC_ARN",
    "FINDING_TOPIC_ARN",
    "ACCOUNT_NAMES_URI",
    "EVENT_SOURCES",
    "MINIMUM_LEVEL",
    "CHAT_MINIMUM_LEVEL",
    "FINDING_MINIMUM_LEVEL",
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
    "TIME_ZONE",
    "MAX_EXPANDED_BYTES",
];

/// What the operator decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Topic for people: mail.
    pub alert_topic: TopicConfig,
    /// Topic for chat.
    pub chat_topic: Option<TopicConfig>,
    /// Topic for machines.
    pub finding_topic: Option<TopicConfig>,
    /// Where the names of accounts are.
    pub account_names: Option<Location>,
    /// Sources by name whose findings alert, in lower case.
    pub event_sources: BTreeSet<String>,
    /// Whether the sources that the bundled rules name are watched as well.
    pub billing_family: bool,
    /// Whether findings of S3 Batch tasks alert.
    pub batch_alerts: bool,
    /// Bundled rules that apply only on request.
    pub optional_rules: OptionalRules,
    /// Where more rules are; `None` for the bundled pack alone.
    pub rules: Option<Location>,
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
    /// A time zone that alerts show beside UTC.
    pub time_zone: Option<TimeZone>,
    /// Cap on an object's expanded size, in bytes.
    pub max_expanded_bytes: u64,
    /// Whether S3 is reached at an address of the operator's, which knows no bucket host names.
    pub path_style_s3: bool,
}

/// One topic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TopicConfig {
    /// ARN of the topic.
    pub arn: String,
    /// Its Region.
    pub region: String,
    /// The lowest level that alerts there.
    pub minimum_level: Level,
}

/// Where the operator's own files are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// A file or a directory of this machine.
    Path(String),
    /// An object, or objects under a prefix.
    S3 {
        /// Bucket name.
        bucket: String,
        /// Its key, or the prefix of their keys, which may be empty.
        key: String,
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
        let minimum_level = reader.level("MINIMUM_LEVEL", Level::Medium);
        let alert_topic = reader.alert_topic(minimum_level);
        let chat_level = reader.level("CHAT_MINIMUM_LEVEL", minimum_level);
        let chat_topic = reader.topic("CHAT_TOPIC_ARN", chat_level);
        let finding_level = reader.level("FINDING_MINIMUM_LEVEL", minimum_level);
        let finding_topic = reader.topic("FINDING_TOPIC_ARN", finding_level);
        let account_names = reader.parsed("ACCOUNT_NAMES_URI", None, |text| {
            location(text, "s3://BUCKET/KEY").map(Some)
        });
        let (event_sources, billing_family) = reader.event_sources();
        let batch_alerts = reader.parsed("BATCH_ALERTS", false, boolean);
        let optional_rules = reader.parsed("OPTIONAL_RULES", OptionalRules::default(), str::parse);
        let rules = reader.parsed("RULES_URI", None, |text| {
            location(text, "s3://BUCKET/PREFIX/").map(Some)
        });
        let ledger_bucket = reader.parsed("LEDGER_BUCKET", None, bucket_name);
        let log_reader_role_arn = reader.parsed("LOG_READER_ROLE_ARN", None, role_arn);
        let canary_role_arn = reader.parsed("CANARY_ROLE_ARN", None, role_arn);
        let canary_minutes = reader.parsed("CANARY_MINUTES", DEFAULT_CANARY_MINUTES, |text| {
            number_of("minutes", 10_000, text)
        });
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
        let coverage_days = reader.parsed("COVERAGE_DAYS", DEFAULT_COVERAGE_DAYS, |text| {
            number_of("days", 365, text)
        });
        let time_zone = reader.parsed("TIME_ZONE", None, time_zone);
        let withhold_values = reader.parsed("WITHHOLD_VALUES", true, boolean);
        let max_expanded_bytes =
            reader.parsed("MAX_EXPANDED_BYTES", DEFAULT_EXPANDED_BYTES, |text| {
                text.parse().ok().filter(|bytes| *bytes > 0).ok_or_else(|| {
                    let text = text.escape_default();
                    format!("`{text}` is not a number of bytes above 0")
                })
            });
        let endpoints = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];
        let path_style_s3 = endpoints.iter().any(|name| reader.text(name).is_some());
        if !reader.problems.is_empty() {
            return Err(ConfigError {
                problems: reader.problems,
            });
        }
        Ok(Self {
            alert_topic,
            chat_topic,
            finding_topic,
            account_names,
            event_sources,
            billing_family,
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
            time_zone,
            max_expanded_bytes,
            path_style_s3,
        })
    }

    /// The topics, that for people first.
    pub fn topics(&self) -> impl Iterator<Item = &TopicConfig> {
        let others = [&self.chat_topic, &self.finding_topic];
        [&self.alert_topic]
            .into_iter()
            .chain(others.into_iter().flatten())
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

    fn alert_topic(&mut self, minimum_level: Level) -> TopicConfig {
        if self.text("ALERT_TOPIC_ARN").is_none() {
            self.problem(format!(
                "ALERT_TOPIC_ARN is not set; set it to {STANDARD_TOPIC}"
            ));
        }
        let topic = self.topic("ALERT_TOPIC_ARN", minimum_level);
        topic.unwrap_or_default()
    }

    fn topic(&mut self, name: &str, minimum_level: Level) -> Option<TopicConfig> {
        let arn = self.text(name)?;
        let Some(region) = topic_region(&arn) else {
            self.problem(format!(
                "{name} is `{}`; set it to {STANDARD_TOPIC} (a FIFO topic has neither email nor HTTPS \
                 subscribers)",
                arn.escape_default()
            ));
            return None;
        };
        Some(TopicConfig {
            region: region.to_owned(),
            arn,
            minimum_level,
        })
    }

    fn level(&mut self, name: &str, default: Level) -> Level {
        self.parsed(name, default, str::parse::<Level>)
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
pub(crate) fn topic_region(arn: &str) -> Option<&str> {
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

/// A number from 1 to `most`; `unit` says of what.
fn number_of(unit: &str, most: i64, text: &str) -> Result<i64, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| {
            let text = text.escape_default();
            format!("`{text}` is not a number of {unit} from 1 to {most}")
        })
}

fn bucket_and_prefix(text: &str) -> Result<(String, String), String> {
    match location(text, "s3://BUCKET/PREFIX/")? {
        Location::S3 { bucket, key } => Ok((bucket, key)),
        Location::Path(_) => Err(format!(
            "`{}` is not s3://BUCKET/PREFIX/",
            text.escape_default()
        )),
    }
}

/// S3's rule on the names of general purpose buckets, as far as a typing error breaks it.
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

/// `form` says how an address in S3 is written.
fn location(text: &str, form: &str) -> Result<Location, String> {
    if let Some(rest) = text.strip_prefix("s3://") {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(format!("no bucket; write {form}"));
        }
        return Ok(Location::S3 {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        });
    }
    if text.contains("://") {
        return Err(format!(
            "`{}` is neither on this machine nor {form}",
            text.escape_default()
        ));
    }
    Ok(Location::Path(text.to_owned()))
}

fn time_zone(text: &str) -> Result<Option<TimeZone>, String> {
    let zone = TimeZone::get(text).map(Some);
    zone.map_err(|_| {
        format!(
            "`{}` is not a time zone; write its name in the IANA database, such as Europe/Berlin",
            text.escape_default()
        )
    })
}
