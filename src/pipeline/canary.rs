//! The canary: one harmless call, which proves trail, delivery, permissions and scan when its record
//! comes back in a log file.
//!
//! The function calls `ListRegions` of AWS Account Management. CloudTrail records it under the source
//! of the account's own changes. The call's user agent carries the canary's nonce.

use std::error::Error;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{deadline::Deadline, failure};
use crate::{
    cloudtrail::Record,
    envelope::Failure,
    ledger::{CanaryMeeting, Ledger, LedgerStore},
    report::Report,
};

/// Event source of the canary's record.
pub(super) const SOURCE: &str = "account.amazonaws.com";
/// Event name of the canary's record.
pub(super) const EVENT_NAME: &str = "ListRegions";
/// The SDK writes an application's name behind this word into the user agent.
const APP: &str = "app/";
/// Begins the application's name, and the nonce follows. AWS allows 50 characters
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-appid.html>).
const APP_NAME: &str = "billing-watch-canary-";
/// Hexadecimal digits of a nonce.
const NONCE_DIGITS: usize = 16;

/// How the canary is called, and when it is missing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CanarySettings {
    /// ARN of the function's own role, which makes the call.
    pub role_arn: String,
    /// The time within which the record must arrive.
    pub within: SignedDuration,
}

/// The canary's call failed.
#[derive(Debug, thiserror::Error)]
#[error("the call failed")]
pub struct CanaryCallError {
    /// What the operator can do, where that is known; otherwise empty.
    pub remedy: &'static str,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Returns the application's name under which a canary calls.
pub fn app_name(nonce: &str) -> String {
    format!("{APP_NAME}{nonce}")
}

impl CanarySettings {
    /// Returns the nonce of a record that looks like a canary's: the function's own role made exactly
    /// this call. Whether there is such a canary is for the ledger to say.
    pub(super) fn nonce<'a>(&self, record: &'a Record) -> Option<&'a str> {
        let is = |name, expected| record.text(name) == Some(expected);
        let issuer = record
            .get("userIdentity")?
            .pointer("/sessionContext/sessionIssuer/arn");
        if !is("eventSource", SOURCE)
            || !is("eventName", EVENT_NAME)
            || issuer.and_then(Value::as_str) != Some(&self.role_arn)
        {
            return None;
        }
        let mut words = record.text("userAgent")?.split(' ');
        let nonce = words.find_map(|word| word.strip_prefix(APP)?.strip_prefix(APP_NAME))?;
        let is_nonce =
            nonce.len() == NONCE_DIGITS && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_nonce.then_some(nonce)
    }
}

/// Judges the last canary and calls the next one. `nonce` is 16 hexadecimal digits.
///
/// The canary is in the ledger before it is called, so that its record is recognized however early it
/// comes.
pub(super) async fn send<L: LedgerStore, C: Fn() -> Timestamp>(
    ledger: &Ledger<L>,
    settings: &CanarySettings,
    nonce: &str,
    deadline: &Deadline<'_, C>,
    call: impl AsyncFnOnce(&str) -> Result<(), CanaryCallError>,
) -> (Report, Option<Failure>) {
    let mut report = Report::default();
    let begun = ledger.begin_canary(nonce, settings.within, deadline.now());
    let run = match deadline.before_reply(begun).await {
        Some(Ok(run)) => run,
        Some(Err(error)) => return (report, Some(failure::canary_ledger(&error))),
        None => return (report, Some(failure::canary_too_late())),
    };
    report.canary_missing = Some(u64::from(run.is_missing));
    let failure = match deadline.before_reply(call(&run.nonce)).await {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(failure::canary_call(&error)),
        None => Some(failure::canary_too_late()),
    };
    (report, failure)
}

/// What a record that looks like a canary's turned out to be.
pub(super) enum Met {
    /// A canary's, which is no finding. Holds its delay when it was met for the first time.
    Canary(Option<SignedDuration>),
    /// Another call of the function's role.
    Other,
}

/// Notes in the ledger that a record with a canary's nonce was scanned.
pub(super) async fn meet<L: LedgerStore, C: Fn() -> Timestamp>(
    ledger: &Ledger<L>,
    nonce: &str,
    deadline: &Deadline<'_, C>,
) -> Result<Met, Failure> {
    let met = deadline.before_reply(ledger.meet_canary(nonce, deadline.now()));
    match met.await {
        Some(Ok(CanaryMeeting::First(delay))) => Ok(Met::Canary(Some(delay))),
        Some(Ok(CanaryMeeting::Again)) => Ok(Met::Canary(None)),
        Some(Ok(CanaryMeeting::Unknown)) => Ok(Met::Other),
        Some(Err(error)) => Err(failure::canary_ledger(&error)),
        None => Err(failure::canary_too_late()),
    }
}
