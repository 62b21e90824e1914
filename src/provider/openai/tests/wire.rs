//! The provider against a server of raw bytes: what is sent, and what comes of broken HTTP.

use std::time::Duration;

use super::server::{Server, Step, response};
use super::{KEY, request};
use crate::call::{Answer, Fault, FaultKind, Scope};
use crate::config;
use crate::provider::Provider;
use crate::provider::openai::{OpenAi, ProviderError};

const ANSWER: &str = r#"{"id":"c-1","model":"m-1","choices":[{"message":{"content":"I am."},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;

fn config(base_url: &str, api_key_env: Option<&str>) -> config::Provider {
    config::Provider {
        name: "test".into(),
        kind: config::ProviderKind::OpenAi {
            base_url: base_url.parse().unwrap(),
            api_key_env: api_key_env.map(str::to_owned),
            output_cap_field: "max_tokens".to_owned(),
            api: config::Api::Chat,
        },
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
    }
}

/// A provider that sends the key.
fn provider(server: &Server) -> OpenAi {
    let config = config(&format!("http://{}/v1", server.address), Some("API_KEY"));
    OpenAi::new(&config, Some(KEY.into())).unwrap()
}

async fn call(server: &Server) -> Result<Answer, Fault> {
    provider(server).call(&request(), 1).await
}

async fn fault(script: Vec<Step>) -> Fault {
    let server = Server::start(script).await;
    let fault = call(&server).await.unwrap_err();
    assert_eq!(server.accepted(), 1, "one attempt is one request");
    assert!(!format!("{fault:?}").contains(KEY));
    let port = format!(":{}", server.address.port());
    Fault {
        message: fault.message.replace(&port, ""),
        ..fault
    }
}

fn send(bytes: impl Into<Vec<u8>>) -> Step {
    Step::Send(bytes.into())
}

