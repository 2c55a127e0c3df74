//! Failures under stable names, each with its object, its cause, and the remedy where there is one.

use super::{SinkError, StoreError, StoreErrorKind, Subscribers};
use crate::{
    alert::escape::clean,
    cloudtrail::ScanError,
    envelope::{ErrorType, Failure, ObjectRef},
    ledger::LedgerError,
};

/// An object's name, harmless in a log or an error message.
pub(super) fn shown(object: &ObjectRef) -> String {
    clean(&object.to_string(), 1400).replacen("[:]//", "://", 1)
}

pub(super) fn of_store(object: &ObjectRef, error: &StoreError) -> Failure {
    let (error_type, remedy) = match error.kind {
        StoreErrorKind::Missing => (ErrorType::ObjectMissing, ""),
        StoreErrorKind::AccessDenied => (
            ErrorType::ObjectAccessDenied,
            "; allow s3:GetObject to the role that reads (LOG_READER_ROLE_ARN, or else the \
             function's own) and in the bucket's policy",
        ),
        StoreErrorKind::KeyAccessDenied => (
            ErrorType::KeyAccessDenied,
            "; allow kms:Decrypt to the role that reads (LOG_READER_ROLE_ARN, or else the \
             function's own) and in the key's policy",
        ),
        StoreErrorKind::RoleRefused => (
            ErrorType::ObjectAccessDenied,
            "; let the function's role assume the role in LOG_READER_ROLE_ARN, and name the \
             function's role in that role's trust policy",
        ),
        StoreErrorKind::Throttled => (ErrorType::ObjectThrottled, ""),
        StoreErrorKind::Other => (ErrorType::ObjectUnreadable, ""),
    };
    Failure {
        error_type,
        message: format!("failed to fetch {}: {error}{remedy}", shown(object)),
    }
}

pub(super) fn of_scan(object: &ObjectRef, error: &ScanError) -> Failure {
    Failure {
        error_type: match error {
            ScanError::OverCap { .. } => ErrorType::ObjectTooLarge,
            _ => ErrorType::ObjectCorrupt,
        },
        message: format!("failed to scan {}: {error}", shown(object)),
    }
}

pub(super) fn of_ledger(object: &ObjectRef, error: &LedgerError) -> Failure {
    Failure {
        error_type: ErrorType::LedgerUnavailable,
        message: format!("{}: {error}", shown(object)),
    }
}

pub(super) fn of_sink(what: &str, error: &SinkError) -> Failure {
    Failure {
        error_type: sink_error_type(error),
        message: format!("failed to publish {what}: {error}"),
    }
}

/// A failure unless somebody is known to hear alerts.
pub(super) fn of_subscribers(subscribers: Result<Subscribers, SinkError>) -> Result<(), Failure> {
    match subscribers {
        Ok(Subscribers {
            confirmed: 0,
            pending,
        }) => Err(Failure {
            error_type: ErrorType::AlertUnheard,
            message: format!(
                "nobody hears alerts: the topic in ALERT_TOPIC_ARN has no confirmed subscription \
                 ({pending} wait to be confirmed); subscribe somebody, or follow the link in the \
                 mail that asks to confirm"
            ),
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure {
            error_type: sink_error_type(&error),
            message: format!(
                "the self-test's alert was accepted, but SNS did not tell who hears it: {error}"
            ),
        }),
    }
}

pub(super) fn out_of_time(object: &ObjectRef) -> Failure {
    Failure {
        error_type: ErrorType::OutOfTime,
        message: format!(
            "{}: the invocation's time did not suffice; if that repeats, raise the function's memory \
             or timeout (60 seconds at most), or send fewer objects at a time",
            shown(object)
        ),
    }
}

pub(super) fn ledger_busy(object: &ObjectRef) -> Failure {
    Failure {
        error_type: ErrorType::LedgerBusy,
        message: format!(
            "{}: another invocation is alerting on some of its records",
            shown(object)
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
