//! Publishes messages to SNS topics.

use std::{borrow::Cow, collections::BTreeMap};

use aws_sdk_sns::{
    error::{ProvideErrorMetadata, SdkError},
    types::MessageAttributeValue,
};

use super::request_error::RequestError;
use crate::{
    alert::{AttributeValue, Message},
    config::topic_region,
    pipeline::{AlertSink, SinkError, Subscriptions, Topic},
};

/// What SNS returns instead of an ARN for a subscription that nobody has confirmed. For one that was
/// deleted it returns `Deleted` for a while.
const PENDING: &str = "PendingConfirmation";

/// SNS, in the Regions that have topics.
#[derive(Clone, Debug)]
pub struct SnsAlertSink {
    /// Clients by Region.
    pub(super) clients: BTreeMap<String, aws_sdk_sns::Client>,
}

impl SnsAlertSink {
    fn client(&self, topic: &Topic) -> Result<&aws_sdk_sns::Client, SinkError> {
        let region = topic_region(&topic.arn).unwrap_or_default();
        self.clients.get(region).ok_or_else(|| SinkError {
            retryable: false,
            remedy: "",
            source: format!("no client for Region {region}").into(),
        })
    }
}

impl AlertSink for SnsAlertSink {
    async fn publish(&self, topic: &Topic, message: &Message) -> Result<String, SinkError> {
        let mut request = self
            .client(topic)?
            .publish()
            .topic_arn(&topic.arn)
            .subject(&message.subject)
            .message(&message.body);
        for attribute in &message.attributes {
            let (data_type, value) = match &attribute.value {
                AttributeValue::One(value) => ("String", Cow::Borrowed(value.as_str())),
                AttributeValue::Many(values) => (
                    "String.Array",
                    Cow::Owned(serde_json::json!(values).to_string()),
                ),
            };
            let value = MessageAttributeValue::builder()
                .data_type(data_type)
                .string_value(value)
                .build()
                .map_err(|error| SinkError {
                    retryable: false,
                    remedy: "",
                    source: error.into(),
                })?;
            request = request.message_attributes(attribute.name, value);
        }
        match request.send().await {
            Ok(output) => Ok(output.message_id.unwrap_or_default()),
            Err(error) => {
                let remedy = publish_remedy(error.code().unwrap_or_default());
                Err(sink_error(error, remedy))
            }
        }
    }

    async fn subscriptions(&self, topic: &Topic) -> Result<Subscriptions, SinkError> {
        let mut subscriptions = Subscriptions::default();
        let request = self.client(topic)?.list_subscriptions_by_topic();
        let mut pages = request.topic_arn(&topic.arn).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| {
                let remedy = match error.code() {
                    Some("AuthorizationError") => {
                        "allow sns:ListSubscriptionsByTopic on the topic in the function's role"
                    }
                    _ => "",
                };
                sink_error(error, remedy)
            })?;
            for subscription in page.subscriptions() {
                match subscription.subscription_arn().unwrap_or_default() {
                    PENDING => subscriptions.pending += 1,
                    arn if arn.starts_with("arn:") => subscriptions.confirmed += 1,
                    _ => {}
                }
            }
        }
        Ok(subscriptions)
    }
}

fn sink_error<E>(error: SdkError<E>, remedy: &'static str) -> SinkError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    SinkError {
        retryable: is_retryable(&error),
        remedy,
        source: RequestError(error).into(),
    }
}

fn publish_remedy(code: &str) -> &'static str {
    match code {
        "AuthorizationError" => {
            "allow sns:Publish in the function's role, and in the topic's policy where the topic \
             is another account's"
        }
        "NotFound" => "set the variable to a topic that exists",
        "KMSAccessDenied" => {
            "allow kms:Decrypt and kms:GenerateDataKey on the topic's key, in the function's role \
             and in the key's policy"
        }
        _ => "",
    }
}

/// Returns whether another try may succeed: no answer came, or throttling or a fault of the service.
fn is_retryable<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(refusal) => {
            let throttled = error.code().is_some_and(|code| code.contains("Throttl"));
            throttled || refusal.raw().status().is_server_error()
        }
        _ => true,
    }
}
