//! Alerts to an SNS topic.

use std::borrow::Cow;

use aws_sdk_sns::{
    error::{ProvideErrorMetadata, SdkError},
    types::MessageAttributeValue,
};

use super::{chain, told};
use crate::{
    alert::{Alert, AttributeValue},
    pipeline::{AlertSink, SinkError, Subscribers},
};

/// A topic of SNS.
#[derive(Clone, Debug)]
pub struct SnsAlertSink {
    pub(super) client: aws_sdk_sns::Client,
    pub(super) topic_arn: String,
}

impl AlertSink for SnsAlertSink {
    async fn publish(&self, alert: &Alert) -> Result<String, SinkError> {
        let mut request = self
            .client
            .publish()
            .topic_arn(&self.topic_arn)
            .subject(&alert.subject)
            .message(&alert.text);
        for attribute in &alert.attributes {
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
                    message: chain(&error),
                    retryable: false,
                })?;
            request = request.message_attributes(attribute.name, value);
        }
        match request.send().await {
            Ok(output) => Ok(output.message_id.unwrap_or_default()),
            Err(error) => Err(SinkError {
                retryable: is_retryable(&error),
                message: format!(
                    "{}{}",
                    told(&error),
                    remedy(error.code().unwrap_or_default())
                ),
            }),
        }
    }

    async fn subscribers(&self) -> Result<Subscribers, SinkError> {
        let request = self.client.get_topic_attributes();
        let answer = request.topic_arn(&self.topic_arn).send().await;
        let attributes = answer
            .map_err(|error| SinkError {
                retryable: is_retryable(&error),
                message: told(&error),
            })?
            .attributes
            .unwrap_or_default();
        let count = |name: &str| {
            let number = attributes.get(name).and_then(|value| value.parse().ok());
            number.ok_or_else(|| SinkError {
                message: format!("SNS told no {name}"),
                retryable: false,
            })
        };
        Ok(Subscribers {
            confirmed: count("SubscriptionsConfirmed")?,
            pending: count("SubscriptionsPending")?,
        })
    }
}

fn remedy(code: &str) -> &'static str {
    match code {
        "AuthorizationError" => {
            "; allow sns:Publish in the function's role, and in the topic's policy where the topic \
             is another account's"
        }
        "NotFound" => "; set ALERT_TOPIC_ARN to a topic that exists",
        "KMSAccessDenied" => {
            "; allow kms:Decrypt and kms:GenerateDataKey on the topic's key, in the function's role \
             and in the key's policy"
        }
        _ => "",
    }
}

/// Whether the service did not say a definite no.
fn is_retryable<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    match error {
        SdkError::ServiceError(refusal) => {
            let throttled = error.code().is_some_and(|code| code.contains("Throttl"));
            throttled || refusal.raw().status().is_server_error()
        }
        _ => true,
    }
}
