//! The ledger's entries as objects of S3, written under conditions.

use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    operation::put_object::PutObjectError,
    types::ChecksumAlgorithm,
};

use super::{chain, told};
use crate::{
    ledger::{Entry, LedgerError, LedgerStore, MemoryLedger, Tagged, Written},
    pipeline::REQUEST_TIME,
};

/// Largest object that may be an entry; an alert of SNS's largest size fits in, each byte escaped.
const ENTRY_BYTES: i64 = 2 << 20;

/// Entries in a bucket: `2026/03/02/<event id>.json`.
///
/// S3 answers 412 where the condition does not hold, 409 beside a concurrent write or delete, and
/// 404 to `If-Match` where the object is gone
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>).
#[derive(Clone, Debug)]
pub struct S3Ledger {
    pub(super) client: aws_sdk_s3::Client,
    pub(super) bucket: String,
}

/// The ledger store of the function: whichever the operator chose.
#[derive(Debug)]
pub enum FunctionLedger {
    /// Objects in a bucket.
    S3(S3Ledger),
    /// This instance's memory.
    Memory(MemoryLedger),
}

impl LedgerStore for FunctionLedger {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        match self {
            Self::S3(store) => store.read(key).await,
            Self::Memory(store) => store.read(key).await,
        }
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        match self {
            Self::S3(store) => store.create(key, entry).await,
            Self::Memory(store) => store.create(key, entry).await,
        }
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        match self {
            Self::S3(store) => store.replace(key, tag, entry).await,
            Self::Memory(store) => store.replace(key, tag, entry).await,
        }
    }
}

impl LedgerStore for S3Ledger {
    async fn read(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
        // The SDK's own limit ends at the head of the response.
        let read = tokio::time::timeout(REQUEST_TIME, self.get(key)).await;
        read.unwrap_or_else(|_| {
            Err(LedgerError {
                message: format!("s3://{}/{key} is too slow to read", self.bucket),
            })
        })
    }

    async fn create(&self, key: &str, entry: &Entry) -> Result<Written, LedgerError> {
        self.put(key, None, entry).await
    }

    async fn replace(&self, key: &str, tag: &str, entry: &Entry) -> Result<Written, LedgerError> {
        self.put(key, Some(tag), entry).await
    }
}

impl S3Ledger {
    async fn get(&self, key: &str) -> Result<Option<Tagged>, LedgerError> {
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
            Err(error) => return Err(self.error("read", key, &error)),
        };
        let not_an_entry = |why: &str| LedgerError {
            message: format!(
                "s3://{}/{key} is not an entry of this version's ledger ({why}); move it away, and \
                 its record may alert again",
                self.bucket
            ),
        };
        if object
            .content_length()
            .is_none_or(|bytes| bytes > ENTRY_BYTES)
        {
            return Err(not_an_entry("longer than 2 MiB, or of unknown length"));
        }
        let tag = object.e_tag().unwrap_or_default().to_owned();
        let bytes = object.body.collect().await.map_err(|error| LedgerError {
            message: format!(
                "failed to read s3://{}/{key}: {}",
                self.bucket,
                chain(&error)
            ),
        })?;
        // The text of serde's error could quote the entry; its place can't.
        let entry = serde_json::from_slice(&bytes.into_bytes()).map_err(|error| {
            not_an_entry(&format!("line {} column {}", error.line(), error.column()))
        })?;
        Ok(Some(Tagged { entry, tag }))
    }

    async fn put(
        &self,
        key: &str,
        tag: Option<&str>,
        entry: &Entry,
    ) -> Result<Written, LedgerError> {
        let body = serde_json::to_vec(entry).map_err(|error| LedgerError {
            message: format!("failed to write {key} as JSON: {error}"),
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
        let request = match tag {
            Some(tag) => request.if_match(tag),
            None => request.if_none_match("*"),
        };
        match request.send().await {
            Ok(output) => output.e_tag.map(Written::Yes).ok_or_else(|| LedgerError {
                message: format!("S3 gave no ETag for s3://{}/{key}", self.bucket),
            }),
            Err(error) if is_conflict(&error) => Ok(Written::Conflict),
            Err(error) => Err(self.error("write", key, &error)),
        }
    }

    fn error<E>(&self, verb: &str, key: &str, error: &SdkError<E>) -> LedgerError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let remedy = match error.code() {
            Some("AccessDenied") => {
                "; allow s3:GetObject, s3:PutObject and s3:ListBucket on the ledger's bucket, and \
                 kms:Decrypt and kms:GenerateDataKey on its key"
            }
            Some("NoSuchBucket") => "; set LEDGER_BUCKET to a bucket that exists",
            _ => "",
        };
        LedgerError {
            message: format!(
                "failed to {verb} s3://{}/{key}: {}{remedy}",
                self.bucket,
                told(error)
            ),
        }
    }
}

fn is_conflict(error: &SdkError<PutObjectError>) -> bool {
    matches!(
        error.code(),
        Some("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey")
    )
}
