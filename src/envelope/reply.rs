//! The reply that each sender expects: S3 Batch Operations and SQS have their own formats, every
//! other sender gets the report or an error.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse};
use serde_json::{Value, json};

use super::{DeliveryOutcome, Envelope, ErrorType, Failure, InvocationError, Reply};

/// Most failures that an error message spells out.
const SPELLED_FAILURES: usize = 10;
/// S3 Batch Operations gets at most this many characters a task.
const RESULT_CHARACTERS: usize = 1000;

impl Envelope {
    /// Returns the reply to the sender. `outcomes` are those of the deliveries, in their order.
    ///
    /// # Errors
    ///
    /// A sender that expects no reply of its own gets the failures as an error, so that Lambda retries
    /// the event. SQS and S3 Batch find them in their replies.
    pub fn respond(
        &self,
        outcomes: &[DeliveryOutcome],
        report: Value,
    ) -> Result<Value, InvocationError> {
        let parts = || self.deliveries.iter().zip(outcomes);
        match &self.reply {
            Reply::Report | Reply::Action(_) => {
                let failures: Vec<&Failure> = outcomes
                    .iter()
                    .flat_map(|outcome| &outcome.failures)
                    .collect();
                if failures.is_empty() {
                    Ok(report)
                } else {
                    Err(InvocationError::of(&failures))
                }
            }
            Reply::SqsBatch { fifo } => {
                let mut failed_before = false;
                let mut response = SqsBatchResponse::default();
                for (delivery, outcome) in parts() {
                    if !outcome.failures.is_empty() || (*fifo && failed_before) {
                        failed_before = true;
                        let mut failure = BatchItemFailure::default();
                        failure.item_identifier.clone_from(&delivery.id);
                        response.batch_item_failures.push(failure);
                    }
                }
                Ok(json!(response))
            }
            Reply::S3Batch {
                schema_version,
                invocation_id,
            } => {
                let results: Vec<Value> = parts()
                    .map(|(delivery, outcome)| task_result(&delivery.id, outcome))
                    .collect();
                Ok(json!({
                    "invocationSchemaVersion": schema_version,
                    "treatMissingKeysAs": "PermanentFailure",
                    "invocationId": invocation_id,
                    "results": results,
                }))
            }
        }
    }
}

impl InvocationError {
    fn of(failures: &[&Failure]) -> Self {
        let shared = failures
            .first()
            .map(|failure| failure.error_type)
            .filter(|first| failures.iter().all(|failure| failure.error_type == *first));
        let mut message = failures
            .iter()
            .take(SPELLED_FAILURES)
            .map(|failure| failure.message.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        if failures.len() > SPELLED_FAILURES {
            let more = failures.len() - SPELLED_FAILURES;
            message = format!("{message}; and {more} more");
        }
        Self {
            error_type: shared.unwrap_or(ErrorType::SeveralFailures),
            message,
        }
    }
}

fn task_result(id: &str, outcome: &DeliveryOutcome) -> Value {
    let code = match outcome
        .failures
        .iter()
        .map(|failure| failure.error_type.is_retryable())
        .max()
    {
        None => "Succeeded",
        Some(true) => "TemporaryFailure",
        Some(false) => "PermanentFailure",
    };
    let failures = outcome
        .failures
        .iter()
        .map(|failure| failure.message.as_str());
    let findings = (!outcome.result.is_empty()).then_some(outcome.result.as_str());
    let result: String = failures
        .chain(findings)
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(RESULT_CHARACTERS)
        .collect();
    json!({"taskId": id, "resultCode": code, "resultString": result})
}
