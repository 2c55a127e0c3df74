//! An HTTP proxy in front of moto that does to requests what a bad network and a busy service do.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn is_publish(&self) -> bool {
        self.body.starts_with(b"Action=Publish")
    }

    /// Whether it is about an object in this bucket.
    pub(crate) fn is_about(&self, bucket: &str) -> bool {
        self.path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(bucket))
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

/// What happens to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It passes.
    None,
    /// It passes, late.
    Slow(Duration),
    /// The service answers with a status and a body of its own.
    Answer(u16, String),
    /// The connection breaks before the service has seen it.
    ResetBefore,
    /// The service does what it is asked to, and the connection breaks before the answer.
    ResetAfter,
    /// The answer breaks off in the middle.
    Cut,
}

impl Fault {
    /// Whether the service does what it is asked to.
    pub(crate) fn reaches_service(&self) -> bool {
        !matches!(self, Self::Answer(..) | Self::ResetBefore)
    }

    /// Whether it takes effect although the client may not learn of it: it may have stopped waiting for a late answer.
    pub(crate) fn loses_answer(&self) -> bool {
        matches!(self, Self::ResetAfter | Self::Cut | Self::Slow(_))
    }
}

/// The proxy; it serves until the process ends.
pub(crate) struct Proxy {
    pub(crate) address: String,
}

impl Proxy {
    /// A proxy in front of `upstream` (`http://host:port`) that does as `decide` says.
    pub(crate) fn start(
        upstream: &str,
        decide: impl Fn(&Request) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let upstream: SocketAddr = upstream.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let decide = Arc::new(decide);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let decide = Arc::clone(&decide);
                std::thread::spawn(move || serve(client, upstream, &*decide));
            }
        });
        Self { address }
    }
}

/// Serves one request, and closes the connection; a client that is gone is no news.
fn serve(mut client: TcpStream, upstream: SocketAddr, decide: &dyn Fn(&Request) -> Fault) {
    let Some(request) = read_request(&mut client) else {
        return;
    };
    let fault = decide(&request);
    match &fault {
        Fault::ResetBefore => return reset(&client),
        Fault::Answer(status, body) => {
            let answer = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Type: application/xml\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = client.write_all(answer.as_bytes());
            return;
        }
        Fault::Slow(time) => std::thread::sleep(*time),
        Fault::None | Fault::ResetAfter | Fault::Cut => {}
    }
    let answer = forward(&request, upstream);
    match fault {
        Fault::ResetAfter => reset(&client),
        Fault::Cut => {
            let _ = client.write_all(&answer[..answer.len() - answer.len().min(20)]);
            reset(&client);
        }
        _ => {
            let _ = client.write_all(&answer);
        }
    }
}

/// Closes a connection the hard way.
fn reset(client: &TcpStream) {
    let _ = SockRef::from(client).set_linger(Some(Duration::ZERO));
}

fn read_request(client: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let read = client.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let body = &bytes[end + 4..];
        if body.len() < length {
            continue;
        }
        let mut words = head.split(' ');
        return Some(Request {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            body: body.to_vec(),
            head,
        });
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The service's answer, whole.
fn forward(request: &Request, upstream: SocketAddr) -> Vec<u8> {
    let mut service = TcpStream::connect(upstream).unwrap();
    let head: String = request
        .head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .flat_map(|line| [line, "\r\n"])
        .collect();
    service.write_all(head.as_bytes()).unwrap();
    service.write_all(b"Connection: close\r\n\r\n").unwrap();
    service.write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    service.read_to_end(&mut answer).unwrap();
    answer
}
