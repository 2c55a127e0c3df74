//! Where messages go: the topics, and the trait behind which SNS stands.

use std::error::Error;

use crate::{
    alert::{Audience, Message},
    rules::Level,
};

/// One topic, for one audience.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Topic {
    /// ARN of the topic.
    pub arn: String,
    /// Who is subscribed, and so in which format messages are.
    pub audience: Audience,
    /// The lowest level that alerts there.
    pub minimum_level: Level,
}

/// Where messages go: SNS, or standard output.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait AlertSink {
    /// Publishes a message on a topic. Returns the id under which it was accepted.
    async fn publish(&self, topic: &Topic, message: &Message) -> Result<String, SinkError>;

    /// Counts the subscriptions of a topic.
    async fn subscriptions(&self, topic: &Topic) -> Result<Subscriptions, SinkError>;
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

impl Topic {
    /// The variable that names a topic for this audience.
    pub fn variable(&self) -> &'static str {
        match self.audience {
            Audience::People => "ALERT_TOPIC_ARN",
            Audience::Chat => "CHAT_TOPIC_ARN",
            Audience::Machines => "FINDING_TOPIC_ARN",
        }
    }
}
