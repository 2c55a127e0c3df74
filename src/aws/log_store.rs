//! Log files in S3.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use bytes::Bytes;

use super::request_error::RequestError;
use crate::{
    envelope::ObjectRef,
    pipeline::{LogBody, LogListing, LogStore, StoreError, StoreErrorKind},
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
            .map_err(store_error)?;
        Ok(S3Body {
            stream: output.body,
        })
    }
}

impl LogListing for S3LogStore {
    async fn folders(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, StoreError> {
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
        let mut pages = request.delimiter("/").into_paginator().send();
        let mut folders = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(store_error)?;
            let names = page.common_prefixes().iter();
            folders.extend(names.filter_map(|folder| folder.prefix().map(str::to_owned)));
        }
        Ok(folders)
    }

    async fn has_key_after(
        &self,
        bucket: &str,
        prefix: &str,
        start: &str,
    ) -> Result<bool, StoreError> {
        let request = self.client.list_objects_v2().bucket(bucket).prefix(prefix);
        let page = request.start_after(start).max_keys(1).send().await;
        Ok(!page.map_err(store_error)?.contents().is_empty())
    }
}

impl LogBody for S3Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.stream.try_next().await.map_err(|error| StoreError {
            kind: StoreErrorKind::Other,
            remedy: "",
            source: error.into(),
        })
    }
}

pub(super) fn store_error<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default();
    let remedy = match code {
        "InvalidObjectState" => "restore it from its archive storage class, then send it again",
        "PermanentRedirect" => "the bucket is in another Region: run the function there",
        _ => "",
    };
    let kind = error_kind(code, error.message().unwrap_or_default());
    let error = RequestError(error);
    let kind = match error.role_refusal() {
        Some(refusal) if refusal.code() == Some("AccessDenied") => StoreErrorKind::AssumeRoleDenied,
        Some(_) => StoreErrorKind::Other,
        None => kind,
    };
    StoreError {
        kind,
        remedy,
        source: error.into(),
    }
}

fn error_kind(code: &str, message: &str) -> StoreErrorKind {
    match code {
        "NoSuchKey" | "NoSuchVersion" | "NoSuchBucket" | "NotFound" => StoreErrorKind::Missing,
        // S3 has one code for both; only the message tells which permission is missing.
        "AccessDenied" if message.contains("kms:") => StoreErrorKind::KeyAccessDenied,
        "AccessDenied" => StoreErrorKind::AccessDenied,
        "SlowDown" | "RequestLimitExceeded" | "ServiceUnavailable" => StoreErrorKind::Throttled,
        code if code.contains("Throttling") => StoreErrorKind::Throttled,
        "KMS.AccessDeniedException"
        | "KMS.DisabledException"
        | "KMS.KMSInvalidStateException"
        | "KMS.NotFoundException" => StoreErrorKind::KeyAccessDenied,
        _ => StoreErrorKind::Other,
    }
}