#[tokio::test]
async fn a_call_is_one_post() {
    let server = Server::answering(ANSWER).await;
    let answer = call(&server).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.model.as_str()), ("I am.", "m-1"));
    let requests = server.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    lines[1..].sort();
    assert_eq!(
        lines,
        [
            "POST /v1/chat/completions HTTP/1.1",
            "accept: application/json",
            &format!("authorization: Bearer {KEY}"),
            &format!("content-length: {}", body.len()),
            "content-type: application/json",
            &format!("host: {}", server.address),
            &format!("user-agent: septet/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
    insta::assert_snapshot!(body, @r#"{"model":"gpt-6-luna","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Who are you"}]}"#);
}

#[tokio::test]
async fn without_a_key_there_is_no_authorization() {
    let server = Server::answering(ANSWER).await;
    let config = config(&format!("http://{}/v1/", server.address), None);
    OpenAi::new(&config, None)
        .unwrap()
        .call(&request(), 1)
        .await
        .unwrap();
    assert!(!server.requests()[0].to_lowercase().contains("authorization"));
    assert!(server.requests()[0].starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
}

#[test]
fn what_cannot_work_is_refused_before_the_first_call() {
    let simulator = config::Provider {
        kind: config::ProviderKind::Simulator(config::Simulator {
            latency: Duration::ZERO,
            jitter: 0.0,
            reply_tokens: 1,
            seed: 0,
            faults: config::SimulatorFaults::default(),
        }),
        ..config("https://api.example.com/v1", None)
    };
    assert_eq!(
        OpenAi::new(&simulator, None).unwrap_err(),
        ProviderError::OtherKind
    );
    let remote = config("http://api.example.com:8000/v1", Some("API_KEY"));
    let host = "api.example.com:8000".to_owned();
    assert_eq!(
        OpenAi::new(&remote, Some(KEY.into())).unwrap_err(),
        ProviderError::KeyOverPlainHttp { host }
    );
    let provider = OpenAi::new(
        &config("https://api.example.com/v1", Some("API_KEY")),
        Some(KEY.into()),
    )
    .unwrap();
    assert!(!format!("{provider:?}").contains(KEY));
}

#[tokio::test]
async fn connections_are_used_again() {
    let server = Server::answering(ANSWER).await;
    let provider = provider(&server);
    for _ in 0..20 {
        provider.call(&request(), 1).await.unwrap();
    }
    assert_eq!((server.accepted(), server.requests().len()), (1, 20));
}

#[tokio::test]
async fn calls_side_by_side_use_no_more_connections_than_there_are_calls() {
    let answer = response("200 OK", "", ANSWER);
    let server = Server::start(vec![Step::Wait, Step::Send(answer)]).await;
    let provider = std::sync::Arc::new(provider(&server));
    for _ in 0..5 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let provider = provider.clone();
            calls.spawn(async move { provider.call(&request(), 1).await.map(|answer| answer.text) });
        }
        // All eight are in flight before the first is answered.
        server.arrived(8).await;
        server.go_on(8);
        assert_eq!(calls.join_all().await, vec![Ok("I am.".to_owned()); 8]);
    }
    assert_eq!((server.accepted(), server.requests().len()), (8, 40));
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_usable() {
    let refusal = response(
        "429 Too Many Requests",
        "retry-after: 3\r\nx-request-id: r-1\r\n",
        r#"{"error":{"message":"slow"}}"#,
    );
    let server = Server::start(vec![Step::Send(refusal)]).await;
    let provider = provider(&server);
    for _ in 0..3 {
        let fault = provider.call(&request(), 1).await.unwrap_err();
        let expected = Fault {
            http_status: Some(429),
            retry_after: Some(Duration::from_secs(3)),
            request_id: Some("r-1".to_owned()),
            ..Fault::new(FaultKind::RateLimited, "slow")
        };
        assert_eq!(fault, expected);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::answering(ANSWER).await;
    let location = format!("location: http://{}/elsewhere?token=s\r\n", other.address);
    let fault = fault(vec![send(response("307 Temporary Redirect", &location, ""))]).await;
    assert_eq!((fault.kind, fault.scope), (FaultKind::Redirect, Scope::Run));
    assert!(
        fault.message.contains("/elsewhere`: redirects are not followed"),
        "{}",
        fault.message
    );
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn chunks_and_empty_lines_make_an_answer() {
    let (first, second) = ANSWER.split_at(40);
    let mut script = vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")];
    for piece in ["\n", "\n\n", first, second] {
        script.push(send(format!("{:x}\r\n{piece}\r\n", piece.len())));
    }
    script.push(send("0\r\n\r\n"));
    let server = Server::start(script).await;
    assert_eq!(call(&server).await.unwrap().text, "I am.");
}

#[tokio::test]
async fn the_end_of_the_connection_may_be_the_end_of_the_answer() {
    let server = Server::start(vec![
        send(format!("HTTP/1.0 200 OK\r\n\r\n{ANSWER}")),
        Step::Close,
    ])
    .await;
    assert_eq!(call(&server).await.unwrap().text, "I am.");
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_a_broken_connection() {
    let cut = format!("HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ncontent-length: 999\r\n\r\n{ANSWER}");
    let fault = fault(vec![send(cut), Step::Close]).await;
    assert_eq!(
        (fault.kind, fault.scope, fault.http_status),
        (FaultKind::Connection, Scope::Attempt, Some(200))
    );
    assert_eq!(fault.request_id.as_deref(), Some("r-1"));
    insta::assert_snapshot!(fault.message, @"the connection to `127.0.0.1` broke before the answer was whole (143 bytes came): end of file before message length reached");
}

#[tokio::test]
async fn a_chunked_body_that_is_cut_off_is_a_broken_connection() {
    let fault = fault(vec![
        send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"cho\r\n"),
        Step::Close,
    ])
    .await;
    assert_eq!(fault.kind, FaultKind::Connection);
    assert!(
        fault
            .message
            .contains("before the answer was whole (5 bytes came)"),
        "{}",
        fault.message
    );
}

#[tokio::test]
async fn a_close_before_any_answer_is_a_broken_connection() {
    let fault = fault(vec![Step::Close]).await;
    assert_eq!(
        (fault.kind, fault.scope, fault.http_status),
        (FaultKind::Connection, Scope::Attempt, None)
    );
    assert!(fault.may_be_billed(), "the request had arrived");
    insta::assert_snapshot!(fault.message, @"the connection to `127.0.0.1` broke before an answer came: connection closed before message completed");
}

#[tokio::test]
async fn a_reset_is_a_broken_connection() {
    let before = fault(vec![Step::Reset]).await;
    assert_eq!(before.kind, FaultKind::Connection);
    assert!(
        before
            .message
            .starts_with("the connection to `127.0.0.1` broke before an answer came: "),
        "{}",
        before.message
    );
    let within = fault(vec![
        send("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
        Step::Reset,
    ])
    .await;
    assert_eq!(within.kind, FaultKind::Connection);
}

#[tokio::test]
async fn what_is_not_http_is_a_broken_connection() {
    let fault = fault(vec![send("SSH-2.0-OpenSSH_9.9\r\n"), Step::Close]).await;
    assert_eq!((fault.kind, fault.scope), (FaultKind::Connection, Scope::Attempt));
    insta::assert_snapshot!(fault.message, @"the connection to `127.0.0.1` broke before an answer came: invalid HTTP version parsed");
}

#[tokio::test]
async fn a_port_where_nobody_listens_refuses() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = config(&format!("http://{address}/v1?api-version=secret"), None);
    let fault = OpenAi::new(&config, None)
        .unwrap()
        .call(&request(), 1)
        .await
        .unwrap_err();
    assert_eq!(
        (fault.kind, fault.scope, fault.http_status),
        (FaultKind::Connection, Scope::Attempt, None)
    );
    let begins = format!("cannot connect to `{address}`: ");
    assert!(
        !fault.may_be_billed() && fault.message.starts_with(&begins) && fault.message.contains("refused"),
        "{}",
        fault.message
    );
    assert!(!fault.message.contains("secret"));
}

#[tokio::test]
async fn https_to_a_plain_port_does_not_connect() {
    let server = Server::start(vec![Step::Close]).await;
    let config = config(&format!("https://{}/v1", server.address), Some("API_KEY"));
    let provider = OpenAi::new(&config, Some(KEY.into())).unwrap();
    let call = tokio::spawn(async move { provider.call(&request(), 1).await });
    drop(server);
    let fault = call.await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Connection);
    assert!(
        fault.message.starts_with("cannot connect to `127.0.0.1:"),
        "{}",
        fault.message
    );
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let server = Server::start(vec![Step::Silence]).await;
    let mut config = config(&format!("http://{}/v1", server.address), None);
    config.timeout = Duration::from_millis(50);
    let fault = OpenAi::new(&config, None)
        .unwrap()
        .call(&request(), 1)
        .await
        .unwrap_err();
    assert_eq!(
        (fault.kind, fault.scope, fault.http_status),
        (FaultKind::Timeout, Scope::Attempt, None)
    );
    assert_eq!(
        fault.message,
        format!("no answer from `{}` within 50ms", server.address)
    );
}

#[tokio::test]
async fn a_body_that_falls_silent_times_out() {
    let begun = send("HTTP/1.1 200 OK\r\nx-request-id: r-1\r\ncontent-length: 99\r\n\r\n{\"choi");
    let server = Server::start(vec![begun, Step::Silence]).await;
    let mut config = config(&format!("http://{}/v1", server.address), None);
    config.idle_timeout = Duration::from_millis(50);
    let fault = OpenAi::new(&config, None)
        .unwrap()
        .call(&request(), 1)
        .await
        .unwrap_err();
    assert_eq!(
        (fault.kind, fault.http_status, fault.request_id.as_deref()),
        (FaultKind::Timeout, Some(200), Some("r-1"))
    );
    assert!(
        fault
            .message
            .contains("fell silent in the middle of its answer: nothing for 50ms after 6 bytes")
    );
    server.left().await;
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_not_read() {
    let begun = send("HTTP/1.1 200 OK\r\ncontent-length: 33554433\r\n\r\n");
    let server = Server::start(vec![begun, Step::Silence]).await;
    let fault = call(&server).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.scope),
        (FaultKind::ResponseTooLarge, Scope::Node)
    );
    server.left().await;
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_not_read_on() {
    let mut chunk = b"100000\r\n".to_vec();
    chunk.extend(vec![b' '; 1024 * 1024]);
    chunk.extend(b"\r\n");
    let begun = send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let server = Server::start(vec![begun, Step::Endless(chunk)]).await;
    let fault = call(&server).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::ResponseTooLarge);
    server.left().await;
    assert!(server.sent() >= 31 << 20, "it was read up to the cap");
    // What the kernel's buffers hold is sent, though nobody reads it.
    assert!(server.sent() < 64 << 20, "{}", server.sent());
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_at_once() {
    let server = Server::start(vec![Step::Silence]).await;
    let provider = provider(&server);
    let request = request();
    let call = provider.call(&request, 1);
    tokio::select! {
        _ = call => unreachable!("nobody answers"),
        () = server.arrived(1) => {}
    }
    server.left().await;
}

/// A request that tells the cache what is shared.
fn hinted() -> crate::call::Request {
    let mut request = request();
    request.delivery.cache = crate::call::CacheHint::Breakpoints;
    request
        .delivery
        .shared
        .push(crate::call::Mark { message: 0, bytes: 9 });
    request
}

#[tokio::test]
async fn a_hint_that_is_refused_is_left_out_from_then_on() {
    let refusals = [
        r#"{"error":{"message":"Unsupported parameter: 'prompt_cache_options' is not supported with this model.","type":"invalid_request_error","param":"prompt_cache_options","code":"unsupported_parameter"}}"#,
        r#"{"error":{"message":"Unknown field.","type":"invalid_request_error","param":"messages[0].content[0].prompt_cache_breakpoint","code":null}}"#,
        r#"{"detail":[{"type":"extra_forbidden","loc":["body","prompt_cache_options"],"msg":"Extra inputs are not permitted"}]}"#,
    ];
    for refusal in refusals {
        let server = Server::start(vec![send(response("400 Bad Request", "", refusal))]).await;
        let provider = provider(&server);
        let fault = provider.call(&hinted(), 1).await.unwrap_err();
        assert_eq!(
            (fault.kind, fault.scope, fault.http_status),
            (FaultKind::BadParameter, Scope::Attempt, Some(400)),
            "{fault}"
        );
        assert!(fault.message.contains("left out from now on"), "{fault}");
        let again = provider.call(&hinted(), 2).await.unwrap_err();
        assert_ne!(again.scope, Scope::Attempt, "what is refused now was no hint");
        let requests = server.requests();
        assert!(requests[0].contains("prompt_cache_breakpoint"), "{}", requests[0]);
        assert!(!requests[1].contains("prompt_cache"), "{}", requests[1]);
    }
}

#[tokio::test]
async fn another_refusal_leaves_the_hint_alone() {
    let refusal = r#"{"error":{"message":"Unsupported parameter: 'top_k'","param":"top_k","code":"unsupported_parameter"}}"#;
    let server = Server::start(vec![send(response("400 Bad Request", "", refusal))]).await;
    let provider = provider(&server);
    for attempt in 1..3 {
        let fault = provider.call(&hinted(), attempt).await.unwrap_err();
        assert_eq!((fault.kind, fault.scope), (FaultKind::BadParameter, Scope::Run));
    }
    assert!(server.requests()[1].contains("prompt_cache_options"));
}
