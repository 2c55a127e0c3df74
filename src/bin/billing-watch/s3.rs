//! Log files in S3: one listing, and many objects that are read at the same time.

use std::{path::Path, sync::Arc, thread};

use billing_watch::{
    aws::{ListedObject, S3History},
    envelope::ObjectRef,
    pipeline::{LogBody as _, LogStore as _, StoreError},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Mutex, Semaphore, mpsc},
};

use crate::{
    Stop,
    engine::{Engine, FileEnd, FileResult, FileScan, Problem},
    resume::{Done, Earlier, Ticket},
    scan::skip,
};

/// Objects that are read at the same time, on all threads together.
const CONCURRENT_OBJECTS: usize = 64;
/// Listed objects that wait.
const WAITING: usize = 1_000;
/// A larger object needs a permit, so that few of them are in memory.
const LARGE_BYTES: u64 = 1 << 20;
/// Permits of each thread.
const LARGE_OBJECTS: usize = 1;
/// How often an object is fetched whose body breaks off, beside what the SDK tries by itself.
const ATTEMPTS: usize = 3;

/// A bucket and the beginning of its keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl Place {
    /// Reads `s3://bucket/prefix`; `None` if the path is no such place.
    pub(crate) fn parse(path: &Path) -> Option<Result<Self, Stop>> {
        let text = path.to_str()?;
        let rest = text.strip_prefix("s3://")?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        Some(if bucket.is_empty() {
            Err(Stop::usage(format!(
                "{text} names no bucket; write s3://bucket/prefix"
            )))
        } else {
            Ok(Self {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        })
    }
}

/// An object that is to be read.
type Queued = (ObjectRef, Option<Ticket>);

/// Lists and reads all objects of some places, with so many threads. `tell` gets each result. The first
/// place has the index `first`, and `done` of each was done before.
pub(crate) fn read_all(
    engine: &Arc<Engine>,
    places: &[Place],
    done: &[Done],
    first: usize,
    jobs: usize,
    tell: &(impl Fn(Vec<FileResult>) + Sync),
) {
    read_queued(engine, jobs, tell, async move |store, queue| {
        for (index, (place, done)) in places.iter().zip(done).enumerate() {
            let listing = Listing {
                place,
                index: first + index,
                done,
            };
            listing.run(engine, &store, &queue, tell).await;
        }
    });
}

/// Reads some objects, with so many threads. `tell` gets each result.
pub(crate) fn read_objects(
    engine: &Arc<Engine>,
    objects: Vec<ObjectRef>,
    jobs: usize,
    tell: &(impl Fn(Vec<FileResult>) + Sync),
) {
    read_queued(engine, jobs, tell, async move |_, queue| {
        for object in objects {
            // The readers end after the last one.
            let _ = queue.send((object, None)).await;
        }
    });
}

/// Reads what `fill` puts into the queue.
fn read_queued(
    engine: &Arc<Engine>,
    jobs: usize,
    tell: &(impl Fn(Vec<FileResult>) + Sync),
    fill: impl AsyncFnOnce(S3History, mpsc::Sender<Queued>) + Send,
) {
    let (queue, queued) = mpsc::channel(WAITING);
    let queued = Mutex::new(queued);
    thread::scope(|scope| {
        scope.spawn(move || with_store(tell, async move |store| fill(store, queue).await));
        for _ in 0..jobs {
            scope.spawn(|| {
                with_store(tell, async |store| {
                    read_listed(engine, &store, &queued, jobs, tell).await;
                });
            });
        }
    });
}

/// The listing of one place.
struct Listing<'a> {
    place: &'a Place,
    index: usize,
    done: &'a Done,
}

