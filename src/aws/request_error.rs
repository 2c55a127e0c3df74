//! A failed request in the words of the service that refused it.

use std::{error::Error, fmt};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;

use crate::envelope::with_causes;

/// A failed request.
///
/// It displays the service's code and message where there are some. Otherwise it displays the SDK's
/// text, and the SDK's causes are its sources. The SDK's own full context would bring response bodies
/// into the log.
#[derive(Debug)]
pub(super) struct RequestError<E>(pub(super) SdkError<E>);

impl<E: ProvideErrorMetadata + Error + 'static> RequestError<E> {
    /// Why the log reader's role could not be assumed, if that is what failed.
    pub(super) fn role_refusal(&self) -> Option<&SdkError<AssumeRoleError>> {
        let mut next: Option<&(dyn Error + 'static)> = Some(&self.0);
        while let Some(error) = next {
            if let Some(refusal) = error.downcast_ref() {
                return Some(refusal);
            }
            next = error.source();
        }
        None
    }

    fn service_words(&self) -> Option<String> {
        let Some(refusal) = self.role_refusal() else {
            return code_and_message(&self.0);
        };
        let words = code_and_message(refusal).unwrap_or_else(|| with_causes(refusal));
        Some(format!("sts:AssumeRole: {words}"))
    }
}

impl<E: ProvideErrorMetadata + Error + 'static> fmt::Display for RequestError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service_words() {
            Some(words) => f.write_str(&words),
            None => self.0.fmt(f),
        }
    }
}

impl<E: ProvideErrorMetadata + Error + 'static> Error for RequestError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.service_words() {
            Some(_) => None,
            None => self.0.source(),
        }
    }
}

fn code_and_message<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<String> {
    let code = error.code()?;
    Some(match error.message() {
        Some(message) => format!("{code}: {message}"),
        None => code.to_owned(),
    })
}
