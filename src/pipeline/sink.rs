//! Where messages go: the trait behind which SNS stands.

use std::error::Error;

use crate::alert::Message;

/// Where messages go: SNS, or standard output.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait AlertSink {
    /// Publishes a message. Returns the id under which it was accepted.
    async fn publish(&self, message: &Message) -> Result<String, SinkError>;

    /// Counts the subscriptions.
    async fn subscriptions(&self) -> Result<Subscriptions, SinkError>;
}

/// The subscriptions of a topic.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Subscriptions {
    /// Subscriptions that receive messages.
    pub confirmed: u64,
    /// Subscriptions that nobody has confirmed yet.
    pub pending: u64,
}

/// A request to the sink failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", if *retryable { "the request failed" } else { "the request was refused" })]
pub struct SinkError {
    /// Whether another try may succeed without anybody's help.
    pub retryable: bool,
    /// What the operator can do, where the sink knows; otherwise empty.
    pub remedy: &'static str,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

impl SinkError {
    /// No answer came before the invocation had to reply.
    pub(super) fn no_answer() -> Self {
        Self {
            retryable: true,
            remedy: "",
            source: "no answer before the invocation's deadline".into(),
        }
    }
}
