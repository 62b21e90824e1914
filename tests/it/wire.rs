//! A server that answers every call with the bytes that a test gives it, right or wrong, and
//! writes down what it was asked. It shares no code with septet.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Answers a call: its number among those with the same body, from 1, and its body.
type Answer = dyn Fn(usize, &str) -> Reply + Send + Sync;

/// What is sent back for a call.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes and no more, until the other side gives up.
    Held(Vec<u8>),
    /// The first bytes, then the others again and again, until the other side gives up.
    Dripped(Vec<u8>, Vec<u8>),
    /// Nobody listens any more; then these bytes.
    Last(Vec<u8>),
}

/// Between two drops: shorter than any `idle_timeout` of a test.
const DROP: Duration = Duration::from_millis(20);

/// A server on a free port of this machine, until it is dropped.
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Box<Answer>,
    bodies: Mutex<Vec<String>>,
    /// The first line of each.
    lines: Mutex<Vec<String>>,
    /// When each of them came.
    times: Mutex<Vec<Instant>>,
    ended: AtomicBool,
}

impl Wire {
    /// Answers with what `answer` returns for the number of the call among those with the same
    /// body, from 1, and that body.
    pub fn start(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::scripted(None, move |number, body| Reply::Bytes(answer(number, body)))
    }

    /// The same with all that a server can do, at an address where nobody listens, or any.
    pub fn scripted(
        address: Option<SocketAddr>,
        answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(address.unwrap_or(any)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Box::new(answer),
            bodies: Mutex::default(),
            lines: Mutex::default(),
            times: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let shared = state.clone();
        std::thread::spawn(move || accept(&listener, &shared));
        Self { address, state }
    }

    /// Answers every call with the same bytes.
    pub fn always(bytes: Vec<u8>) -> Self {
        Self::start(move |_, _| bytes.clone())
    }

    /// Answers the first call of every body with these bytes and all others well.
    pub fn at_first(bytes: Vec<u8>) -> Self {
        Self::start(move |number, body| if number == 1 { bytes.clone() } else { good(body) })
    }

    /// An address where nobody listens.
    pub fn nowhere() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies of all calls that came.
    pub fn bodies(&self) -> Vec<String> {
        self.state.bodies.lock().unwrap().clone()
    }

    /// The first lines of all calls that came.
    pub fn lines(&self) -> Vec<String> {
        self.state.lines.lock().unwrap().clone()
    }

    /// When the calls came whose body holds this text.
    pub fn times(&self, text: &str) -> Vec<Instant> {
        let bodies = self.state.bodies.lock().unwrap();
        let times = self.state.times.lock().unwrap();
        let of_text = bodies.iter().zip(&*times).filter(|(body, _)| body.contains(text));
        of_text.map(|(_, at)| *at).collect()
    }

    pub fn calls(&self) -> u64 {
        self.bodies().len() as u64
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept() {
        if state.ended.load(Ordering::SeqCst) {
            return;
        }
        let state = state.clone();
        std::thread::spawn(move || converse(stream, &state));
    }
}

/// One call; the connection is closed after it.
fn converse(mut stream: TcpStream, state: &State) -> Option<()> {
    let body = request(&stream, state)?;
    let number = {
        let mut bodies = state.bodies.lock().unwrap();
        bodies.push(body.clone());
        state.times.lock().unwrap().push(Instant::now());
        bodies.iter().filter(|other| **other == body).count()
    };
    // The other side may leave before all of it is written.
    match (state.answer)(number, &body) {
        Reply::Bytes(bytes) => stream.write_all(&bytes).ok()?,
        Reply::Last(bytes) => {
            state.ended.store(true, Ordering::SeqCst);
            let here = stream.local_addr().ok()?;
            while TcpStream::connect(here).is_ok() {
                sleep(DROP);
            }
            stream.write_all(&bytes).ok()?;
        }
        Reply::Held(bytes) => {
            stream.write_all(&bytes).ok()?;
            stream.read_to_end(&mut Vec::new()).ok()?;
        }
        Reply::Dripped(first, drop) => {
            stream.write_all(&first).ok()?;
            loop {
                stream.write_all(&drop).ok()?;
                sleep(DROP);
            }
        }
    }
    stream.shutdown(Shutdown::Write).ok()?;
    // To close before the other side does could take away what it has not read yet.
    stream.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

/// The body of a request; of one without, its method and path.
fn request(stream: &TcpStream, state: &State) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut first) = (0, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        first.get_or_insert_with(|| line.clone());
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let first = first?;
    state.lines.lock().unwrap().push(first.trim_end().to_owned());
    if length == 0 {
        return Some(first.rsplit_once(' ')?.0.to_owned());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// A whole response. `headers` are lines, each ended by `\r\n`.
pub fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A JSON response.
pub fn json(status: &str, body: &serde_json::Value) -> Vec<u8> {
    response(status, "content-type: application/json\r\n", &body.to_string())
}

/// An error as OpenAI words it.
pub fn error(status: &str, kind: &str, code: &str, message: &str) -> Vec<u8> {
    json(
        status,
        &serde_json::json!({ "error": { "message": message, "type": kind, "param": null, "code": code } }),
    )
}

/// An answer that ended in this way; 100 input tokens of which 60 cached, 20 output tokens of which
/// 5 for reasoning.
pub fn answer(text: &str, finish: &str) -> serde_json::Value {
    serde_json::json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-6-luna-2026-10-01",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": text, "refusal": null },
            "finish_reason": finish,
        }],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": { "cached_tokens": 60 },
            "completion_tokens_details": { "reasoning_tokens": 5 },
        },
    })
}

/// A good answer, another one for another body.
pub fn good(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    json("200 OK", &answer(&format!("Words number {sum}."), "stop"))
}

/// The same with more headers.
pub fn error_with(status: &str, headers: &str, code: &str, message: &str) -> Vec<u8> {
    let body =
        serde_json::json!({ "error": { "message": message, "type": code, "param": null, "code": code } });
    response(
        status,
        &format!("content-type: application/json\r\n{headers}"),
        &body.to_string(),
    )
}
