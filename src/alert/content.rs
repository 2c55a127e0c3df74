//! What an alert says of one finding, before it is laid out for an audience.
//!
//! This is the only place where an alert reads a record. Every text in the content is [`Escaped`], and
//! withheld values are withheld already, so that no renderer can show what it should not.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    AccountNames, Escaped, GroupKey,
    actor::{ActorContent, actor},
    fields::{FieldContent, changed_fields},
};
use crate::{
    cloudtrail::{CameBy, Outcome, Record},
    envelope::ObjectRef,
    rules::{Finding, Level, Rule},
};

/// Most characters of a text that the caller of AWS chose.
pub(super) const UNTRUSTED_CHARACTERS: usize = 256;
/// Most characters of an ARN.
pub(super) const ARN_CHARACTERS: usize = 2_048;
/// Most characters of the name of an S3 object: its key has at most 1,024 bytes.
const OBJECT_CHARACTERS: usize = 2_048;
/// Most characters of a text that may stand in a command: AWS's own ids, names and times are no longer.
const COMMAND_CHARACTERS: usize = 128;
/// The reason of CloudTrail's addenda that correct an earlier record.
pub(super) const UPDATED_DATA: &str = "UPDATED_DATA";

/// What an alert needs to know beside its findings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The log file; `None` for direct events.
    pub object: Option<&'a ObjectRef>,
    /// The account in the log file's key, for records that name none.
    pub file_account: Option<&'a str>,
    /// Whether it was found by a job over old log files.
    pub backfill: bool,
    /// What the operator decides about alerts.
    pub style: &'a Style,
    /// The time, for ages.
    pub now: Timestamp,
}

/// What the operator decides about alerts.
#[derive(Clone, Debug)]
pub struct Style {
    /// Whether personal values are withheld.
    pub withhold_values: bool,
    /// The names of accounts.
    pub account_names: AccountNames,
    /// A time zone that is shown beside UTC.
    pub time_zone: Option<TimeZone>,
}

/// A finding in words that may be shown.
#[derive(Clone, Debug)]
pub struct FindingContent {
    /// The level that the alert shows.
    pub(super) level: Level,
    /// The rules that matched, the highest level first; at least one.
    pub(super) rules: Vec<Rc<RuleContent>>,
    pub(super) event: EventContent,
    pub(super) outcome: OutcomeContent,
    /// The account that the action is about.
    pub(super) affected: Option<AccountContent>,
    /// The account that recorded the action, if that is another one.
    pub(super) recorded: Option<AccountContent>,
    pub(super) actor: ActorContent,
    /// The source address, as the record has it.
    pub(super) address: Option<Escaped>,
    /// The source address, if it is an IP address.
    pub(super) ip: Option<IpAddr>,
    pub(super) user_agent: Option<Escaped>,
    /// CloudTrail's note on a late or corrected record.
    pub(super) addendum: Option<AddendumContent>,
    /// Members of the record that could not be read.
    pub(super) unreadable: Vec<Escaped>,
    /// What changed, by paths in the record.
    pub(super) fields: Vec<FieldContent>,
    /// Whether there are more fields than the content holds.
    pub(super) has_more_fields: bool,
    pub(super) evidence: EvidenceContent,
    /// Whether a record of the same event id and other content came by another path.
    pub(super) differs: bool,
    /// Names affected account and actor together: the same in every alert on them.
    pub(super) thread: Escaped,
}

/// What a rule says, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct RuleContent {
    pub(super) id: Escaped,
    pub(super) title: Escaped,
    /// The rule's own level.
    pub(super) level: Level,
    pub(super) description: Escaped,
    pub(super) response: Vec<Escaped>,
    pub(super) false_positives: Vec<Escaped>,
    pub(super) references: Vec<Escaped>,
    /// Tags such as `attack.t1657`.
    pub(super) tags: Vec<Escaped>,
    pub(super) file: Escaped,
}

/// The event's own facts.
#[derive(Clone, Debug)]
pub(super) struct EventContent {
    pub(super) id: Option<Escaped>,
    pub(super) name: Option<Escaped>,
    pub(super) source: Option<Escaped>,
    pub(super) region: Option<Escaped>,
    pub(super) time: Option<Timestamp>,
    /// The time as the record writes it, if that is no time.
    pub(super) odd_time: Option<Escaped>,
}

/// Whether the action took effect.
#[derive(Clone, Debug)]
pub(super) struct OutcomeContent {
    pub(super) failed: bool,
    pub(super) code: Option<Escaped>,
    /// The error message, unless it is withheld.
    pub(super) message: Option<Escaped>,
}

