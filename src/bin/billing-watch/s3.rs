//! Log files in S3: one listing, and many objects that are read at the same time.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    thread,
};

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
    resume::{Done, Ticket},
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

/// Lists and reads all objects of some places, with so many threads. `tell` gets each result. The first
/// place has the index `first`, and `done` of each was done before.
pub(crate) fn read_all(
    engine: &Arc<Engine>,
    places: &[Place],
    done: &[Done],
    first: usize,
    jobs: usize,
    path_style: bool,
    tell: &(dyn Fn(FileResult) + Sync),
) {
    let store = match runtime() {
        Ok(runtime) => runtime.block_on(S3History::from_env(path_style)),
        Err(error) => return tell(failed("s3", error.to_string())),
    };
    let (list, listed) = mpsc::channel::<(ObjectRef, Option<Ticket>)>(WAITING);
    let listed = Mutex::new(listed);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Moved here, so that it is dropped when the listing ends.
            let list = list;
            with_runtime(tell, async {
                for (index, (place, done)) in places.iter().zip(done).enumerate() {
                    let listing = Listing {
                        place,
                        index: first + index,
                        done,
                    };
                    listing.run(engine, &store, &list, tell).await;
                }
            });
        });
        for _ in 0..jobs {
            scope.spawn(|| {
                with_runtime(tell, read_listed(engine, &store, &listed, jobs, tell));
            });
        }
    });
}

/// Reads some objects, with so many threads. `take` gets each result.
pub(crate) fn read_objects(
    engine: &Arc<Engine>,
    objects: Vec<ObjectRef>,
    jobs: usize,
    path_style: bool,
    take: impl FnMut(FileResult) + Send,
) {
    let take = std::sync::Mutex::new(take);
    let tell = |file| take.lock().unwrap_or_else(PoisonError::into_inner)(file);
    let store = match runtime() {
        Ok(runtime) => runtime.block_on(S3History::from_env(path_style)),
        Err(error) => return tell(failed("s3", error.to_string())),
    };
    let (list, listed) = mpsc::channel::<(ObjectRef, Option<Ticket>)>(WAITING);
    let listed = Mutex::new(listed);
    thread::scope(|scope| {
        scope.spawn(move || {
            for object in objects {
                // The readers end after the last one.
                let _ = list.blocking_send((object, None));
            }
        });
        for _ in 0..jobs {
            scope.spawn(|| {
                with_runtime(&tell, read_listed(engine, &store, &listed, jobs, &tell));
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
        queue: &mpsc::Sender<(ObjectRef, Option<Ticket>)>,
        tell: &(dyn Fn(FileResult) + Sync),
    ) {
        let Place { bucket, prefix } = self.place;
        let mut after = self.done.up_to().map(str::to_owned);
        let mut number = 0;
        loop {
            let page = match store.page(bucket, prefix, after.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    let place = format!("s3://{bucket}/{prefix}");
                    return tell(failed(&place, in_words(&error)));
                }
            };
            let Some(end) = page.last() else { return };
            after = Some(end.key.clone());
            for ListedObject { key, size, .. } in page {
                if self.done.includes(&key, |a, b| a > b) {
                    continue;
                }
                let ticket = Ticket {
                    place: self.index,
                    number,
                    name: key.clone(),
                };
                number += 1;
                let name = format!("s3://{bucket}/{key}");
                if let Some(skipped) = skip(engine, &name, size, false) {
                    tell(FileResult {
                        ticket: Some(ticket),
                        ..skipped
                    });
                    continue;
                }
                let object = ObjectRef {
                    bucket: bucket.clone(),
                    key,
                    version_id: None,
                };
                if queue.send((object, Some(ticket))).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_listed(
    engine: &Engine,
    store: &S3History,
    listed: &Mutex<mpsc::Receiver<(ObjectRef, Option<Ticket>)>>,
    jobs: usize,
    tell: &(dyn Fn(FileResult) + Sync),
) {
    let large = &Semaphore::new(LARGE_OBJECTS);
    let objects = stream::unfold((), |()| async {
        Some((listed.lock().await.recv().await?, ()))
    });
    let concurrency = CONCURRENT_OBJECTS.div_ceil(jobs);
    objects
        .for_each_concurrent(concurrency, |(object, ticket)| async move {
            let result = read(engine, store, &object, large).await;
            tell(FileResult { ticket, ..result });
        })
        .await;
}

async fn read(
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

fn failed(name: &str, problem: String) -> FileResult {
    FileResult {
        name: name.to_owned(),
        end: FileEnd::Failed(problem),
        ..FileResult::default()
    }
}

pub(crate) fn in_words(error: &StoreError) -> String {
    let remedy = match error.remedy {
        "" => String::new(),
        remedy => format!("; {remedy}"),
    };
    format!("{}: {}{remedy}", error.kind, error.source)
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn with_runtime(tell: &(dyn Fn(FileResult) + Sync), work: impl Future<Output = ()>) {
    match runtime() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => tell(failed("s3", error.to_string())),
    }
}
