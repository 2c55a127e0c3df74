//! The self-test: one clearly marked alert, and a look at who is subscribed.

use jiff::Timestamp;

use super::{
    deadline::Deadline,
    failure,
    sink::{AlertSink, SinkError},
};
use crate::{alert, envelope::Failure, rules::PackIdentity};

/// How a self-test ended.
pub(super) struct SelfTest {
    /// Messages that SNS accepted.
    pub(super) messages: u64,
    /// Why subscribers may not receive alerts.
    pub(super) failure: Option<Failure>,
}

/// Publishes the test alert, and checks that somebody is subscribed.
pub(super) async fn self_test<A: AlertSink, C: Fn() -> Timestamp>(
    sink: &A,
    rules: &PackIdentity,
    deadline: &Deadline<'_, C>,
) -> SelfTest {
    let message = alert::self_test(rules, deadline.now());
    let published = deadline.before_reply(sink.publish(&message)).await;
    let published = published.unwrap_or_else(|| Err(SinkError::no_answer()));
    let messages = u64::from(published.is_ok());
    let failure = match published {
        Ok(_) => check_subscriptions(sink, deadline).await.err(),
        Err(error) => Some(failure::publish_self_test(&error)),
    };
    if let Some(failure) = &failure {
        tracing::error!(
            error_type = %failure.error_type,
            error = failure.message,
            "the self-test failed"
        );
    }
    SelfTest { messages, failure }
}

async fn check_subscriptions<A: AlertSink, C: Fn() -> Timestamp>(
    sink: &A,
    deadline: &Deadline<'_, C>,
) -> Result<(), Failure> {
    let subscriptions = deadline.before_reply(sink.subscriptions()).await;
    let subscriptions = subscriptions
        .unwrap_or_else(|| Err(SinkError::no_answer()))
        .map_err(|error| failure::list_subscriptions(&error))?;
    if subscriptions.confirmed == 0 {
        return Err(failure::no_subscribers(subscriptions));
    }
    Ok(())
}
