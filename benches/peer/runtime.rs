//! Lambda's Runtime API: hands out events and collects the replies.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    Log,
    http::{Answer, Bytes, Request, response},
};

/// The reply's kind, `response` or `error`, and its body.
type Reply = (String, Vec<u8>);

/// Answers the function.
pub(crate) struct Runtime {
    log: Arc<Log>,
    asked: Mutex<Sender<u64>>,
    events: Mutex<Receiver<Bytes>>,
    replies: Mutex<Sender<Reply>>,
    pause_microseconds: Arc<AtomicU64>,
}

/// Decides what the function gets.
pub(crate) struct Control {
    asked: Receiver<u64>,
    events: Sender<Bytes>,
    replies: Receiver<Reply>,
    pause_microseconds: Arc<AtomicU64>,
}

impl Runtime {
    pub(crate) fn new(log: Arc<Log>) -> (Self, Control) {
        let (asked, was_asked) = channel();
        let (event, events) = channel();
        let (reply, replies) = channel();
        let pause_microseconds = Arc::new(AtomicU64::new(0));
        let runtime = Self {
            pause_microseconds: Arc::clone(&pause_microseconds),
            log,
            asked: Mutex::new(asked),
            events: Mutex::new(events),
            replies: Mutex::new(reply),
        };
        let control = Control {
            pause_microseconds,
            asked: was_asked,
            events: event,
            replies,
        };
        (runtime, control)
    }

    /// Answers a request: waits for an event, or takes a reply.
    pub(crate) fn answer(&self, request: &Request) -> Option<Answer> {
        let arrived = self.log.now();
        let log = Arc::clone(&self.log);
        if request.method == "GET" {
            send(&self.asked, arrived)?;
            let event = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            let event = event_response(&event.recv().ok()?);
            self.pause();
            // The function may act on the event before this thread could note that it was sent.
            log.note("event", log.now());
            return Some(Answer {
                bytes: event,
                sent: Box::new(|| {}),
            });
        }
        let kind = request.target.rsplit('/').next().unwrap_or_default();
        // The control reads the log as soon as it has the reply.
        log.note("reply", arrived);
        send(&self.replies, (kind.to_owned(), request.body.clone()))?;
        self.pause();
        Some(Answer {
            bytes: response("202 Accepted", "", b""),
            sent: Box::new(|| {}),
        })
    }

    fn pause(&self) {
        let microseconds = self.pause_microseconds.load(Ordering::Relaxed);
        if microseconds > 0 {
            std::thread::sleep(Duration::from_micros(microseconds));
        }
    }
}

impl Control {
    /// Sets how long each answer waits, so that the function always sleeps when it arrives.
    pub(crate) fn set_pause(&self, microseconds: u64) {
        self.pause_microseconds
            .store(microseconds, Ordering::Relaxed);
    }

    /// Waits until the function asks for an event. Returns when its request arrived.
    pub(crate) fn wait_for_next(&self, patience: Duration) -> Option<u64> {
        self.asked.recv_timeout(patience).ok()
    }

    /// Hands out an event, waits for the reply and for the next request. `None` if they take too long.
    pub(crate) fn invoke(&self, event: &Bytes, patience: Duration) -> Option<Reply> {
        self.events.send(Arc::clone(event)).ok()?;
        let reply = self.replies.recv_timeout(patience).ok()?;
        self.wait_for_next(patience)?;
        Some(reply)
    }
}

fn send<T>(channel: &Mutex<Sender<T>>, value: T) -> Option<()> {
    let channel = channel.lock().unwrap_or_else(PoisonError::into_inner);
    channel.send(value).ok()
}

fn event_response(event: &[u8]) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let deadline = (now.unwrap_or_default() + Duration::from_mins(10)).as_millis();
    let mut headers = String::from(
        "Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 11111111-2222-4333-8444-555555555555\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:999988887777:function:measured\r\n",
    );
    let _ = write!(headers, "Lambda-Runtime-Deadline-Ms: {deadline}\r\n");
    response("200 OK", &headers, event)
}
