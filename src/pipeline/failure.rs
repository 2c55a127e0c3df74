//! Failures under stable names, each with its object, its cause, and the remedy where there is one.

use super::{SinkError, StoreError, StoreErrorKind};
use crate::{
    alert::escape::clean,
    cloudtrail::ScanError,
    envelope::{Failure, ObjectRef},
    ledger::LedgerError,
};

/// An object's name, harmless in a log or an error message.
pub(super) fn shown(object: &ObjectRef) -> String {
    clean(&object.to_string(), 1400).replacen("[:]//", "://", 1)
}

pub(super) fn of_store(object: &ObjectRef, error: &StoreError) -> Failure {
    let (error_type, remedy, retryable) = match error.kind {
        StoreErrorKind::Missing => ("ObjectMissing", "", false),
        StoreErrorKind::AccessDenied => (
            "ObjectAccessDenied",
            "; allow s3:GetObject in the function's role and in the bucket's policy",
            false,
        ),
        StoreErrorKind::KeyAccessDenied => (
            "KeyAccessDenied",
            "; allow kms:Decrypt in the function's role and in the key's policy",
            false,
        ),
        StoreErrorKind::Throttled => ("ObjectThrottled", "", true),
        StoreErrorKind::Other => ("ObjectUnreadable", "", true),
    };
    Failure {
        error_type,
        message: format!("failed to fetch {}: {error}{remedy}", shown(object)),
        retryable,
    }
}

pub(super) fn of_scan(object: &ObjectRef, error: &ScanError) -> Failure {
    Failure {
        error_type: match error {
            ScanError::OverCap { .. } => "ObjectTooLarge",
            _ => "ObjectCorrupt",
        },
        message: format!("failed to scan {}: {error}", shown(object)),
        retryable: false,
    }
}

pub(super) fn of_ledger(object: &ObjectRef, error: &LedgerError) -> Failure {
    Failure {
        error_type: "LedgerUnavailable",
        message: format!("{}: {error}", shown(object)),
        retryable: true,
    }
}

pub(super) fn of_sink(what: &str, error: &SinkError) -> Failure {
    Failure {
        error_type: if error.retryable {
            "AlertNotSent"
        } else {
            "AlertRefused"
        },
        message: format!("failed to publish {what}: {error}"),
        retryable: error.retryable,
    }
}
