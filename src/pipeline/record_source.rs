//! Record source: one job's records, read as a stream under the deadline and the caps.
//!
//! Every job is an object in a [`LogStore`]. The stages behind it only call [`RecordSource::next`] and
//! [`RecordSource::end`].

use std::error::Error;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::deadline::Deadline;
use crate::{
    cloudtrail::{KeyKind, Record, SMALL_FILE_BYTES, Scan, ScanError, Step, classify_key},
    envelope::ObjectRef,
};

/// Where objects are read: S3, or a folder.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LogStore {
    /// The body of an object.
    type Body: LogBody;

    /// Begins to read an object.
    async fn open(&self, object: &ObjectRef) -> Result<Self::Body, StoreError>;
}

/// The body of an object, chunk by chunk.
#[allow(
    async_fn_in_trait,
    reason = "used on one thread only, never as a trait object"
)]
pub trait LogBody {
    /// Returns the next chunk; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError>;
}

/// An object could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct StoreError {
    /// What kind of problem it is.
    pub kind: StoreErrorKind,
    /// What the operator can do, where only the store knows; otherwise empty.
    pub remedy: &'static str,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Kinds of problems with reading an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreErrorKind {
    /// The object, its version or its bucket does not exist.
    #[error("it does not exist")]
    Missing,
    /// The function may not read the object.
    #[error("reading it is not allowed")]
    AccessDenied,
    /// The function may not use the key that the object is encrypted with.
    #[error("its KMS key cannot be used")]
    KeyAccessDenied,
    /// The function may not assume the role through which log files are read.
    #[error("assuming the role is not allowed")]
    AssumeRoleDenied,
    /// Too many requests.
    #[error("too many requests")]
    Throttled,
    /// Anything else, such as a broken connection.
    #[error("the request failed")]
    Other,
}

/// Why reading stopped early. The records before have been returned.
#[derive(Debug)]
pub(super) enum ReadError {
    Store(StoreError),
    Scan(ScanError),
    /// The object's key does not have the shape of a log file's, and the object holds no records.
    NotALogFile(ScanError),
    DeadlineExceeded,
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// How reading an object ended.
#[derive(Debug)]
pub(super) struct ReadEnd {
    pub(super) read: Result<(), ReadError>,
    pub(super) fetched_bytes: u64,
    /// Bytes after inflating.
    pub(super) expanded_bytes: u64,
}

/// The records of one object, as far as they are of interest to some rule.
pub(super) struct RecordSource<'a, S: LogStore, C> {
    store: &'a S,
    object: &'a ObjectRef,
    deadline: &'a Deadline<'a, C>,
    /// Has a permit for each file that is not small and may be read at the same time.
    large_files: &'a Semaphore,
    /// `None` while the file is small.
    permit: Option<SemaphorePermit<'a>>,
    scan: Scan,
    /// `None` before the first record is asked for.
    body: Option<S::Body>,
    fetched_bytes: u64,
}

impl<'a, S: LogStore, C: Fn() -> Timestamp> RecordSource<'a, S, C> {
    pub(super) fn new(
        store: &'a S,
        object: &'a ObjectRef,
        scan: Scan,
        large_files: &'a Semaphore,
        deadline: &'a Deadline<'a, C>,
    ) -> Self {
        Self {
            store,
            object,
            deadline,
            large_files,
            permit: None,
            scan,
            body: None,
            fetched_bytes: 0,
        }
    }

    /// Returns the next record of interest; `None` at the end of a whole log file.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            self.wait_for_memory().await?;
            match self.scan.next_step() {
                Ok(Step::Record(record)) => return Ok(Some(*record)),
                Ok(Step::NeedInput) => match self.next_chunk().await? {
                    Some(chunk) => {
                        self.fetched_bytes += chunk.len() as u64;
                        self.scan.feed(chunk);
                    }
                    None => self.scan.end_of_input(),
                },
                Ok(Step::Done) => return Ok(None),
                Err(error) if self.is_not_a_log_file(&error) => {
                    return Err(ReadError::NotALogFile(error));
                }
                Err(error) => return Err(ReadError::Scan(error)),
            }
        }
    }

    /// Ends reading, as [`RecordSource::next`] returned it.
    pub(super) fn end(self, read: Result<(), ReadError>) -> ReadEnd {
        ReadEnd {
            read,
            fetched_bytes: self.fetched_bytes,
            expanded_bytes: self.scan.expanded_bytes(),
        }
    }

    /// Waits for a permit if the file is not small any more and has none.
    async fn wait_for_memory(&mut self) -> Result<(), ReadError> {
        if self.permit.is_none() && self.scan.expanded_bytes() >= SMALL_FILE_BYTES as u64 {
            let permit = self.deadline.while_reading(self.large_files.acquire());
            // The semaphore is never closed.
            self.permit = permit.await.ok_or(ReadError::DeadlineExceeded)?.ok();
        }
        Ok(())
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        self.wait_for_memory().await?;
        let body = if let Some(body) = &mut self.body {
            body
        } else {
            let opened = self.deadline.while_reading(self.store.open(self.object));
            let opened = opened.await.ok_or(ReadError::DeadlineExceeded)?;
            self.body.insert(opened?)
        };
        let chunk = self.deadline.while_reading(body.chunk()).await;
        Ok(chunk.ok_or(ReadError::DeadlineExceeded)??)
    }

    /// Returns whether the object holds no records at all. It is skipped then, unless its key has the
    /// shape of a log file's.
    fn is_not_a_log_file(&self, error: &ScanError) -> bool {
        let key = classify_key(&self.object.key, None);
        !matches!(key, KeyKind::LogFile { .. }) && self.scan.holds_no_records(error)
    }
}
