//! The environment, with all its problems at once.

use std::collections::BTreeMap;

use billing_watch::{
    cloudtrail::Sources,
    config::{Config, ConfigError, Location},
    rules::{Level, OptionalRules, RulePack},
};

const TOPIC: &str = "arn:aws:sns:eu-central-1:999988887777:billing-alerts";

const CHAT_TOPIC: &str = "arn:aws:sns:us-west-2:999988887777:chat";

const READER: &str = "arn:aws-us-gov:iam::111122223333:role/path/log-reader";

fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut all = BTreeMap::from([("ALERT_TOPIC_ARN", TOPIC)]);
    all.extend(variables.iter().copied());
    Config::from_variables(|name| all.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn the_topic_is_the_only_required_variable() {
    let config = read(&[]).unwrap();
    let topics: Vec<_> = config.topics().collect();
    assert_eq!(topics, [&config.alert_topic]);
    assert_eq!(config.alert_topic.region, "eu-central-1");
    assert_eq!(config.alert_topic.minimum_level, Level::Medium);
    assert_eq!(
        (config.rules.clone(), config.time_zone.clone()),
        (None, None)
    );
    assert!(!config.batch_alerts && config.withhold_values && !config.path_style_s3);
    let bundled = RulePack::load(&OptionalRules::default(), &[]).unwrap().pack;
    assert_eq!(
        config.watched(&bundled),
        Sources::only(["billingconsole.amazonaws.com"])
    );
}

#[test]
fn every_variable_is_read() {
    let config = read(&[
        ("CHAT_TOPIC_ARN", CHAT_TOPIC),
        ("CHAT_MINIMUM_LEVEL", "critical"),
        ("FINDING_TOPIC_ARN", TOPIC),
        ("ACCOUNT_NAMES_URI", "names.yml"),
        ("EVENT_SOURCES", "S3.amazonaws.com, billing-family"),
        ("MINIMUM_LEVEL", "informational"),
        ("TIME_ZONE", "Europe/Berlin"),
        ("BATCH_ALERTS", "true"),
        ("OPTIONAL_RULES", " purchases,"),
        ("RULES_URI", "s3://rules/pack/"),
        ("LOG_READER_ROLE_ARN", READER),
        ("LEDGER_BUCKET", "ledger"),
        ("CANARY_ROLE_ARN", READER),
        ("CANARY_MINUTES", "90"),
        ("COVERAGE_URI", "s3://logs/AWSLogs/"),
        ("COVERAGE_DAYS", "3"),
        ("WITHHOLD_VALUES", "False"),
        ("MAX_EXPANDED_BYTES", "1000"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1"),
    ])
    .unwrap();
    assert!(config.batch_alerts && !config.withhold_values && config.path_style_s3);
    assert_eq!(config.log_reader_role_arn.as_deref(), Some(READER));
    assert_eq!(
        (config.alert_topic.minimum_level, config.max_expanded_bytes),
        (Level::Informational, 1000)
    );
    let chat = config.chat_topic.clone().unwrap();
    assert_eq!(
        (&*chat.arn, &*chat.region, chat.minimum_level),
        (CHAT_TOPIC, "us-west-2", Level::Critical)
    );
    // Without a level of its own a topic has that of the others.
    let findings = config.finding_topic.clone().unwrap();
    assert_eq!(findings.minimum_level, Level::Informational);
    assert_eq!(config.topics().count(), 3);
    assert_eq!(
        config.account_names,
        Some(Location::Path("names.yml".to_owned()))
    );
    let zone = config.time_zone.clone().unwrap();
    assert_eq!(zone.iana_name(), Some("Europe/Berlin"));
    assert_eq!(
        (config.canary_role_arn.as_deref(), config.canary_minutes),
        (Some(READER), 90)
    );
    assert_eq!(
        (config.coverage.clone(), config.coverage_days),
        (Some(("logs".to_owned(), "AWSLogs/".to_owned())), 3)
    );
    assert_eq!(config.optional_rules, "purchases".parse().unwrap());
    assert_eq!(
        config.rules,
        Some(Location::S3 {
            bucket: "rules".to_owned(),
            key: "pack/".to_owned()
        })
    );
    let Sources::Only(watched) =
        config.watched(&RulePack::load(&OptionalRules::default(), &[]).unwrap().pack)
    else {
        panic!("all sources watched");
    };
    assert!(watched.contains("s3.amazonaws.com") && watched.contains("payments.amazonaws.com"));
    assert_eq!(watched.len(), 23);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let config = read(&[
        ("RULES_URI", ""),
        ("MINIMUM_LEVEL", " "),
        ("EVENT_SOURCES", ""),
    ]);
    assert_eq!(config, read(&[]));
}

#[test]
fn an_empty_list_of_sources_is_a_problem() {
    let error = read(&[("EVENT_SOURCES", ", ,")]).unwrap_err();
    assert!(error.to_string().contains("nothing could alert"), "{error}");
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_remedy() {
    let error = read(&[
        (
            "ALERT_TOPIC_ARN",
            "arn:aws:sns:eu-central-1:999988887777:alerts.fifo",
        ),
        ("CHAT_TOPIC_ARN", "chat"),
        ("CHAT_MINIMUM_LEVEL", "urgent"),
        ("ACCOUNT_NAMES_URI", "https://example.com"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("EVENT_SOURCES", "billingconsole"),
        ("MINIMUM_LEVEL", "urgent"),
        ("BATCH_ALERTS", "yes"),
        ("OPTIONAL_RULES", "purchases,salaries"),
        ("RULES_URI", "https://example.com"),
        ("LEDGER_BUCKET", "s3://ledger/"),
        (
            "LOG_READER_ROLE_ARN",
            "arn:aws:iam::111122223333:user/reader",
        ),
        ("CANARY_ROLE_ARN", "billing-watch"),
        ("CANARY_MINUTES", "0"),
        ("COVERAGE_URI", "logs"),
        ("COVERAGE_DAYS", "0"),
        ("WITHHOLD_VALUES", "1"),
        ("MAX_EXPANDED_BYTES", "0"),
    ])
    .unwrap_err();
    insta::assert_snapshot!(error.problems.join("\n"), @"
    MINIMUM_LEVEL: `urgent` is not one of informational, low, medium, high, critical
    ALERT_TOPIC_ARN is `arn:aws:sns:eu-central-1:999988887777:alerts.fifo`; set it to the ARN of a standard SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME (a FIFO topic has neither email nor HTTPS subscribers)
    CHAT_MINIMUM_LEVEL: `urgent` is not one of informational, low, medium, high, critical
    CHAT_TOPIC_ARN is `chat`; set it to the ARN of a standard SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME (a FIFO topic has neither email nor HTTPS subscribers)
    ACCOUNT_NAMES_URI: `https://example.com` is neither on this machine nor s3://BUCKET/KEY
    EVENT_SOURCES: `billingconsole` is not an event source; write names such as billingconsole.amazonaws.com, or billing-family, with commas between them
    EVENT_SOURCES names no source, so nothing could alert; write billingconsole.amazonaws.com
    BATCH_ALERTS: `yes` is neither true nor false
    OPTIONAL_RULES: `salaries` is not a folder of optional rules; there is purchases
    RULES_URI: `https://example.com` is neither on this machine nor s3://BUCKET/PREFIX/
    LEDGER_BUCKET: `s3://ledger/` is not the name of a bucket; write the name alone, without s3:// or a key
    LOG_READER_ROLE_ARN: `arn:aws:iam::111122223333:user/reader` is not the ARN of a role; write arn:aws:iam::ACCOUNT:role/NAME
    CANARY_ROLE_ARN: `billing-watch` is not the ARN of a role; write arn:aws:iam::ACCOUNT:role/NAME
    CANARY_MINUTES: `0` is not a number of minutes from 1 to 10000
    COVERAGE_URI: `logs` is not s3://BUCKET/PREFIX/
    COVERAGE_DAYS: `0` is not a number of days from 1 to 365
    TIME_ZONE: `Mars/Olympus` is not a time zone; write its name in the IANA database, such as Europe/Berlin
    WITHHOLD_VALUES: `1` is neither true nor false
    MAX_EXPANDED_BYTES: `0` is not a number of bytes above 0
    ");
    let error = read(&[("CANARY_ROLE_ARN", READER)]).unwrap_err();
    insta::assert_snapshot!(error, @"CANARY_ROLE_ARN is set and LEDGER_BUCKET is not; set both, because the ledger remembers the canary");
    let error = Config::from_variables(|_| None).unwrap_err();
    insta::assert_snapshot!(error, @"ALERT_TOPIC_ARN is not set; set it to the ARN of a standard SNS topic, arn:aws:sns:REGION:ACCOUNT:NAME");
}
