//! Log files in S3.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use bytes::Bytes;

use super::{chain, told};
use crate::{
    envelope::ObjectRef,
    pipeline::{LogBody, LogStore, StoreError, StoreErrorKind},
};

/// Log files in S3.
#[derive(Clone, Debug)]
pub struct S3LogStore {
    pub(super) client: aws_sdk_s3::Client,
}

/// The body of an object in S3.
#[derive(Debug)]
pub struct S3Body {
    stream: ByteStream,
}

impl LogStore for S3LogStore {
    type Body = S3Body;

    async fn open(&self, object: &ObjectRef) -> Result<S3Body, StoreError> {
        let output = self
            .client
            .get_object()
            .bucket(&object.bucket)
            .key(&object.key)
            .set_version_id(object.version_id.clone())
            .send()
            .await
            .map_err(|error| store_error(&error))?;
        Ok(S3Body {
            stream: output.body,
        })
    }
}

impl LogBody for S3Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.stream.try_next().await.map_err(|error| StoreError {
            kind: StoreErrorKind::Other,
            message: chain(&error),
        })
    }
}

fn store_error<E>(error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(refusal) = role_refusal(error) {
        let refused = refusal.code() == Some("AccessDenied");
        return StoreError {
            kind: if refused {
                StoreErrorKind::RoleRefused
            } else {
                StoreErrorKind::Other
            },
            message: format!("sts:AssumeRole: {}", told(refusal)),
        };
    }
    let code = error.code().unwrap_or_default();
    let message = error.message().unwrap_or_default();
    let kind = match code {
        "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NotFound" => StoreErrorKind::Missing,
        // S3 says the same for both; only the message tells which permission is missing.
        "AccessDenied" if message.contains("kms:") => StoreErrorKind::KeyAccessDenied,
        "AccessDenied" => StoreErrorKind::AccessDenied,
        "SlowDown" | "RequestLimitExceeded" | "ServiceUnavailable" => StoreErrorKind::Throttled,
        code if code.contains("Throttling") => StoreErrorKind::Throttled,
        "KMS.AccessDeniedException"
        | "KMS.DisabledException"
        | "KMS.KMSInvalidStateException"
        | "KMS.NotFoundException" => StoreErrorKind::KeyAccessDenied,
        _ => StoreErrorKind::Other,
    };
    let remedy = match code {
        "InvalidObjectState" => "; restore it from its archive storage class, then send it again",
        "PermanentRedirect" => "; the bucket is in another Region: run the function there",
        _ => "",
    };
    StoreError {
        kind,
        message: format!("{}{remedy}", told(error)),
    }
}

/// Why the log reader's role could not be assumed, if that is what failed.
fn role_refusal<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a SdkError<AssumeRoleError>> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}
