//! How long a body may take and how large it may be, on a clock that stands still.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http;
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::{Body, Response};
use tokio::time::Instant;

use crate::provider::openai::receive::{ANSWER_CAP, End, Patience, Reply, whole};

const SECOND: Duration = Duration::from_secs(1);

/// A response whose body comes from a stream.
fn response(
    status: u16,
    pieces: impl Stream<Item = Result<Vec<u8>, io::Error>> + Send + 'static,
) -> Response {
    http::Response::builder()
        .status(status)
        .body(Body::wrap_stream(pieces))
        .unwrap()
        .into()
}

/// Pieces, each after a pause in seconds.
fn paced(pauses: Vec<u64>) -> impl Stream<Item = Result<Vec<u8>, io::Error>> {
    stream::iter(pauses).then(|pause| async move {
        tokio::time::sleep(SECOND * pause as u32).await;
        Ok(b"piece ".to_vec())
    })
}

/// Reads with a minute for the whole and ten seconds between two pieces.
async fn read(response: Response) -> Reply {
    let patience = Patience {
        started: Instant::now(),
        timeout: SECOND * 60,
        idle_timeout: SECOND * 10,
    };
    whole(response, &"http://host:1/v1".parse().unwrap(), patience).await
}

#[tokio::test(start_paused = true)]
async fn pieces_may_trickle() {
    let reply = read(response(200, paced(vec![9; 6]))).await;
    assert_eq!((reply.end, reply.body.len()), (End::Whole, 36));
}

#[tokio::test(start_paused = true)]
async fn a_server_may_think_after_its_headers() {
    let reply = read(response(200, paced(vec![50, 1]))).await;
    assert_eq!(reply.end, End::Whole);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_falls_silent_is_given_up() {
    let started = Instant::now();
    let reply = read(response(200, paced(vec![1, 2, 11]))).await;
    let message = "`host:1` fell silent in the middle of its answer: nothing for 10s after 12 bytes";
    assert_eq!(
        (reply.end, reply.body.as_slice()),
        (End::TimedOut(message.to_owned()), b"piece piece ".as_slice())
    );
    assert_eq!(started.elapsed().as_secs(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_forever_is_given_up() {
    let started = Instant::now();
    let reply = read(response(200, paced(vec![7; 100]))).await;
    assert_eq!(
        reply.end,
        End::TimedOut("no whole answer from `host:1` within 1m (48 bytes came)".to_owned())
    );
    assert_eq!(started.elapsed().as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_begins_is_given_up() {
    let reply = read(response(200, paced(vec![61]))).await;
    assert_eq!(
        reply.end,
        End::TimedOut("no whole answer from `host:1` within 1m (0 bytes came)".to_owned())
    );
}

#[tokio::test]
async fn a_body_that_breaks_says_why() {
    let pieces = vec![Ok(b"half".to_vec()), Err(io::Error::other("cable cut"))];
    let reply = read(response(200, stream::iter(pieces))).await;
    let message = "the connection to `host:1` broke before the answer was whole (4 bytes came): cable cut";
    assert_eq!(
        (reply.end, reply.body.as_slice()),
        (End::Broke(message.to_owned()), b"half".as_slice())
    );
}

/// A body of `megabytes`, made as it is read; and how many were made.
fn huge(megabytes: usize) -> (Arc<AtomicUsize>, impl Stream<Item = Result<Vec<u8>, io::Error>>) {
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let pieces = stream::iter(0..megabytes).map(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(vec![b' '; 1024 * 1024])
    });
    (made, pieces)
}

#[tokio::test]
async fn a_body_beyond_the_cap_is_not_read_on() {
    let (made, pieces) = huge(1000);
    let reply = read(response(200, pieces)).await;
    assert_eq!((reply.end, reply.body.len()), (End::TooLarge, ANSWER_CAP));
    assert_eq!(made.load(Ordering::Relaxed), 33);
}

#[tokio::test]
async fn a_body_of_just_the_cap_is_whole() {
    let reply = read(response(200, huge(32).1)).await;
    assert_eq!((reply.end, reply.body.len()), (End::Whole, ANSWER_CAP));
}

#[tokio::test]
async fn an_error_is_read_only_as_far_as_it_explains() {
    let (made, pieces) = huge(1000);
    let reply = read(response(500, pieces)).await;
    assert_eq!(
        (reply.status, reply.end, reply.body.len()),
        (500, End::TooLarge, 1024 * 1024)
    );
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_empty_body_is_whole() {
    let nothing = stream::empty::<Result<Vec<u8>, Infallible>>().map(|piece| Ok(piece.unwrap()));
    let reply = read(response(200, nothing)).await;
    assert_eq!((reply.end, reply.body.len()), (End::Whole, 0));
}
