//! The ledger's entries as S3 objects, written with conditional requests.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::put_object::PutObjectError,
    types::ChecksumAlgorithm,
};

use super::request_error::RequestError;
use crate::{
    ledger::{Entry, LedgerError, LedgerStore, MemoryLedgerStore, VersionedEntry, WriteOutcome},
    pipeline::REQUEST_TIME,
};

/// Largest object that may be an entry. A message of SNS's largest size fits in, even with every byte
/// escaped.
const ENTRY_BYTES: i64 = 2 << 20;

/// Entries in a bucket: `2026/03/02/<event id>.json`.
///
/// S3 answers 412 where the condition does not hold, 409 beside a concurrent write or delete, and
/// 404 to `If-Match` where the object is gone
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
#[derive(Clone, Debug)]
pub struct S3LedgerStore {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) bucket: String,
}

/// The ledger store of the function: whichever the operator chose.
#[derive(Debug)]
pub enum FunctionLedgerStore {
    /// Objects in a bucket.
    S3(S3LedgerStore),
    /// This instance's memory.
    Memory(MemoryLedgerStore),
}

impl LedgerStore for FunctionLedgerStore {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        match self {
            Self::S3(store) => store.read(key).await,
            Self::Memory(store) => store.read(key).await,
        }
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        match self {
            Self::S3(store) => store.create(key, entry).await,
            Self::Memory(store) => store.create(key, entry).await,
        }
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        match self {
            Self::S3(store) => store.replace(key, etag, entry).await,
            Self::Memory(store) => store.replace(key, etag, entry).await,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        match self {
            Self::S3(store) => store.list(prefix).await,
            Self::Memory(store) => store.list(prefix).await,
        }
    }
}

impl LedgerStore for S3LedgerStore {
    async fn read(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        // The SDK's own limit ends at the head of the response.
        let read = tokio::time::timeout(REQUEST_TIME, self.get(key)).await;
        read.unwrap_or_else(|_| {
            let uri = self.uri(key);
            Err(LedgerError::new(format!("{uri} is too slow to read")))
        })
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<WriteOutcome, LedgerError> {
        self.put(key, None, entry).await
    }

    async fn replace(
        &self,
        key: &str,
        etag: &str,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        self.put(key, Some(etag), entry).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, LedgerError> {
        let request = self.client.list_objects_v2().bucket(&self.bucket);
        let mut pages = request.prefix(prefix).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error("list", prefix, error))?;
            keys.extend(
                page.contents()
                    .iter()
                    .filter_map(|object| object.key.clone()),
            );
        }
        Ok(keys)
    }
}

impl S3LedgerStore {
    async fn get(&self, key: &str) -> Result<Option<VersionedEntry>, LedgerError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await;
        let object = match answer {
            Ok(object) => object,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.error("read", key, error)),
        };
        if object
            .content_length()
            .is_none_or(|bytes| bytes > ENTRY_BYTES)
        {
            return Err(self.not_an_entry(key, "longer than 2 MiB, or of unknown length"));
        }
        let etag = object.e_tag().unwrap_or_default().to_owned();
        let body = object.body.collect().await;
        let bytes = body.map_err(|error| LedgerError {
            message: format!("failed to read {}", self.uri(key)),
            remedy: "",
            source: Some(error.into()),
        })?;
        // The text of serde's error could quote the entry; its position can't.
        let entry = serde_json::from_slice(&bytes.into_bytes()).map_err(|error| {
            let position = format!("line {} column {}", error.line(), error.column());
            self.not_an_entry(key, &position)
        })?;
        Ok(Some(VersionedEntry { entry, etag }))
    }

    async fn put(
        &self,
        key: &str,
        etag: Option<&str>,
        entry: &Entry,
    ) -> Result<WriteOutcome, LedgerError> {
        let body = serde_json::to_vec(entry).map_err(|error| LedgerError {
            message: format!("failed to write {key} as JSON"),
            remedy: "",
            source: Some(error.into()),
        })?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type("application/json")
            // Buckets with Object Lock take no object without a checksum.
            .checksum_algorithm(ChecksumAlgorithm::Crc32)
            .body(body.into());
        let request = match etag {
            Some(etag) => request.if_match(etag),
            None => request.if_none_match("*"),
        };
        match request.send().await {
            Ok(output) => output.e_tag.map(WriteOutcome::Written).ok_or_else(|| {
                LedgerError::new(format!("S3 returned no ETag for {}", self.uri(key)))
            }),
            Err(error) if is_failed_precondition(&error) => Ok(WriteOutcome::PreconditionFailed),
            Err(error) => Err(self.error("write", key, error)),
        }
    }

    fn uri(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    fn error<E>(&self, verb: &str, key: &str, error: SdkError<E>) -> LedgerError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let remedy = match error.code() {
            Some("AccessDenied") => {
                "allow s3:GetObject, s3:PutObject and s3:ListBucket on the ledger's bucket, and \
                 kms:Decrypt and kms:GenerateDataKey on its key"
            }
            Some("NoSuchBucket") => "set LEDGER_BUCKET to a bucket that exists",
            _ => "",
        };
        LedgerError {
            message: format!("failed to {verb} {}", self.uri(key)),
            remedy,
            source: Some(RequestError(error).into()),
        }
    }

    fn not_an_entry(&self, key: &str, why: &str) -> LedgerError {
        LedgerError {
            message: format!(
                "{} is not an entry that this version can read ({why})",
                self.uri(key)
            ),
            remedy: "move it away, and its record may alert again",
            source: None,
        }
    }
}

fn is_failed_precondition(error: &SdkError<PutObjectError>) -> bool {
    matches!(
        error.code(),
        Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")
    )
}
