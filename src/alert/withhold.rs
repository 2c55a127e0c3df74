//! Decides which values of a record's parameters an alert shows.
//!
//! Triage needs the kind of a change, not somebody's address. A value is shown only if its kind cannot
//! hold personal data.

use serde_json::Value;

use super::Escaped;
use crate::cloudtrail::is_account_id;

/// Most characters of a value that an alert shows.
const SHOWN_CHARACTERS: usize = 200;
/// What stands for a withheld value.
const WITHHELD: &str = "(withheld)";
/// AWS's own mask for what it hides.
const MASKED_BY_AWS: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";
/// Names, in lower case without `_` and `-`, under which account ids stand.
const ACCOUNT_NAMES: [&str; 10] = [
    "accountid",
    "accountids",
    "departedaccountid",
    "linkedaccountid",
    "linkedaccountids",
    "managementaccountid",
    "memberaccountid",
    "payeraccountid",
    "recipientaccountid",
    "targetaccountid",
];
/// Names, likewise, under which numbers are counts or spans of time, not somebody's.
const COUNT_NAMES: [&str; 8] = [
    "count",
    "days",
    "months",
    "numberofmonths",
    "percentage",
    "quantity",
    "term",
    "years",
];
/// Names, likewise, whose values are words of AWS's own choosing.
const PLAIN_NAMES: [&str; 34] = [
    "action",
    "alternatecontacttype",
    "contacttype",
    "country",
    "countrycode",
    "currency",
    "currencycode",
    "departuremethod",
    "feature",
    "featurename",
    "features",
    "iamaccesspreference",
    "joinedmethod",
    "optin",
    "optinstatus",
    "paymentcurrency",
    "paymentmethodtype",
    "paymenttype",
    "period",
    "preferredcurrency",
    "preference",
    "preferencetype",
    "reason",
    "region",
    "regionname",
    "requesttype",
    "schemaversion",
    "sharing",
    "status",
    "statusreason",
    "tagstatus",
    "taxregistrationtype",
    "type",
    "verificationstatus",
];

/// A leaf value as an alert shows it; `name` is the member it stands under.
pub(super) fn shown(name: &str, value: &Value, withhold: bool) -> Escaped {
    let text = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if !withhold || COUNT_NAMES.contains(&normalised(name).as_str()) => {
            number.to_string()
        }
        Value::Number(_) => WITHHELD.to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) if withhold && !is_plain(name, text) => masked(name, text),
        Value::String(text) => text.clone(),
        Value::Array(members) if members.is_empty() => "empty list".to_owned(),
        Value::Object(members) if members.is_empty() => "empty object".to_owned(),
        Value::Array(_) | Value::Object(_) => "(nested too deeply to show)".to_owned(),
    };
    Escaped::untrusted(&text, SHOWN_CHARACTERS)
}

fn is_plain(name: &str, text: &str) -> bool {
    let name = normalised(name);
    let is_word = || {
        text.len() <= 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    text == MASKED_BY_AWS
        || matches!(text, "true" | "false")
        || (ACCOUNT_NAMES.contains(&name.as_str()) && is_account_id(text))
        || (PLAIN_NAMES.contains(&name.as_str()) && is_word())
        || (matches!(name.as_str(), "state" | "outcome") && is_constant(text))
}

/// A word in capitals with an underscore, or one of the plain states: not somebody's address.
fn is_constant(text: &str) -> bool {
    matches!(
        text,
        "SUCCEEDED" | "FAILED" | "SUCCESS" | "FAILURE" | "ENABLED" | "DISABLED"
    ) || (text.contains('_')
        && text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}

/// First letter and domain of a mail address, the last two digits of a phone number, else nothing.
fn masked(name: &str, text: &str) -> String {
    if let Some((local, domain)) = text.rsplit_once('@')
        && let Some(first) = local.chars().next()
        && is_domain(domain)
    {
        return format!("{first}…@{domain}");
    }
    let name = normalised(name);
    if name.contains("phone") || name.contains("fax") {
        let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
        if let [_, _, _, _, .., tens, ones] = digits[..] {
            return format!("…{tens}{ones}");
        }
    }
    WITHHELD.to_owned()
}

fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.contains('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

fn normalised(name: &str) -> String {
    name.chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}
