//! The self-test: one clearly marked alert on each topic, and a look at who is subscribed.

use jiff::Timestamp;

use super::{
    deadline::Deadline,
    failure,
    sink::{AlertSink, SinkError, Topic},
};
use crate::{alert, envelope::Failure, rules::PackIdentity};

/// How a self-test ended.
pub(super) struct SelfTest {
    /// Messages that SNS accepted.
    pub(super) messages: u64,
    /// Why subscribers may not receive alerts.
    pub(super) failures: Vec<Failure>,
}

/// Publishes the test alert on each topic in its own format, and checks that somebody is subscribed to
/// each.
pub(super) async fn self_test<A: AlertSink, C: Fn() -> Timestamp>(
    sink: &A,
    topics: &[Topic],
    rules: &PackIdentity,
    deadline: &Deadline<'_, C>,
) -> SelfTest {
    let mut test = SelfTest {
        messages: 0,
        failures: Vec::new(),
    };
    for topic in topics {
        let message = alert::self_test(topic.audience, rules, deadline.now());
        let published = deadline.before_reply(sink.publish(topic, &message)).await;
        let published = published.unwrap_or_else(|| Err(SinkError::no_answer()));
        test.messages += u64::from(published.is_ok());
        let failure = match published {
            Ok(_) => check_subscriptions(sink, topic, deadline).await.err(),
            Err(error) => Some(failure::publish_self_test(topic, &error)),
        };
        if let Some(failure) = &failure {
            tracing::error!(
                error_type = %failure.error_type,
                error = failure.message,
                "the self-test failed"
            );
        }
        test.failures.extend(failure);
    }
    test
}

async fn check_subscriptions<A: AlertSink, C: Fn() -> Timestamp>(
    sink: &A,
    topic: &Topic,
    deadline: &Deadline<'_, C>,
) -> Result<(), Failure> {
    let subscriptions = deadline.before_reply(sink.subscriptions(topic)).await;
    let subscriptions = subscriptions
        .unwrap_or_else(|| Err(SinkError::no_answer()))
        .map_err(|error| failure::list_subscriptions(topic, &error))?;
    if subscriptions.confirmed == 0 {
        return Err(failure::no_subscribers(topic, subscriptions));
    }
    Ok(())
}
