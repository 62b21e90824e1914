//! A server that answers every call with the bytes that a test gives it, right or wrong, and
//! writes down what it was asked. It shares no code with septet.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Answers a call: its number among those with the same body, from 1, and its body.
type Answer = dyn Fn(usize, &str) -> Vec<u8> + Send + Sync;

/// A server on a free port of this machine, until it is dropped.
pub struct Wire {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    answer: Box<Answer>,
    bodies: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Wire {
    /// Answers with what `answer` returns for the number of the call among those with the same
    /// body, from 1, and that body.
    pub fn start(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Box::new(answer),
            bodies: Mutex::default(),
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

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies of all calls that came.
    pub fn bodies(&self) -> Vec<String> {
        self.state.bodies.lock().unwrap().clone()
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
    let body = request(&stream)?;
    let number = {
        let mut bodies = state.bodies.lock().unwrap();
        bodies.push(body.clone());
        bodies.iter().filter(|other| **other == body).count()
    };
    // The other side may leave before all of it is written.
    stream.write_all(&(state.answer)(number, &body)).ok()?;
    stream.shutdown(Shutdown::Write).ok()?;
    // To close before the other side does could take away what it has not read yet.
    stream.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

/// The body of a request.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
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
