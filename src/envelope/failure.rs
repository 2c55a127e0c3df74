//! Failures under stable names, for alarms and runbooks. docs/reference.md explains each.

use std::{error::Error, fmt};

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

            /// Returns its name, which is the same in every version.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// Returns whether another try may succeed without anybody's help.
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
    /// The invocation's deadline came before the object was done.
    DeadlineExceeded, retryable: true;
    /// Another invocation holds claims on some of the object's records.
    ClaimedElsewhere, retryable: true;
    /// The ledger could not be read or written.
    LedgerUnavailable, retryable: true;
    /// SNS gave no answer, or an answer that allows another try.
    AlertNotSent, retryable: true;
    /// SNS refused the alert.
    AlertRefused, retryable: false;
    /// SNS accepted the self-test's alert, but the topic has no confirmed subscription.
    NoSubscribers, retryable: false;
    /// The canary's call failed.
    CanaryNotSent, retryable: true;
    /// The function was asked for a canary, and the canary is off.
    CanaryOff, retryable: false;
    /// The function was asked for a coverage check, and the check is off.
    CoverageOff, retryable: false;
    /// A direct event names another account than the one that sent it.
    DirectEventRefused, retryable: false;
    /// The user's rules could not be read.
    RulesUnavailable, retryable: true;
    /// The bundled rules do not load together with the user's: a fault of this build.
    RulesInvalid, retryable: false;
    /// Failures of several kinds; the message names them all.
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

/// Returns an error's text with the texts of its sources. A source that the text before already quotes
/// is left out.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error with a text and perhaps a source.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Link(&'static str, #[source] Option<Box<Link>>);

    #[test]
    fn causes_follow_their_effect_and_quoted_ones_are_not_repeated() {
        let link = |text, source: Option<Link>| Link(text, source.map(Box::new));
        for (error, expected) in [
            (link("a", None), "a"),
            (link("b", Some(link("c", Some(link("d", None))))), "b: c: d"),
            (
                link(
                    "no answer: reset",
                    Some(link("reset", Some(link("timed out", None)))),
                ),
                "no answer: reset: timed out",
            ),
        ] {
            assert_eq!(with_causes(&error), expected);
        }
    }
}
