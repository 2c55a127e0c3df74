//! S3 and SNS: objects of a folder, a ledger in memory, and a topic that accepts every message.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    Log,
    http::{Answer, Bytes, Request, response},
};

/// Requests to this bucket are conditional writes and reads. Every other bucket serves the folder.
const LEDGER: &str = "/measured-ledger/";
/// Divides the name of a file of the folder from a number, so that many keys share one body.
const NUMBER: char = '~';
/// What S3 sends with an object.
const OBJECT_HEADERS: &str = "\
    x-amz-id-2: 0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdef\r\n\
    x-amz-request-id: 0123456789ABCDEF\r\n\
    Date: Mon, 02 Mar 2026 16:50:59 GMT\r\n\
    Last-Modified: Mon, 02 Mar 2026 16:50:58 GMT\r\n\
    x-amz-server-side-encryption: AES256\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Type: application/json\r\n\
    Content-Encoding: gzip\r\n\
    Server: AmazonS3\r\n";

/// An entry of the ledger, and the number that is its `ETag`.
type Entry = (Vec<u8>, u64);

/// The services, shared by all connections.
pub(crate) struct Aws {
    folder: PathBuf,
    log: Arc<Log>,
    /// Answers by file name.
    objects: Mutex<HashMap<String, Bytes>>,
    ledger: Mutex<HashMap<String, Entry>>,
    latency_microseconds: AtomicU64,
    connections: AtomicU64,
    messages: AtomicU64,
}

impl Aws {
    pub(crate) fn new(folder: PathBuf, log: Arc<Log>) -> Self {
        Self {
            folder,
            log,
            objects: Mutex::default(),
            ledger: Mutex::default(),
            latency_microseconds: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            messages: AtomicU64::new(0),
        }
    }

    /// Sets how long each answer waits.
    pub(crate) fn set_latency(&self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency_microseconds
            .store(microseconds, Ordering::Relaxed);
    }

    /// Counts a connection.
    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The sizes of the ledger's entries.
    pub(crate) fn ledger_sizes(&self) -> Vec<usize> {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.values().map(|(body, _)| body.len()).collect()
    }

    /// Answers a request after the latency.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "the Runtime API may have no answer"
    )]
    pub(crate) fn answer(&self, request: &Request) -> Option<Answer> {
        let arrived = self.log.now();
        let latency = self.latency_microseconds.load(Ordering::Relaxed);
        if latency > 0 {
            std::thread::sleep(Duration::from_micros(latency));
        }
        let path = request.target.split('?').next().unwrap_or_default();
        let (kind, bytes) = match (request.method.as_str(), path.starts_with(LEDGER)) {
            ("POST", _) => ("publish", self.publish()),
            ("PUT", true) => ("put", self.put(path, request)),
            (_, true) => ("read", self.entry(path)),
            _ => ("get", self.object(path)),
        };
        let log = Arc::clone(&self.log);
        Some(Answer {
            bytes,
            sent: Box::new(move || log.note(kind, arrived)),
        })
    }

    fn publish(&self) -> Bytes {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        let body = format!(
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult>\
             <MessageId>00000000-0000-4000-8000-{number:012x}</MessageId></PublishResult>\
             <ResponseMetadata><RequestId>11111111-2222-4333-8444-{number:012x}</RequestId>\
             </ResponseMetadata></PublishResponse>"
        );
        response("200 OK", "Content-Type: text/xml\r\n", body.as_bytes())
    }

    /// The file of the folder that a key names with its last part: `…_NAME.json.gz` or `…_NAME~12.json.gz`.
    fn object(&self, path: &str) -> Bytes {
        let name = path.rsplit('_').next().unwrap_or_default();
        let name = name.split(['.', NUMBER]).next().unwrap_or_default();
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = objects.get(name) {
            return Arc::clone(known);
        }
        let Ok(body) = std::fs::read(self.folder.join(format!("{name}.json.gz"))) else {
            return missing();
        };
        let headers = format!("{OBJECT_HEADERS}ETag: \"0123456789abcdef0123456789abcdef\"\r\n");
        let answer = response("200 OK", &headers, &body);
        objects.insert(name.to_owned(), Arc::clone(&answer));
        answer
    }

    fn entry(&self, path: &str) -> Bytes {
        let ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match ledger.get(path) {
            Some((body, tag)) => response("200 OK", &tagged(*tag), body),
            None => missing(),
        }
    }

    /// Writes an entry if the request's precondition holds.
    fn put(&self, path: &str, request: &Request) -> Bytes {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let known = ledger.get(path).map(|(_, tag)| *tag);
        let refused = match (request.header("if-none-match"), request.header("if-match")) {
            (Some(_), _) => known.is_some(),
            (_, Some(expected)) => known.is_none_or(|tag| quoted(tag) != expected),
            _ => false,
        };
        if refused {
            let body = b"<Error><Code>PreconditionFailed</Code></Error>";
            return response("412 Precondition Failed", "", body);
        }
        let tag = known.map_or(1, |tag| tag + 1);
        ledger.insert(path.to_owned(), (request.body.clone(), tag));
        response("200 OK", &tagged(tag), b"")
    }
}

fn missing() -> Bytes {
    response(
        "404 Not Found",
        "",
        b"<Error><Code>NoSuchKey</Code></Error>",
    )
}

fn tagged(tag: u64) -> String {
    format!("ETag: {}\r\n", quoted(tag))
}

fn quoted(tag: u64) -> String {
    format!("\"{tag:032x}\"")
}
