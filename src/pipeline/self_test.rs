//! The self-test: one clearly marked alert, and a look at who is subscribed.

use jiff::Timestamp;

use super::{
    deadline::Deadline,
    failure,
    sink::{AlertSink, SinkError},
};
use crate::{alert, envelope::Failure, report::Report};

/// Publishes the test alert. Fails also if SNS accepts it and nobody is subscribed.
pub(super) async fn self_test<A: AlertSink, C: Fn() -> Timestamp>(
    sink: &A,
    deadline: &Deadline<'_, C>,
    report: &mut Report,
) -> Result<(), Failure> {
    let message = alert::self_test(deadline.now());
    let published = deadline.before_reply(sink.publish(&message)).await;
    published
        .unwrap_or_else(|| Err(SinkError::no_answer()))
        .map_err(|error| failure::publish_self_test(&error))?;
    report.messages += 1;
    let subscribers = deadline.before_reply(sink.subscribers()).await;
    let subscribers = subscribers
        .unwrap_or_else(|| Err(SinkError::no_answer()))
        .map_err(|error| failure::list_subscribers(&error))?;
    if subscribers.confirmed == 0 {
        return Err(failure::no_subscribers(subscribers));
    }
    Ok(())
}
