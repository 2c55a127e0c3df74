//! One CloudTrail record. Any field may be missing or have another shape.
//!
//! Fields: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};

use super::key::is_account_id;

/// How deep `serviceEventDetails` is searched for an account or a state.
const DETAIL_DEPTH: usize = 6;
/// Longer records, and longer members of those, are not taken in whole: CloudTrail's own limit on
/// an event is 256 KB, and parsed JSON may take a hundred times its text's memory.
const WHOLE_BYTES: usize = 256 << 10;
/// Members, in lower case, that name the account an action is about.
const ACCOUNT_MEMBERS: [&str; 4] = [
    "accountid",
    "memberaccountid",
    "departedaccountid",
    "targetprincipal",
];

/// One CloudTrail record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    members: Value,
    unreadable: Vec<String>,
    came_by: CameBy,
}

/// The way by which a record came. The log file is the truth; the others may be faster.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CameBy {
    /// As an element of a log file's `Records`.
    #[default]
    LogFile,
    /// As the `detail` of an event of `EventBridge`.
    EventBridge,
    /// As a log event of a CloudWatch Logs subscription.
    CloudWatchLogs,
}

impl CameBy {
    /// Returns whether the record came in the envelope itself.
    pub fn is_direct(self) -> bool {
        self != Self::LogFile
    }
}

/// A record as it could be read.
#[derive(Debug)]
pub struct ParsedRecord {
    /// What could be read.
    pub record: Record,
    /// Whether the text is not JSON at all, rather than JSON too odd to be taken in whole.
    pub malformed: bool,
}

/// Who acted, in the record's own words.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Actor<'a> {
    /// `userIdentity.type`; `AWSService` where only `invokedBy` is given; else `Unknown`.
    pub actor_type: &'a str,
    /// User, role or alias, whichever the type has.
    pub name: Option<&'a str>,
    /// The session of a role.
    pub session: Option<&'a str>,
    /// ARN of the identity.
    pub arn: Option<&'a str>,
    /// The identity's unique id at AWS.
    pub principal_id: Option<&'a str>,
    /// The account that the identity belongs to.
    pub account: Option<Cow<'a, str>>,
    /// The access key id that signed the request.
    pub access_key_id: Option<&'a str>,
    /// The AWS service that acted, alone or on the identity's behalf.
    pub invoked_by: Option<&'a str>,
    /// Whether the session was authenticated with MFA, where CloudTrail says so.
    pub mfa: Option<bool>,
    /// Whether this is a short root session that the organization's management account opened.
    pub assumed_root: bool,
}

/// Whether the action took effect, as far as the record tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome<'a> {
    /// No error is on record.
    Succeeded,
    /// Refused or failed.
    Failed {
        /// CloudTrail's `errorCode`, where there is one.
        code: Option<&'a str>,
    },
}

/// CloudTrail's note on a record that it delivered late or again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addendum<'a> {
    /// `DELIVERY_DELAY`, `SERVICE_OUTAGE` (the service could not log its events) or `UPDATED_DATA`
    /// (the record corrects an earlier one).
    pub reason: &'a str,
    /// The event that an `UPDATED_DATA` record corrects.
    pub original_event_id: Option<&'a str>,
    /// The fields that it corrects. CloudTrail writes one string.
    pub updated_fields: Vec<&'a str>,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
        })
    }
}

impl Record {
    /// Reads a record's JSON text. What `serde_json` refuses (deeper than 128 levels, a lone
    /// surrogate, bad UTF-8, a number out of range), and what is longer than CloudTrail writes, is
    /// split into its members, and those that parse are kept.
    pub fn parse(bytes: &[u8]) -> ParsedRecord {
        if bytes.len() <= WHOLE_BYTES
            && let Ok(members @ Value::Object(_)) = serde_json::from_slice(bytes)
        {
            return ParsedRecord {
                record: Self::from_value(members),
                malformed: false,
            };
        }
        let mut salvage = Salvage::default();
        let text = String::from_utf8_lossy(bytes);
        // The visitor has kept what it saw before an error, and well-formedness is asked below.
        let _ = (&mut salvage).deserialize(&mut serde_json::Deserializer::from_str(&text));
        ParsedRecord {
            record: Self {
                members: Value::Object(salvage.members),
                unreadable: salvage.unreadable,
                came_by: CameBy::default(),
            },
            malformed: !is_well_formed(bytes),
        }
    }