impl Listing<'_> {
    async fn run(
        &self,
        engine: &Engine,
        store: &S3History,
        queue: &mpsc::Sender<Queued>,
        tell: &(impl Fn(Vec<FileResult>) + Sync),
    ) {
        let Place { bucket, prefix } = self.place;
        let object = |key: &str| ObjectRef {
            bucket: bucket.clone(),
            key: key.to_owned(),
            version_id: None,
        };
        let ticket = |number, key: &str| Ticket {
            place: self.index,
            number,
            name: key.to_owned(),
        };
        for key in self.done.again() {
            // The readers end after the last one.
            let _ = queue.send((object(key), Some(ticket(None, key)))).await;
        }
        let mut after = self.done.up_to().map(str::to_owned);
        let mut number = 0;
        loop {
            let page = match store.page(bucket, prefix, after.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    let name = format!("s3://{bucket}/{prefix}");
                    return tell(vec![FileResult::ended(
                        name,
                        FileEnd::NotListed(in_words(&error)),
                    )]);
                }
            };
            let Some(end) = page.last() else { return };
            after = Some(end.key.clone());
            for ListedObject { key, size, .. } in page {
                if self.done.of(&key, |a, b| a > b) != Earlier::Nothing {
                    continue;
                }
                let ticket = Some(ticket(Some(number), &key));
                number += 1;
                let name = format!("s3://{bucket}/{key}");
                if let Some(skipped) = skip(engine, &name, size, false) {
                    tell(vec![FileResult { ticket, ..skipped }]);
                } else if queue.send((object(&key), ticket)).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_listed(
    engine: &Engine,
    store: &S3History,
    queued: &Mutex<mpsc::Receiver<Queued>>,
    jobs: usize,
    tell: &(impl Fn(Vec<FileResult>) + Sync),
) {
    let large = &Semaphore::new(LARGE_OBJECTS);
    let objects = stream::unfold((), |()| async {
        Some((queued.lock().await.recv().await?, ()))
    });
    let concurrency = CONCURRENT_OBJECTS.div_ceil(jobs);
    objects
        .for_each_concurrent(concurrency, |(object, ticket)| async move {
            let result = read(engine, store, &object, large).await;
            tell(vec![FileResult { ticket, ..result }]);
        })
        .await;
}

/// Reads an object. A body that breaks off is fetched again.
async fn read(
    engine: &Engine,
    store: &S3History,
    object: &ObjectRef,
    large: &Semaphore,
) -> FileResult {
    for _ in 1..ATTEMPTS {
        let result = read_once(engine, store, object, large).await;
        if !matches!(result.end, FileEnd::Unread(_)) {
            return result;
        }
    }
    read_once(engine, store, object, large).await
}

async fn read_once(
    engine: &Engine,
    store: &S3History,
    object: &ObjectRef,
    large: &Semaphore,
) -> FileResult {
    let name = format!("s3://{}/{}", object.bucket, object.key);
    let mut file = FileScan::new(engine, name, Some(object));
    let end = async {
        let mut body = store
            .open(object)
            .await
            .map_err(|error| Problem::Read(in_words(&error)))?;
        let (mut read, mut permit) = (0, None);
        while file.wants_input()? {
            let chunk = body
                .chunk()
                .await
                .map_err(|error| Problem::Read(in_words(&error)))?;
            let chunk = chunk.unwrap_or_else(Bytes::new);
            read += chunk.len() as u64;
            if read > LARGE_BYTES && permit.is_none() {
                permit = large.acquire().await.ok();
            }
            file.feed(chunk);
        }
        Ok(())
    }
    .await;
    file.finish(end)
}

pub(crate) fn in_words(error: &StoreError) -> String {
    let remedy = match error.remedy {
        "" => String::new(),
        remedy => format!("; {remedy}"),
    };
    format!("{}: {}{remedy}", error.kind, error.source)
}

/// S3 as the environment says. Its connections belong to the runtime that uses it.
pub(crate) async fn store() -> S3History {
    let own = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];
    // S3 at an address of one's own knows no bucket host names.
    #[allow(
        clippy::disallowed_methods,
        reason = "variables of the SDK, which does not tell what it has read"
    )]
    let is_own = |name| std::env::var_os(name).is_some_and(|address| !address.is_empty());
    S3History::from_env(own.into_iter().any(is_own)).await
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Does some work in a runtime of its own, with connections of its own.
fn with_store(tell: &impl Fn(Vec<FileResult>), work: impl AsyncFnOnce(S3History)) {
    match runtime() {
        Ok(runtime) => runtime.block_on(async { work(store().await).await }),
        Err(error) => tell(vec![FileResult::ended(
            "s3",
            FileEnd::NotListed(error.to_string()),
        )]),
    }
}
