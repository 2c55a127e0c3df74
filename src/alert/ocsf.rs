//! The alert for machines: one OCSF Detection Finding for each finding.
//!
//! Schema: <https://schema.ocsf.io/1.8.0/classes/detection_finding?profiles=cloud,datetime>. The class is
//! closed: what has no place in it stands under `unmapped`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Alert, Escaped, TestContent,
    actor::{ActorContent, ActorKind},
    attack::attacks,
    chat::partition,
    content::{AccountContent, FindingContent, RuleContent},
    words::Markup,
};
use crate::{cloudtrail::CameBy, rules::Level};

/// The version of OCSF that a finding follows.
const OCSF_VERSION: &str = "1.8.0";
/// Detection Finding.
const CLASS_UID: u32 = 2004;
/// The finding is new.
const CREATE: u32 = 1;
/// A rule, as opposed to statistics or learning.
const ANALYTIC_RULE: u32 = 1;
/// An AWS account.
const AWS_ACCOUNT: u32 = 10;
/// Types of observables.
const IP_ADDRESS: u32 = 2;
const USER_AGENT: u32 = 16;
const CREDENTIAL: u32 = 19;
const USER_UID: u32 = 31;
const ACCOUNT_UID: u32 = 35;

/// The finding on top, as JSON.
pub(super) fn detection_finding(alert: &Alert<'_>) -> String {
    let finding = alert.top();
    let mut members = head(
        finding.level,
        finding.event.time.unwrap_or(alert.now),
        &Markup::Plain.headline(alert),
    );
    members.insert("is_alert".to_owned(), json!(true));
    members.insert("cloud".to_owned(), cloud(finding));
    members.insert("finding_info".to_owned(), finding_info(finding, alert.now));
    members.insert("evidences".to_owned(), json!([evidence(finding)]));
    members.insert("resources".to_owned(), json!(resources(finding)));
    members.insert("observables".to_owned(), json!(observables(finding)));
    members.insert("metadata".to_owned(), metadata(finding, alert.now));
    if let Some(remediation) = remediation(finding.rule()) {
        members.insert("remediation".to_owned(), remediation);
    }
    members.insert("unmapped".to_owned(), unmapped(finding));
    Value::Object(members).to_string()
}

/// The message of a self-test.
pub(super) fn self_test(test: &TestContent<'_>) -> String {
    let mut members = head(
        Level::Informational,
        test.now,
        "This is a test of billing-watch. Nothing has happened in any account.",
    );
    members.insert("is_alert".to_owned(), json!(false));
    members.insert("cloud".to_owned(), json!({"provider": "AWS"}));
    members.insert(
        "finding_info".to_owned(),
        json!({
            "uid": format!("billing-watch-self-test-{}", test.now.as_millisecond()),
            "title": "billing-watch self-test",
            "desc": test.lines().join(" "),
        }),
    );
    members.insert(
        "metadata".to_owned(),
        json!({
            "version": OCSF_VERSION,
            "product": product(),
            "profiles": ["cloud", "datetime"],
            "labels": ["self-test"],
        }),
    );
    Value::Object(members).to_string()
}