/// An account, by its id and the name that the operator gave it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct AccountContent {
    pub(super) id: Escaped,
    pub(super) name: Option<Escaped>,
}

/// CloudTrail's note on a record that it delivered late or again.
#[derive(Clone, Debug)]
pub(super) struct AddendumContent {
    pub(super) reason: Escaped,
    pub(super) original_event_id: Option<Escaped>,
    pub(super) updated_fields: Vec<Escaped>,
}

/// Where the proof is.
#[derive(Clone, Debug)]
pub(super) struct EvidenceContent {
    /// How the record came.
    pub(super) came_by: CameBy,
    /// Whether it was found by a job over old log files.
    pub(super) backfill: bool,
    /// The log file.
    pub(super) log_file: Option<Escaped>,
    /// A command that prints the log file.
    pub(super) fetch: Option<Escaped>,
    /// The condition of a jq filter that chooses the record.
    pub(super) choice: RecordChoice,
    /// A command that asks CloudTrail for the record.
    pub(super) lookup: Option<Escaped>,
    /// A link to the record in the console.
    pub(super) console: Option<Escaped>,
}

/// What tells a record from the others of its log file, as JSON strings.
#[derive(Clone, Debug)]
pub(super) enum RecordChoice {
    EventId(Escaped),
    NameAndTime(Option<Escaped>, Option<Escaped>),
}

/// Contents of rules that several findings share.
#[derive(Debug, Default)]
pub struct RuleContents {
    by_id: BTreeMap<String, Rc<RuleContent>>,
}

impl RuleContents {
    fn of(&mut self, rule: &Rule) -> Rc<RuleContent> {
        if let Some(content) = self.by_id.get(&rule.id) {
            return Rc::clone(content);
        }
        let prose = |texts: &[String]| texts.iter().map(|text| Escaped::trusted(text)).collect();
        let content = Rc::new(RuleContent {
            id: Escaped::name(&rule.id, UNTRUSTED_CHARACTERS),
            title: Escaped::untrusted(&rule.title, UNTRUSTED_CHARACTERS),
            level: rule.level,
            description: Escaped::trusted(&rule.description),
            response: prose(&rule.response),
            false_positives: prose(&rule.false_positives),
            references: prose(&rule.references),
            tags: prose(&rule.tags),
            file: Escaped::object(&rule.file, UNTRUSTED_CHARACTERS),
        });
        self.by_id.insert(rule.id.clone(), Rc::clone(&content));
        content
    }
}

impl FindingContent {
    /// The content of a finding. `differs` says whether a record of the same event id and other content
    /// came by another path.
    pub fn of(
        finding: &Finding,
        context: &Context<'_>,
        rules: &mut RuleContents,
        differs: bool,
    ) -> Self {
        let record = &finding.record;
        let account = |id: &str| AccountContent {
            id: Escaped::name(id, UNTRUSTED_CHARACTERS),
            name: context.style.account_names.get(id),
        };
        let affected = affected_account(record, context.file_account);
        let recorded = record.recipient_account();
        let recorded = recorded.filter(|id| affected.as_deref().is_some_and(|other| other != id));
        let (fields, has_more_fields) = changed_fields(finding, context.style.withhold_values);
        let name = |member| name_of(record, member);
        Self {
            level: finding.level(),
            rules: finding.rules.iter().map(|rule| rules.of(rule)).collect(),
            event: EventContent {
                id: record.event_id().map(|id| Escaped::name(id, 64)),
                name: name("eventName"),
                source: name("eventSource"),
                region: name("awsRegion"),
                time: record.event_time(),
                odd_time: match record.event_time() {
                    Some(_) => None,
                    None => name("eventTime"),
                },
            },
            outcome: outcome(record, context.style.withhold_values),
            affected: affected.as_deref().map(account),
            recorded: recorded.as_deref().map(account),
            actor: actor(&record.actor(), account),
            address: name("sourceIPAddress"),
            ip: record
                .text("sourceIPAddress")
                .and_then(|ip| ip.parse().ok()),
            user_agent: record
                .text("userAgent")
                .map(|agent| Escaped::untrusted(agent, UNTRUSTED_CHARACTERS)),
            addendum: addendum(record),
            unreadable: record
                .unreadable()
                .iter()
                .map(|member| Escaped::name(member, UNTRUSTED_CHARACTERS))
                .collect(),
            fields,
            has_more_fields,
            evidence: evidence(record, context),
            differs,
            thread: GroupKey::of(record, context.file_account).thread(),
        }
    }