    /// Makes a record of parsed members. A value that is not an object gives a record without members.
    pub fn from_value(members: Value) -> Self {
        Self {
            members,
            unreadable: Vec::new(),
            came_by: CameBy::default(),
        }
    }

    /// The same record, which came by another way than a log file.
    #[must_use]
    pub fn with_path(mut self, came_by: CameBy) -> Self {
        self.came_by = came_by;
        self
    }

    /// Returns the way by which the record came.
    pub fn came_by(&self) -> CameBy {
        self.came_by
    }

    /// The whole record, as rules see it.
    pub fn as_value(&self) -> &Value {
        &self.members
    }

    /// A top-level member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// Returns about how many bytes of memory the record takes.
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(&self.members)
    }

    /// Names of the members that could not be read.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// A top-level member that is a string with something in it.
    pub fn text(&self, name: &str) -> Option<&str> {
        text(self.get(name))
    }

    /// The record's unique id; `eventVersion` 1.0 has none.
    pub fn event_id(&self) -> Option<&str> {
        self.text("eventID")
    }

    /// When the request was completed.
    pub fn event_time(&self) -> Option<Timestamp> {
        self.text("eventTime")?.parse().ok()
    }

    /// Whether the action took effect: error code, state of a service event, or the response.
    pub fn outcome(&self) -> Outcome<'_> {
        if let Some(code) = self.text("errorCode") {
            return Outcome::Failed { code: Some(code) };
        }
        let state_failed = self.get("serviceEventDetails").is_some_and(|details| {
            find(details, DETAIL_DEPTH, &|key, value| {
                (key.eq_ignore_ascii_case("state") || key.eq_ignore_ascii_case("status"))
                    && is_failure(value)
            })
            .is_some()
        });
        let response_failed = self
            .text("eventName")
            .and_then(|name| self.get("responseElements")?.get(name))
            .is_some_and(is_failure);
        if state_failed || response_failed {
            Outcome::Failed { code: None }
        } else {
            Outcome::Succeeded
        }
    }

    /// The account that the record was written for, 12 digits.
    pub fn recipient_account(&self) -> Option<Cow<'_, str>> {
        account(self.get("recipientAccountId"))
            .or_else(|| account(self.get("userIdentity")?.get("accountId")))
    }

    /// The account that the action is about, 12 digits: the one the request or the service event
    /// names, else the recipient.
    pub fn affected_account(&self) -> Option<Cow<'_, str>> {
        let is_account = |key: &str, value: &Value| {
            ACCOUNT_MEMBERS.contains(&key.to_ascii_lowercase().as_str())
                && account(Some(value)).is_some()
        };
        let parameters = self.get("requestParameters");
        let in_request = parameters
            .into_iter()
            .chain(parameters.and_then(|parameters| parameters.get("map")))
            .find_map(|members| find(members, 0, &is_account));
        in_request
            .or_else(|| find(self.get("serviceEventDetails")?, DETAIL_DEPTH, &is_account))
            .and_then(|value| account(Some(value)))
            .or_else(|| self.recipient_account())
    }

    /// Who acted.
    pub fn actor(&self) -> Actor<'_> {
        let identity = self.get("userIdentity");
        let field = |name: &str| text(identity?.get(name));
        let session_context = identity.and_then(|identity| identity.get("sessionContext"));
        let issuer = session_context.and_then(|context| context.get("sessionIssuer"));
        let arn = field("arn");
        let invoked_by = field("invokedBy");
        let actor_type = field("type").unwrap_or(if invoked_by.is_some() {
            "AWSService"
        } else {
            "Unknown"
        });
        let (role, session) = arn.map(role_and_session).unwrap_or_default();
        let mfa = session_context
            .and_then(|context| context.get("attributes")?.get("mfaAuthenticated"))
            .and_then(|mfa| match mfa {
                Value::Bool(mfa) => Some(*mfa),
                Value::String(mfa) => mfa.to_lowercase().parse().ok(),
                _ => None,
            });
        Actor {
            actor_type,
            name: role
                .or_else(|| text(issuer?.get("userName")))
                .or_else(|| field("userName")),
            session,
            arn,
            principal_id: field("principalId"),
            account: account(identity.and_then(|identity| identity.get("accountId"))),
            access_key_id: field("accessKeyId"),
            invoked_by,
            mfa,
            assumed_root: session_context
                .and_then(|context| context.get("assumedRoot"))
                .is_some_and(is_true),
        }
    }

    /// Why CloudTrail delivered the record late or again, if it says so.
    pub fn addendum(&self) -> Option<Addendum<'_>> {
        let addendum = self.get("addendum")?;
        let member = |name: &str| text(addendum.get(name));
        Some(Addendum {
            reason: member("reason")?,
            original_event_id: member("originalEventID"),
            updated_fields: match addendum.get("updatedFields") {
                Some(Value::Array(fields)) => fields.iter().filter_map(Value::as_str).collect(),
                _ => member("updatedFields").into_iter().collect(),
            },
        })
    }
}

