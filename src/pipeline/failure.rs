//! Failures under their stable names: each names its object, the causes, and the remedy if there is one.

use std::fmt;

use super::{
    canary::CanaryCallError,
    record_source::{ReadError, StoreError, StoreErrorKind},
    sink::{SinkError, Subscriptions, Topic},
};
use crate::{
    alert::Escaped,
    cloudtrail::ScanError,
    envelope::{ErrorType, Failure, ObjectRef, with_causes},
    ledger::LedgerError,
};

/// Most characters of an object's name. Keys have at most 1,024 bytes.
const OBJECT_CHARACTERS: usize = 1400;

/// Where findings come from, as failures name it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    LogFile(&'a ObjectRef),
    /// The direct events of one invocation.
    DirectEvents,
}

impl<'a> Origin<'a> {
    /// The log file's name; `None` for direct events.
    pub(super) fn log_file(self) -> Option<Escaped> {
        Some(object_name(self.object()?))
    }

    /// The log file.
    pub(super) fn object(self) -> Option<&'a ObjectRef> {
        match self {
            Self::LogFile(object) => Some(object),
            Self::DirectEvents => None,
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.log_file() {
            Some(log_file) => log_file.fmt(f),
            None => f.write_str("direct events"),
        }
    }
}

/// An object's name, escaped for a log or an error message.
pub(super) fn object_name(object: &ObjectRef) -> Escaped {
    Escaped::object(&object.to_string(), OBJECT_CHARACTERS)
}

pub(super) fn read(object: &ObjectRef, error: &ReadError) -> Failure {
    match error {
        ReadError::Store(error) => fetch(object, error),
        ReadError::Scan(error) | ReadError::NotALogFile(error) => Failure {
            error_type: match error {
                ScanError::OverCap { .. } => ErrorType::ObjectTooLarge,
                _ => ErrorType::ObjectCorrupt,
            },
            message: format!("failed to scan {}: {error}", object_name(object)),
        },
        ReadError::DeadlineExceeded => deadline_exceeded(Origin::LogFile(object)),
    }
}

fn fetch(object: &ObjectRef, error: &StoreError) -> Failure {
    let (error_type, remedy) = match error.kind {
        StoreErrorKind::Missing => (ErrorType::ObjectMissing, error.remedy),
        StoreErrorKind::AccessDenied => (
            ErrorType::ObjectAccessDenied,
            "allow s3:GetObject to the reading role (LOG_READER_ROLE_ARN, or else the function's own), \
             in its own policy and in the bucket's",
        ),
        StoreErrorKind::KeyAccessDenied => (
            ErrorType::KeyAccessDenied,
            "allow kms:Decrypt to the reading role (LOG_READER_ROLE_ARN, or else the function's own), \
             in its own policy and in the key's",
        ),
        StoreErrorKind::AssumeRoleDenied => (
            ErrorType::ObjectAccessDenied,
            "let the function's role assume the role in LOG_READER_ROLE_ARN, and name the \
             function's role in that role's trust policy",
        ),
        StoreErrorKind::Throttled => (ErrorType::ObjectThrottled, error.remedy),
        StoreErrorKind::Other => (ErrorType::ObjectUnreadable, error.remedy),
    };
    let causes = with_causes(error);
    Failure {
        error_type,
        message: with_remedy(
            format!("failed to fetch {}: {causes}", object_name(object)),
            remedy,
        ),
    }
}

pub(super) fn ledger(origin: Origin<'_>, error: &LedgerError) -> Failure {
    let causes = with_causes(error);
    Failure {
        error_type: ErrorType::LedgerUnavailable,
        message: with_remedy(format!("{origin}: {causes}"), error.remedy),
    }
}

pub(super) fn publish(origin: Origin<'_>, topic: &Topic, error: &SinkError) -> Failure {
    publish_named(&format!("an alert on {origin}"), topic, error)
}

pub(super) fn publish_self_test(topic: &Topic, error: &SinkError) -> Failure {
    publish_named("the self-test alert", topic, error)
}

pub(super) fn direct_event_refused(sender: &str, account: &str) -> Failure {
    Failure {
        error_type: ErrorType::DirectEventRefused,
        message: format!(
            "a direct event that account {} sent says that it was recorded in {}; find out who may send \
             to the queue of direct events",
            Escaped::name(sender, 20),
            Escaped::name(account, 20)
        ),
    }
}

pub(super) fn unconfirmed_ledger(error: &LedgerError) -> Failure {
    Failure {
        error_type: ErrorType::LedgerUnavailable,
        message: with_remedy(
            format!("the check on direct events: {}", with_causes(error)),
            error.remedy,
        ),
    }
}

pub(super) fn unconfirmed_too_late() -> Failure {
    Failure {
        error_type: ErrorType::DeadlineExceeded,
        message:
            "the check on direct events: the invocation's deadline came first, and the check says \
                  nothing about any of them"
                .to_owned(),
    }
}