    /// The rule that the alert explains.
    pub(super) fn rule(&self) -> &RuleContent {
        &self.rules[0]
    }
}

impl OutcomeContent {
    /// The outcome as attributes and archives name it.
    pub(super) fn word(&self) -> &'static str {
        if self.failed { "failed" } else { "succeeded" }
    }
}

/// The account that a record is about: that of the log file's key where the record names none.
pub(super) fn affected_account(record: &Record, file_account: Option<&str>) -> Option<String> {
    record
        .affected_account()
        .map(std::borrow::Cow::into_owned)
        .or_else(|| file_account.map(str::to_owned))
}

fn name_of(record: &Record, member: &str) -> Option<Escaped> {
    let text = record.text(member)?;
    Some(Escaped::name(text, UNTRUSTED_CHARACTERS))
}

fn outcome(record: &Record, withhold_values: bool) -> OutcomeContent {
    let Outcome::Failed { code } = record.outcome() else {
        return OutcomeContent {
            failed: false,
            code: None,
            message: None,
        };
    };
    OutcomeContent {
        failed: true,
        code: code.map(|code| Escaped::name(code, UNTRUSTED_CHARACTERS)),
        message: record
            .text("errorMessage")
            .filter(|_| !withhold_values)
            .map(|message| Escaped::untrusted(message, UNTRUSTED_CHARACTERS)),
    }
}

fn addendum(record: &Record) -> Option<AddendumContent> {
    let addendum = record.addendum()?;
    Some(AddendumContent {
        reason: Escaped::name(addendum.reason, 64),
        original_event_id: addendum
            .original_event_id
            .filter(|_| addendum.reason == UPDATED_DATA)
            .map(|id| Escaped::name(id, 64)),
        updated_fields: addendum
            .updated_fields
            .iter()
            .take(10)
            .map(|field| Escaped::name(field, 64))
            .collect(),
    })
}

fn evidence(record: &Record, context: &Context<'_>) -> EvidenceContent {
    let short = |member| {
        record
            .text(member)
            .filter(|text| text.len() <= COMMAND_CHARACTERS)
            .map(Escaped::json_string)
    };
    EvidenceContent {
        came_by: record.came_by(),
        backfill: context.backfill,
        log_file: context.object.map(|object| {
            let name = format!("s3://{}/{}", object.bucket, object.key);
            Escaped::object(&name, OBJECT_CHARACTERS)
        }),
        fetch: context.object.map(fetch_command),
        choice: match short("eventID") {
            Some(id) => RecordChoice::EventId(id),
            None => RecordChoice::NameAndTime(short("eventName"), short("eventTime")),
        },
        lookup: lookup_command(record),
        console: console_link(record),
    }
}

/// A command for copy and paste that prints an object; `gunzip -cf` passes plain JSON through.
fn fetch_command(object: &ObjectRef) -> Escaped {
    let word = Escaped::shell_word;
    let (bucket, key) = (&object.bucket, &object.key);
    let fetch = if let Some(version) = &object.version_id {
        format!(
            "aws s3api get-object --bucket {} --key {} --version-id {} /dev/fd/3 3>&1 >/dev/null",
            word(bucket),
            word(key),
            word(version)
        )
    } else {
        format!("aws s3 cp {} -", word(&format!("s3://{bucket}/{key}")))
    };
    Escaped::trusted(&format!("{fetch} | gunzip -cf"))
}

/// Whether a text consists of what AWS's Regions and event ids consist of.
fn is_plain(text: &&str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// CloudTrail keeps management events for 90 days.
fn lookup_command(record: &Record) -> Option<Escaped> {
    let region = record.text("awsRegion").filter(is_plain)?;
    let id = record.event_id().filter(is_plain)?;
    Some(Escaped::trusted(&format!(
        "aws cloudtrail lookup-events --region {region} --lookup-attributes \
         AttributeKey=EventId,AttributeValue={id}"
    )))
}

/// A link that opens for whoever is signed in to the account of the event.
fn console_link(record: &Record) -> Option<Escaped> {
    let region = record.text("awsRegion").filter(is_plain)?;
    let id = record.event_id().filter(is_plain)?;
    let domain = if region.starts_with("us-gov-") {
        "console.amazonaws-us-gov.com"
    } else if region.starts_with("cn-") {
        "console.amazonaws.cn"
    } else {
        "console.aws.amazon.com"
    };
    Some(Escaped::trusted(&format!(
        "https://{region}.{domain}/cloudtrailv2/home?region={region}#/events/{id}"
    )))
}
