//! Failures under stable names, for alarms and runbooks: docs/operations.md has their meanings and remedies.

use std::fmt;

macro_rules! error_types {
    ($($(#[doc = $doc:literal])+ $name:ident, retryable: $retryable:literal;)+) => {
        /// The stable name of a kind of failure.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum ErrorType {
            $($(#[doc = $doc])+ $name,)+
        }

        impl ErrorType {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name, the same in every version.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Whether another try may succeed without anybody's help.
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$name => $retryable,)+
                }
            }
        }
    };
}

error_types! {
    /// The envelope, or a part of it, is of no known shape.
    UnknownEnvelope, retryable: false;
    /// The object, its version or its bucket does not exist.
    ObjectMissing, retryable: false;
    /// S3 does not let the function read the object.
    ObjectAccessDenied, retryable: false;
    /// KMS does not let the function use the object's key, or the key is of no use.
    KeyAccessDenied, retryable: false;
    /// S3 or KMS had too many requests.
    ObjectThrottled, retryable: true;
    /// The object could not be read for another reason, such as a broken connection.
    ObjectUnreadable, retryable: true;
    /// The object is cut, damaged, or not what its name says.
    ObjectCorrupt, retryable: false;
    /// The object expands beyond the cap.
    ObjectTooLarge, retryable: false;
    /// The invocation's time did not suffice.
    OutOfTime, retryable: true;
    /// Another invocation is alerting on the same records.
    LedgerBusy, retryable: true;
    /// The ledger could not be read or written.
    LedgerUnavailable, retryable: true;
    /// SNS gave no answer, or asks for another try.
    AlertNotSent, retryable: true;
    /// SNS refused the alert.
    AlertRefused, retryable: false;
    /// The self-test's alert was accepted, and nobody is known to have heard it.
    AlertUnheard, retryable: false;
    /// The operator's rules could not be read.
    RulesUnavailable, retryable: true;
    /// The bundled rules do not load beside the operator's: a fault of this build.
    RulesBroken, retryable: false;
    /// Failures of several kinds: the message has them all.
    SeveralFailures, retryable: true;
}

impl fmt::Display for ErrorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One reason why a delivery fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// Its kind.
    pub error_type: ErrorType,
    /// Names the object and the cause.
    pub message: String,
}

/// An invocation that failed, after every object was tried.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct InvocationError {
    /// The kind of its failures if they share one, else [`ErrorType::SeveralFailures`].
    pub error_type: ErrorType,
    /// Every failure, as far as room allows.
    pub message: String,
}
