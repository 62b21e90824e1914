//! A server of raw bytes: it plays back a script for every request, right or wrong, and writes
//! down what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// One step of a script.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes again and again until nobody reads them.
    Endless(Vec<u8>),
    /// Says nothing until the other side goes.
    Silence,
    /// Waits until the test lets it go on.
    Wait,
    /// Closes the connection; without this it stays open for the next request.
    Close,
    /// Resets the connection.
    Reset,
}

/// A server on a free port of this machine, until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    notes: Arc<Notes>,
    task: tokio::task::JoinHandle<()>,
}

/// What a server saw.
struct Notes {
    accepted: AtomicUsize,
    sent: AtomicUsize,
    requests: Mutex<Vec<String>>,
    /// A permit for every request that came.
    arrived: Semaphore,
    /// A permit for every [`Step::Wait`] that may end.
    gate: Semaphore,
    /// A permit for every connection that the other side left.
    left: Semaphore,
}

/// A whole response as HTTP/1.1 has it.
pub(super) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Server {
    /// Plays the same script for every request.
    pub(super) async fn start(script: Vec<Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::new(Notes {
            accepted: AtomicUsize::new(0),
            sent: AtomicUsize::new(0),
            requests: Mutex::new(Vec::new()),
            arrived: Semaphore::new(0),
            gate: Semaphore::new(0),
            left: Semaphore::new(0),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&notes), script));
        Self { address, notes, task }
    }

    /// Answers every request with `body` and status 200.
    pub(super) async fn answering(body: &str) -> Self {
        Self::start(vec![Step::Send(response(
            "200 OK",
            "content-type: application/json\r\n",
            body,
        ))])
        .await
    }

    /// How many connections were made.
    pub(super) fn accepted(&self) -> usize {
        self.notes.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes were written by [`Step::Endless`].
    pub(super) fn sent(&self) -> usize {
        self.notes.sent.load(Ordering::SeqCst)
    }

    /// The requests as they came, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.notes.requests.lock().unwrap().clone()
    }

    /// Waits until this many more requests have come.
    pub(super) async fn arrived(&self, count: u32) {
        self.notes.arrived.acquire_many(count).await.unwrap().forget();
    }

    /// Lets this many [`Step::Wait`] end.
    pub(super) fn go_on(&self, count: usize) {
        self.notes.gate.add_permits(count);
    }

    /// Waits until the other side has left a connection.
    pub(super) async fn left(&self) {
        self.notes.left.acquire().await.unwrap().forget();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, notes: Arc<Notes>, script: Vec<Step>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        notes.accepted.fetch_add(1, Ordering::SeqCst);
        connections.spawn(converse(stream, Arc::clone(&notes), script.clone()));
    }
}

/// Request and script, until one side goes.
async fn converse(mut stream: TcpStream, notes: Arc<Notes>, script: Vec<Step>) {
    while let Some(request) = read_request(&mut stream).await {
        notes.requests.lock().unwrap().push(request);
        notes.arrived.add_permits(1);
        for step in &script {
            if !play(step, &mut stream, &notes).await {
                return;
            }
        }
    }
    notes.left.add_permits(1);
}

/// Plays one step; false where the connection has ended.
async fn play(step: &Step, stream: &mut TcpStream, notes: &Notes) -> bool {
    match step {
        Step::Send(bytes) => stream.write_all(bytes).await.is_ok(),
        Step::Endless(bytes) => {
            while stream.write_all(bytes).await.is_ok() {
                notes.sent.fetch_add(bytes.len(), Ordering::SeqCst);
            }
            notes.left.add_permits(1);
            false
        }
        Step::Silence => {
            while stream.read(&mut [0; 64]).await.is_ok_and(|count| count > 0) {}
            notes.left.add_permits(1);
            false
        }
        Step::Wait => {
            notes.gate.acquire().await.unwrap().forget();
            true
        }
        Step::Close => false,
        Step::Reset => {
            stream.set_zero_linger().unwrap();
            false
        }
    }
}

/// Reads one request; `None` where the other side went.
async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => request.extend_from_slice(&piece[..count]),
            _ => return None,
        }
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && body.len() >= announced(head)
        {
            return Some(text.into_owned());
        }
    }
}

fn announced(head: &str) -> usize {
    let header = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    header.map_or(0, |length| length.parse().unwrap())
}