pub(super) fn list_subscriptions(topic: &Topic, error: &SinkError) -> Failure {
    let causes = with_causes(error);
    Failure {
        error_type: sink_error_type(error),
        message: with_remedy(
            format!(
                "SNS accepted the self-test's alert, but did not list the subscriptions of the topic in \
                 {}: {causes}",
                topic.variable()
            ),
            error.remedy,
        ),
    }
}

pub(super) fn no_subscribers(topic: &Topic, subscriptions: Subscriptions) -> Failure {
    Failure {
        error_type: ErrorType::NoSubscribers,
        message: format!(
            "nobody receives alerts: the topic in {} has no confirmed subscription ({} wait to be \
             confirmed); subscribe somebody, or follow the link in the email that asks to confirm",
            topic.variable(),
            subscriptions.pending
        ),
    }
}

pub(super) fn canary_ledger(error: &LedgerError) -> Failure {
    Failure {
        error_type: ErrorType::LedgerUnavailable,
        message: with_remedy(format!("the canary: {}", with_causes(error)), error.remedy),
    }
}

pub(super) fn canary_call(error: &CanaryCallError) -> Failure {
    Failure {
        error_type: ErrorType::CanaryNotSent,
        message: with_remedy(
            format!(
                "failed to call account:ListRegions for the canary: {}",
                with_causes(error)
            ),
            error.remedy,
        ),
    }
}

pub(super) fn canary_too_late() -> Failure {
    Failure {
        error_type: ErrorType::DeadlineExceeded,
        message: "the canary: the invocation's deadline came first".to_owned(),
    }
}

pub(super) fn list(bucket: &str, error: &StoreError) -> Failure {
    let (error_type, remedy) = match error.kind {
        StoreErrorKind::AccessDenied => (
            ErrorType::ObjectAccessDenied,
            "allow s3:ListBucket to the reading role (LOG_READER_ROLE_ARN, or else the function's \
             own), in its own policy and in the bucket's",
        ),
        StoreErrorKind::AssumeRoleDenied => (
            ErrorType::ObjectAccessDenied,
            "let the function's role assume the role in LOG_READER_ROLE_ARN",
        ),
        StoreErrorKind::Missing => (ErrorType::ObjectMissing, "correct COVERAGE_URI"),
        StoreErrorKind::Throttled => (ErrorType::ObjectThrottled, error.remedy),
        _ => (ErrorType::ObjectUnreadable, error.remedy),
    };
    let causes = with_causes(error);
    Failure {
        error_type,
        message: with_remedy(format!("failed to list s3://{bucket}: {causes}"), remedy),
    }
}

pub(super) fn coverage_no_accounts(bucket: &str, prefix: &str) -> Failure {
    Failure {
        error_type: ErrorType::ObjectMissing,
        message: format!(
            "s3://{bucket}/{prefix} has no folder AWSLogs with folders of accounts; correct \
             COVERAGE_URI"
        ),
    }
}

pub(super) fn coverage_too_late(bucket: &str, (done, all): (usize, usize)) -> Failure {
    Failure {
        error_type: ErrorType::DeadlineExceeded,
        message: format!(
            "the coverage check of s3://{bucket}: the invocation's deadline came after {done} of {all} \
             accounts, and the check says nothing about any of them; if that repeats, turn it off"
        ),
    }
}

pub(super) fn coverage_off() -> Failure {
    Failure {
        error_type: ErrorType::CoverageOff,
        message: "the coverage check is off: set the parameter CoverageSchedule, or COVERAGE_URI"
            .to_owned(),
    }
}

pub(super) fn canary_off() -> Failure {
    Failure {
        error_type: ErrorType::CanaryOff,
        message: "the canary is off: set the parameter CanarySchedule, or CANARY_ROLE_ARN and \
                  LEDGER_BUCKET"
            .to_owned(),
    }
}

pub(super) fn deadline_exceeded(origin: Origin<'_>) -> Failure {
    Failure {
        error_type: ErrorType::DeadlineExceeded,
        message: format!(
            "{origin}: the invocation's deadline came first; if that repeats, raise the function's memory \
             or timeout (60 seconds at most), or send fewer objects at a time"
        ),
    }
}

pub(super) fn claimed_elsewhere(origin: Origin<'_>) -> Failure {
    Failure {
        error_type: ErrorType::ClaimedElsewhere,
        message: format!("{origin}: another invocation is alerting on some of the records"),
    }
}

fn publish_named(what: &str, topic: &Topic, error: &SinkError) -> Failure {
    let causes = with_causes(error);
    let variable = topic.variable();
    Failure {
        error_type: sink_error_type(error),
        message: with_remedy(
            format!("failed to publish {what} on the topic in {variable}: {causes}"),
            error.remedy,
        ),
    }
}

fn sink_error_type(error: &SinkError) -> ErrorType {
    if error.retryable {
        ErrorType::AlertNotSent
    } else {
        ErrorType::AlertRefused
    }
}

fn with_remedy(message: String, remedy: &str) -> String {
    if remedy.is_empty() {
        message
    } else {
        format!("{message}; {remedy}")
    }
}
