//! Log files in S3 for whoever looks back: listed page by page, and read as the function reads them.

use aws_config::SdkConfig;
use aws_sdk_s3::types::ObjectStorageClass;

use super::{Clients, S3Body, S3LogStore, log_store::store_error};
use crate::{
    envelope::ObjectRef,
    pipeline::{LogStore, StoreError},
};

/// Log files in S3, with the credentials and the Region of the environment.
#[derive(Clone, Debug)]
pub struct S3History {
    store: S3LogStore,
    shared: SdkConfig,
}

/// An object of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedObject {
    /// Its key.
    pub key: String,
    /// Its size, in bytes.
    pub size: Option<u64>,
    /// Whether it must be restored before it can be read.
    pub is_archived: bool,
}

impl S3History {
    /// Makes a client that the environment configures. `path_style` says that S3 is at an address that
    /// knows no bucket host names.
    pub async fn from_env(path_style: bool) -> Self {
        let clients = Clients::from_env(None, path_style).await;
        Self {
            store: clients.log_store(),
            shared: clients.shared,
        }
    }

    /// What creates jobs of S3 Batch Operations, with the same credentials.
    pub fn batch_jobs(&self) -> super::BatchJobs {
        super::BatchJobs::new(&self.shared)
    }

    /// Lists up to 1,000 objects whose keys begin with `prefix` and come after a key, in order. An empty
    /// page is the end.
    ///
    /// # Errors
    ///
    /// S3 failed, or does not allow `s3:ListBucket`.
    pub async fn page(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ListedObject>, StoreError> {
        let request = self.store.client.list_objects_v2().bucket(bucket);
        let request = request
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned));
        let page = request.send().await.map_err(store_error)?;
        let objects = page.contents.unwrap_or_default().into_iter();
        Ok(objects
            .filter_map(|object| {
                Some(ListedObject {
                    key: object.key?,
                    is_archived: matches!(
                        object.storage_class,
                        Some(ObjectStorageClass::Glacier | ObjectStorageClass::DeepArchive)
                    ),
                    size: object.size.and_then(|size| u64::try_from(size).ok()),
                })
            })
            .collect())
    }
}

impl LogStore for S3History {
    type Body = S3Body;

    async fn open(&self, object: &ObjectRef) -> Result<S3Body, StoreError> {
        self.store.open(object).await
    }
}
