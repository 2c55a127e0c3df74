//! Stands in for Lambda's Runtime API, S3 and SNS while `make bench` measures a function.
//!
//! It must answer faster than a function asks, so it parses little and keeps each answer in memory.
//! One thread serves each connection. `scripts/bench/function.py` starts it and controls it with lines
//! of JSON: commands on standard input, answers on standard output.

#![allow(
    clippy::print_stdout,
    reason = "standard output is how it is controlled"
)]

mod aws;
mod http;
mod runtime;

use std::{
    io::{self, BufRead as _, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use aws::Aws;
use http::serve;
use runtime::Runtime;

/// How long a function may take for one invocation, under valgrind as well.
const PATIENCE: Duration = Duration::from_mins(10);

/// One request that was answered, with times in nanoseconds since 1970.
struct Handled {
    kind: &'static str,
    arrived: u64,
    sent: u64,
}

/// Every request so far, in the order of the answers.
struct Log {
    origin: (Instant, Duration),
    requests: Mutex<Vec<Handled>>,
}

impl Log {
    fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            origin: (Instant::now(), since_1970.unwrap_or_default()),
            requests: Mutex::default(),
        }
    }

    /// Returns the time, which never runs backwards.
    fn now(&self) -> u64 {
        let now = self.origin.1 + self.origin.0.elapsed();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes a request that has just been answered.
    fn note(&self, kind: &'static str, arrived: u64) {
        let sent = self.now();
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(Handled {
            kind,
            arrived,
            sent,
        });
    }

    /// Takes the requests since the last call: `[[kind, arrived, answer sent], …]`.
    fn take(&self) -> Value {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = requests.drain(..);
        taken
            .map(|request| json!([request.kind, request.arrived, request.sent]))
            .collect()
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, objects, certificates] = &arguments[..] else {
        // `cargo test --examples` starts nothing that would wait.
        println!("usage: bench-peer OBJECTS CERTIFICATES");
        return Ok(());
    };
    let log = Arc::new(Log::new());
    let aws = Arc::new(Aws::new(PathBuf::from(objects), Arc::clone(&log)));
    let (runtime, control) = Runtime::new(Arc::clone(&log));
    let tls = tls(&PathBuf::from(certificates))?;

    let runtime = Arc::new(runtime);
    let runtime_port = listen(move |stream| serve(stream, |request| runtime.answer(request)))?;
    let plain = Arc::clone(&aws);
    let plain_port = listen(move |stream| {
        plain.connected();
        serve(stream, |request| plain.answer(request));
    })?;
    let secured = Arc::clone(&aws);
    let secured_port = listen(move |stream| {
        secured.connected();
        if let Ok(session) = ServerConnection::new(Arc::clone(&tls)) {
            serve(StreamOwned::new(session, stream), |request| {
                secured.answer(request)
            });
        }
    })?;
    println!(
        "{}",
        json!({"runtime": runtime_port, "http": plain_port, "https": secured_port})
    );
    for line in io::stdin().lock().lines() {
        let command: Value = serde_json::from_str(&line?)?;
        let answer = obey(&command, &aws, &control, &log);
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

/// Serves each connection on a thread of its own. Returns the port.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> io::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // An answer leaves at once, in as few packets as possible.
            let _ = stream.set_nodelay(true);
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(port)
}

fn tls(certificates: &std::path::Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::from_pem_file(certificates.join("server.pem"));
    let key = PrivateKeyDer::from_pem_file(certificates.join("server.key"));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(
            vec![chain.map_err(io::Error::other)?],
            key.map_err(io::Error::other)?,
        )
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// Does what a command says, and returns the answer to it.
fn obey(command: &Value, aws: &Aws, control: &runtime::Control, log: &Log) -> Value {
    match command["do"].as_str() {
        Some("wait") => json!({"asked": control.wait_for_next(PATIENCE)}),
        Some("latency") => {
            aws.set_latency(Duration::from_micros(
                command["microseconds"].as_u64().unwrap_or(0),
            ));
            control.set_pause(command["runtime_microseconds"].as_u64().unwrap_or(0));
            json!({})
        }
        Some("invoke") => {
            log.take();
            let event = Arc::new(command["event"].to_string().into_bytes());
            let count = command["count"].as_u64().unwrap_or(1);
            let mut replies = Vec::new();
            for _ in 0..count {
                let Some((kind, body)) = control.invoke(&event, PATIENCE) else {
                    break;
                };
                replies.push(json!([kind, String::from_utf8_lossy(&body)]));
            }
            json!({"replies": replies, "requests": log.take(), "connections": aws.connections()})
        }
        Some("ledger") => json!({"bytes": aws.ledger_sizes()}),
        _ => json!({"error": "unknown command"}),
    }
}
