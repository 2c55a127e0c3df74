//! HTTP/1.1 as far as a function's clients speak it: keep-alive, bodies with a length or in chunks.

use std::io::{self, BufRead, BufReader, Read, Write};

/// A request, read whole.
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as they were sent.
    pub(crate) target: String,
    /// Header names in lower case, with their values.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer as the bytes to send, and what to do once they were sent.
pub(crate) struct Answer {
    pub(crate) bytes: Bytes,
    pub(crate) sent: Box<dyn FnOnce()>,
}

/// Bytes that many answers may share.
pub(crate) type Bytes = std::sync::Arc<Vec<u8>>;

impl Request {
    /// Returns a header's value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Answers the requests of one connection until the client closes it.
pub(crate) fn serve<S: Read + Write>(stream: S, answer: impl Fn(&Request) -> Option<Answer>) {
    let mut stream = BufReader::with_capacity(64 << 10, stream);
    // A killed function resets its connections. That is no error here.
    while let Ok(Some(request)) = read(&mut stream) {
        let Some(answer) = answer(&request) else {
            return;
        };
        // One write for head and body, so that a small answer arrives in one piece.
        let out = stream.get_mut();
        if out
            .write_all(&answer.bytes)
            .and_then(|()| out.flush())
            .is_err()
        {
            return;
        }
        (answer.sent)();
    }
}

/// Returns head and body of an answer.
pub(crate) fn response(status: &str, headers: &str, body: &[u8]) -> Bytes {
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes.into()
}

fn read<S: Read + Write>(stream: &mut BufReader<S>) -> io::Result<Option<Request>> {
    let first = line(stream)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let header = line(stream)?;
        if header.is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            let header = (name.to_ascii_lowercase(), value.trim().to_owned());
            request.headers.push(header);
        }
    }
    if request.header("expect").is_some() {
        let out = stream.get_mut();
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        out.flush()?;
    }
    let length = request.header("content-length");
    if let Some(length) = length.and_then(|text| text.parse().ok()) {
        request.body = vec![0; length];
        stream.read_exact(&mut request.body)?;
    } else if request.header("transfer-encoding") == Some("chunked") {
        request.body = chunks(stream)?;
    }
    Ok(Some(request))
}

fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(stream)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        line(stream)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Reads a line without its end; empty also at the end of the stream.
fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    stream.read_line(&mut text)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}