/// Whether `bytes` are JSON by grammar alone, however deep or oddly encoded.
pub fn is_well_formed(bytes: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value?.as_str().filter(|text| !text.is_empty())
}

fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true) || value.as_str().is_some_and(|text| text == "true")
}

fn is_failure(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        ["failed", "failure"]
            .iter()
            .any(|failure| text.eq_ignore_ascii_case(failure))
    })
}

/// The account that a text is or, for an ARN, belongs to. Older records write ids with hyphens.
fn account(value: Option<&Value>) -> Option<Cow<'_, str>> {
    let text = value?.as_str()?;
    // An ARN names the account of its resource in the fifth place.
    let text = match text.strip_prefix("arn:") {
        Some(rest) => rest.split(':').nth(3)?,
        None => text,
    };
    if is_account_id(text) {
        return Some(Cow::Borrowed(text));
    }
    let digits = text.replace('-', "");
    (text.len() == 14 && is_account_id(&digits)).then_some(Cow::Owned(digits))
}

/// The first member, nearest to the top, that `wanted` accepts.
fn find<'a>(
    value: &'a Value,
    depth: usize,
    wanted: &impl Fn(&str, &Value) -> bool,
) -> Option<&'a Value> {
    let mut level = vec![value];
    for _ in 0..=depth {
        let members = || level.iter().filter_map(|value| value.as_object()).flatten();
        if let Some((_, value)) = members().find(|(key, value)| wanted(key, value)) {
            return Some(value);
        }
        level = members().map(|(_, value)| value).collect();
    }
    None
}

/// A node of a parsed JSON tree takes some 32 bytes; a member of an object some 100 more.
fn memory_bytes(value: &Value) -> usize {
    32 + match value {
        Value::String(text) => text.len(),
        Value::Array(members) => members.iter().map(memory_bytes).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| 100 + key.len() + memory_bytes(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Role and session of `arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
fn role_and_session(arn: &str) -> (Option<&str>, Option<&str>) {
    let Some((_, path)) = arn.split_once(":assumed-role/") else {
        return (None, None);
    };
    match path.split_once('/') {
        Some((role, session)) => (Some(role), Some(session)),
        None => (Some(path), None),
    }
}

/// Collects the members of a record one by one, until its text stops parsing.
#[derive(Default)]
struct Salvage {
    members: Map<String, Value>,
    unreadable: Vec<String>,
}

impl<'de> DeserializeSeed<'de> for &mut Salvage {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Salvage {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(LossyKey(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            let text = Some(value.get()).filter(|text| text.len() <= WHOLE_BYTES);
            match text.map(serde_json::from_str) {
                Some(Ok(value)) => {
                    self.members.insert(key, value);
                }
                Some(Err(_)) | None => self.unreadable.push(key),
            }
        }
        Ok(())
    }
}

/// A key that may hold lone surrogates, which become U+FFFD.
struct LossyKey(String);

impl<'de> serde::Deserialize<'de> for LossyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = LossyKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<LossyKey, E> {
                Ok(LossyKey(String::from_utf8_lossy(bytes).into_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<LossyKey, E> {
                Ok(LossyKey(text.to_owned()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