/// What every finding begins with. The numbers and their labels are OCSF's.
fn head(level: Level, time: Timestamp, message: &str) -> Map<String, Value> {
    let (severity_id, severity) = match level {
        Level::Informational => (1, "Informational"),
        Level::Low => (2, "Low"),
        Level::Medium => (3, "Medium"),
        Level::High => (4, "High"),
        Level::Critical => (5, "Critical"),
    };
    let head = json!({
        "activity_id": CREATE,
        "activity_name": "Create",
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS_UID,
        "class_name": "Detection Finding",
        "type_uid": CLASS_UID * 100 + CREATE,
        "type_name": "Detection Finding: Create",
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 1,
        "status": "New",
        "time": time.as_millisecond(),
        "time_dt": time,
        "timezone_offset": 0,
        "message": message,
    });
    match head {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn product() -> Value {
    json!({"name": "billing-watch", "vendor_name": "billing-watch", "version": env!("CARGO_PKG_VERSION")})
}

/// An object of the members that have a value.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().filter(|(_, value)| match value {
        Value::Null => false,
        Value::Object(members) => !members.is_empty(),
        Value::Array(members) => !members.is_empty(),
        _ => true,
    });
    members
        .map(|(name, value)| (name.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}

fn account(account: &AccountContent) -> Value {
    object([
        ("uid", json!(account.id)),
        ("name", json!(account.name)),
        ("type_id", json!(AWS_ACCOUNT)),
        ("type", json!("AWS Account")),
    ])
}

fn cloud(finding: &FindingContent) -> Value {
    let region = finding.event.region.as_ref();
    object([
        ("provider", json!("AWS")),
        ("region", json!(region)),
        (
            "account",
            finding.affected.as_ref().map_or(Value::Null, account),
        ),
        ("cloud_partition", json!(partition(region))),
    ])
}

fn finding_info(finding: &FindingContent, now: Timestamp) -> Value {
    let rule = finding.rule();
    let time = finding.event.time;
    let uid = match (&finding.event.id, time) {
        (Some(id), _) => id.to_string(),
        (None, _) => format!(
            "{}-{}",
            finding.thread,
            time.unwrap_or(now).as_millisecond()
        ),
    };
    object([
        ("uid", json!(uid)),
        ("title", json!(rule.title)),
        ("desc", json!(rule.description)),
        ("analytic", analytic(rule)),
        (
            "related_analytics",
            finding.rules[1..]
                .iter()
                .map(|rule| analytic(rule))
                .collect(),
        ),
        ("attacks", json!(attacks(&rule.tags))),
        ("created_time", json!(now.as_millisecond())),
        ("created_time_dt", json!(now)),
        (
            "first_seen_time",
            json!(time.map(Timestamp::as_millisecond)),
        ),
        ("first_seen_time_dt", json!(time)),
        ("last_seen_time", json!(time.map(Timestamp::as_millisecond))),
        ("last_seen_time_dt", json!(time)),
        ("data_sources", json!(["AWS CloudTrail"])),
        ("src_url", json!(finding.evidence.console)),
    ])
}

fn analytic(rule: &RuleContent) -> Value {
    object([
        ("type_id", json!(ANALYTIC_RULE)),
        ("type", json!("Rule")),
        ("uid", json!(rule.id)),
        ("name", json!(rule.title)),
        ("category", json!("Sigma")),
        ("desc", json!(rule.file)),
    ])
}

/// Who did what, from where: the class has no place for them of its own.
fn evidence(finding: &FindingContent) -> Value {
    let endpoint = match (finding.ip, &finding.address) {
        (Some(ip), _) => json!({"ip": ip}),
        // CloudTrail writes the names of services, and `AWS Internal`.
        (None, Some(address)) => json!({"svc_name": address}),
        (None, None) => Value::Null,
    };
    let agent = finding.user_agent.as_ref();
    object([
        ("actor", actor(&finding.actor)),
        ("api", api(finding)),
        ("src_endpoint", endpoint),
        (
            "http_request",
            agent.map_or(Value::Null, |agent| json!({"user_agent": agent})),
        ),
        ("data", fields(finding)),
    ])
}

fn actor(actor: &ActorContent) -> Value {
    let type_id = match actor.kind {
        ActorKind::Root => 2,
        ActorKind::User => 1,
        ActorKind::Service => 4,
        ActorKind::Role | ActorKind::Other => 99,
    };
    let user = object([
        ("type_id", json!(type_id)),
        ("type", json!(actor.actor_type)),
        ("name", json!(actor.who)),
        (
            "uid",
            json!(actor.arn.as_ref().or(actor.principal_id.as_ref())),
        ),
        ("uid_alt", json!(actor.principal_id)),
        (
            "account",
            actor.account.as_ref().map_or(Value::Null, account),
        ),
        ("has_mfa", json!(actor.mfa)),
    ]);
    let session = object([
        ("uid", json!(actor.session)),
        ("credential_uid", json!(actor.access_key_id)),
        ("is_mfa", json!(actor.mfa)),
    ]);
    object([
        ("user", user),
        ("session", session),
        ("app_name", json!(actor.invoked_by)),
    ])
}

fn api(finding: &FindingContent) -> Value {
    let event = &finding.event;
    let outcome = &finding.outcome;
    let operation = event.name.as_ref().map_or("unknown", Escaped::as_str);
    let source = event.source.as_ref();
    object([
        ("operation", json!(operation)),
        (
            "service",
            source.map_or(Value::Null, |source| json!({"name": source})),
        ),
        (
            "response",
            object([
                ("error", json!(outcome.code)),
                ("error_message", json!(outcome.message)),
            ]),
        ),
    ])
}

/// The changed fields, by their paths.
fn fields(finding: &FindingContent) -> Value {
    let fields = finding.fields.iter();
    fields
        .map(|field| (field.path.to_string(), json!(field.value)))
        .collect::<Map<_, _>>()
        .into()
}

/// The accounts that the action is about and was recorded in.
fn resources(finding: &FindingContent) -> Vec<Value> {
    let accounts = finding.affected.iter().chain(&finding.recorded);
    accounts
        .map(|account| {
            object([
                ("uid", json!(account.id)),
                ("name", json!(account.name)),
                ("type", json!("AWS::Account")),
                (
                    "cloud_partition",
                    json!(partition(finding.event.region.as_ref())),
                ),
            ])
        })
        .collect()
}

/// What a machine looks up.
fn observables(finding: &FindingContent) -> Vec<Value> {
    let text = |text: &Option<Escaped>| text.as_ref().map(Escaped::to_string);
    let actor = &finding.actor;
    let evidence = [
        (
            "src_endpoint.ip",
            IP_ADDRESS,
            "IP Address",
            finding.ip.map(|ip| ip.to_string()),
        ),
        (
            "http_request.user_agent",
            USER_AGENT,
            "HTTP User-Agent",
            text(&finding.user_agent),
        ),
        (
            "actor.session.credential_uid",
            CREDENTIAL,
            "User Credential ID",
            text(&actor.access_key_id),
        ),
        ("actor.user.uid", USER_UID, "User: uid", text(&actor.arn)),
    ];
    let evidence = evidence.map(|(path, type_id, label, value)| {
        (format!("evidences[0].{path}"), type_id, label, value)
    });
    let account = finding
        .affected
        .as_ref()
        .map(|account| account.id.to_string());
    let account = (
        "cloud.account.uid".to_owned(),
        ACCOUNT_UID,
        "Account: uid",
        account,
    );
    evidence
        .into_iter()
        .chain([account])
        .filter_map(|(name, type_id, label, value)| {
            let value = value?;
            Some(json!({"name": name, "type_id": type_id, "type": label, "value": value}))
        })
        .collect()
}

fn metadata(finding: &FindingContent, now: Timestamp) -> Value {
    object([
        ("version", json!(OCSF_VERSION)),
        ("product", product()),
        ("profiles", json!(["cloud", "datetime"])),
        ("original_event_uid", json!(finding.event.id)),
        ("event_code", json!(finding.event.name)),
        ("log_name", json!("CloudTrail")),
        ("log_provider", json!("AWS")),
        (
            "original_time",
            json!(finding.event.time.map(|time| time.to_string())),
        ),
        ("processed_time", json!(now.as_millisecond())),
        ("processed_time_dt", json!(now)),
        ("correlation_uid", json!(finding.thread)),
    ])
}

fn remediation(rule: &RuleContent) -> Option<Value> {
    if rule.response.is_empty() {
        return None;
    }
    let steps: Vec<&str> = rule.response.iter().map(Escaped::as_str).collect();
    Some(object([
        ("desc", json!(steps.join("\n"))),
        ("references", json!(rule.references)),
    ]))
}

/// What OCSF has no place for.
fn unmapped(finding: &FindingContent) -> Value {
    let addendum = finding.addendum.as_ref();
    let came_by = match finding.evidence.came_by {
        CameBy::LogFile => "log file",
        CameBy::EventBridge => "EventBridge",
        CameBy::CloudWatchLogs => "CloudWatch Logs",
    };
    object([
        ("outcome", json!(finding.outcome.word())),
        ("rule_level", json!(finding.rule().level.as_str())),
        ("false_positives", json!(finding.rule().false_positives)),
        ("came_by", json!(came_by)),
        ("log_file", json!(finding.evidence.log_file)),
        ("backfill", json!(finding.evidence.backfill.then_some(true))),
        (
            "has_more_fields",
            json!(finding.has_more_fields.then_some(true)),
        ),
        (
            "differs_from_other_record",
            json!(finding.differs.then_some(true)),
        ),
        ("unreadable_members", json!(finding.unreadable)),
        (
            "addendum_reason",
            json!(addendum.map(|addendum| &addendum.reason)),
        ),
        (
            "addendum_original_event_uid",
            json!(addendum.and_then(|addendum| addendum.original_event_id.as_ref())),
        ),
        (
            "root_session",
            if finding.actor.assumed_root {
                json!(true)
            } else {
                Value::Null
            },
        ),
    ])
}
