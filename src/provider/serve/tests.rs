//! The server over real HTTP with a plain client, and under paused time without sockets.

use std::io::{Read, Write};
use std::time::Duration;

use axum::http::HeaderMap;
use insta::assert_snapshot;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::call::{CacheHint, Delivery, FaultKind, Mark, Message, Request, Role, Scope};
use crate::config::SimulatorFaults;
use crate::provider::simulator::Simulator;
use crate::provider::{OpenAi, Provider};

const NONE: SimulatorFaults = SimulatorFaults {
    rate_limited: 0.0,
    server_error: 0.0,
    connection: 0.0,
    timeout: 0.0,
    truncated: 0.0,
    filtered: 0.0,
    empty: 0.0,
    malformed: 0.0,
};

fn settings(faults: SimulatorFaults) -> config::Simulator {
    config::Simulator {
        latency: Duration::ZERO,
        jitter: 0.0,
        reply_tokens: 200,
        seed: 3,
        faults,
    }
}

fn options() -> Options {
    Options::new(settings(NONE))
}

fn faulty(faults: SimulatorFaults) -> Options {
    Options::new(settings(faults))
}

/// A server, and a client for it.
struct Served {
    url: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Counters, ServeError>>,
}

/// What a plain client sees.
#[derive(Debug)]
struct Seen {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Seen {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Served {
    async fn new(options: Options) -> Self {
        // reqwest wants one although nothing here is encrypted; a second install is an error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = bind(0).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        Self {
            url,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            stop,
            task: tokio::spawn(serve(options, listener, shutdown)),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Seen, reqwest::Error> {
        let response = request.send().await?;
        Ok(Seen {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await?,
        })
    }

    async fn get(&self, path: &str) -> Seen {
        self.send(self.client.get(format!("{}{path}", self.url)))
            .await
            .unwrap()
    }

    async fn try_post(&self, path: &str, body: impl Into<String>) -> Result<Seen, reqwest::Error> {
        self.send(self.client.post(format!("{}{path}", self.url)).body(body.into()))
            .await
    }

    async fn post(&self, path: &str, body: impl Into<String>) -> Seen {
        self.try_post(path, body).await.unwrap()
    }

    async fn ask(&self, body: &Value) -> Seen {
        self.post("/v1/chat/completions", body.to_string()).await
    }

    async fn try_ask(&self, body: &Value) -> Result<Seen, reqwest::Error> {
        self.try_post("/v1/chat/completions", body.to_string()).await
    }

    /// Asks the server for its counters until they are as they should become.
    async fn until(&self, reached: impl Fn(&Value) -> bool) -> Value {
        loop {
            let stats = self.get("/stats").await.json();
            if reached(&stats) {
                return stats;
            }
        }
    }

    async fn stop(self) -> Counters {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }
}

fn ask(prompt: &str) -> Value {
    json!({
        "model": "gpt-6-luna",
        "messages": [
            { "role": "system", "content": "You write conversations." },
            { "role": "user", "content": prompt },
        ],
    })
}

/// The same for the model in this process.
fn request(prompt: &str) -> Request {
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    Request {
        provider: "anything".into(),
        model: "gpt-6-luna".into(),
        messages: vec![
            message(Role::System, "You write conversations."),
            message(Role::User, prompt),
        ],
        parameters: Arc::default(),
        variant: None,
        delivery: Delivery::default(),
    }
}

fn content(seen: &Value) -> &str {
    seen["choices"][0]["message"]["content"].as_str().unwrap()
}

fn finish(seen: &Value) -> &str {
    seen["choices"][0]["finish_reason"].as_str().unwrap()
}

#[tokio::test]
async fn the_text_is_that_of_the_model_in_process() {
    let served = Served::new(options()).await;
    let local = Simulator::new(settings(NONE), Duration::from_secs(60));
    let prompt = "# Ada Whitfield\n\nage: 41\n\nPart 1: Arriving\n\nThey meet.";

    let seen = served.ask(&ask(prompt)).await.json();
    let answer = local.call(&request(prompt), 1).await.unwrap();
    assert_eq!(content(&seen), answer.text);
    assert_eq!(seen["usage"], answer.raw_usage);
    assert_eq!(seen["id"], json!(answer.id));
    assert_eq!(seen["model"], "gpt-6-luna");

    // Parameters, limits and a joined page.
    let mut body = ask(&answer.text);
    let mut same = request(&answer.text);
    for (name, value) in [
        ("temperature", json!(0.5)),
        ("seed", json!(9)),
        ("reply_tokens", json!(333)),
    ] {
        body[name] = value.clone();
        Arc::make_mut(&mut same.parameters).insert(name.to_owned(), value);
    }
    body["max_tokens"] = json!(100);
    body["service_tier"] = json!("flex");
    same.delivery.max_output_tokens = Some(100);
    same.delivery.service_tier = Some("flex".into());
    let seen = served.ask(&body).await.json();
    let answer = local.call(&same, 1).await.unwrap();
    assert_eq!(content(&seen), answer.text);
    assert_eq!((finish(&seen), &seen["service_tier"]), ("length", &json!("flex")));
    served.stop().await;
}

/// A request with a long context, a mark after it and a hint.
fn marked(model: &str, context: char, part: u32, cache: CacheHint) -> Request {
    let context = format!("{}\n\n", context.to_string().repeat(5_000));
    let mut request = request(&format!("{context}Part {part}"));
    let mark = |message, bytes| Mark { message, bytes };
    request.model = model.into();
    request.delivery.cache = cache;
    request.delivery.shared = vec![mark(0, 24), mark(1, context.len())];
    request
}

fn adapter(served: &Served) -> OpenAi {
    let config = config::Provider {
        name: "test".into(),
        kind: config::ProviderKind::OpenAi {
            base_url: format!("{}/v1", served.url).parse().unwrap(),
            api_key_env: None,
            output_cap_field: "max_tokens".to_owned(),
            api: config::Api::Chat,
        },
        timeout: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
    };
    OpenAi::new(&config, None).unwrap()
}

#[tokio::test]
async fn the_prompt_cache_is_that_of_the_model_in_process() {
    let served = Served::new(options()).await;
    let remote = adapter(&served);
    let local = Simulator::new(settings(NONE), Duration::from_secs(60));
    let mut seen = Vec::new();
    for (model, cache) in [
        ("gpt-6-luna", CacheHint::Breakpoints),
        ("gpt-6-sol", CacheHint::Nothing),
        ("gpt-4.1", CacheHint::Key),
        ("m", CacheHint::Breakpoints),
    ] {
        for (context, part) in [('a', 1), ('a', 2), ('b', 1), ('a', 2)] {
            let request = marked(model, context, part, cache);
            let told = remote.call(&request, 1).await.unwrap();
            let same = local.call(&request, 1).await.unwrap();
            assert_eq!(
                (told.usage, told.text),
                (same.usage, same.text),
                "{model} {cache:?}"
            );
            let usage = same.usage;
            seen.push((usage.cached_input.unwrap(), usage.cache_write.unwrap()));
        }
    }
    let expected = [
        [(0, 1256), (1256, 0), (0, 1256), (1256, 0)],
        [(0, 1258), (0, 1258), (0, 1258), (1258, 0)],
        [(0, 0), (1152, 0), (0, 0), (1152, 0)],
        [(0, 1256), (1256, 0), (0, 1256), (1256, 0)],
    ];
    assert_eq!(seen, expected.concat());
    served.stop().await;
}

#[tokio::test]
async fn a_model_that_refuses_a_hint_is_asked_without_it() {
    let served = Served::new(options()).await;
    let remote = adapter(&served);
    let request = marked("gpt-4.1", 'a', 1, CacheHint::Breakpoints);
    let fault = remote.call(&request, 1).await.unwrap_err();
    assert_eq!(
        (fault.kind, fault.scope),
        (FaultKind::BadParameter, Scope::Attempt)
    );
    let answer = remote.call(&request, 2).await.unwrap();
    let local = Simulator::new(settings(NONE), Duration::from_secs(60));
    assert_eq!(local.call(&request, 1).await.unwrap().text, answer.text);
    served.stop().await;
}

#[tokio::test]
async fn an_answer_has_openais_shape() {
    let served = Served::new(options()).await;
    let seen = served
        .post("/chat/completions", ask("Part 1: Hi").to_string())
        .await;
    assert_eq!(
        (seen.status, seen.header("content-type")),
        (200, Some("application/json"))
    );
    assert!(seen.header("x-request-id").unwrap().starts_with("req_"));
    assert_eq!(
        seen.header("x-ratelimit-limit-requests"),
        None,
        "no limit, no header"
    );
    let mut body = seen.json();
    assert!(body["created"].as_i64().unwrap() > 1_700_000_000);
    body["created"] = json!(0);
    body["choices"][0]["message"]["content"] = json!(content(&body).len());
    assert_snapshot!(serde_json::to_string_pretty(&body).unwrap(), @r#"
    {
      "choices": [
        {
          "finish_reason": "stop",
          "index": 0,
          "logprobs": null,
          "message": {
            "content": 825,
            "refusal": null,
            "role": "assistant"
          }
        }
      ],
      "created": 0,
      "id": "chatcmpl-73b82561468f-1",
      "model": "gpt-6-luna",
      "object": "chat.completion",
      "system_fingerprint": "fp_septet",
      "usage": {
        "completion_tokens": 206,
        "completion_tokens_details": {
          "reasoning_tokens": 0
        },
        "prompt_tokens": 9,
        "prompt_tokens_details": {
          "cache_write_tokens": 0,
          "cached_tokens": 0
        },
        "total_tokens": 215
      }
    }
    "#);
    let models = served.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "septet-simulator");
    served.stop().await;
}

#[tokio::test]
async fn bad_answers_are_answers() {
    let whole = Served::new(options()).await;
    let text = content(&whole.ask(&ask("Part 1")).await.json()).to_owned();
    whole.stop().await;

    let served = Served::new(faulty(SimulatorFaults {
        truncated: 1.0,
        ..NONE
    }))
    .await;
    let seen = served.ask(&ask("Part 1")).await.json();
    assert_eq!(finish(&seen), "length");
    assert!(text.starts_with(content(&seen)) && content(&seen).len() < text.len());
    assert_eq!(served.stop().await.outcomes, [(Outcome::Truncated, 1)].into());

    let served = Served::new(faulty(SimulatorFaults {
        filtered: 1.0,
        ..NONE
    }))
    .await;
    let seen = served.ask(&ask("Part 1")).await.json();
    assert_eq!((finish(&seen), content(&seen)), ("content_filter", ""));
    assert_eq!(served.stop().await.outcomes, [(Outcome::Filtered, 1)].into());

    let served = Served::new(faulty(SimulatorFaults { empty: 1.0, ..NONE })).await;
    let seen = served.ask(&ask("Part 1")).await.json();
    assert_eq!((finish(&seen), content(&seen)), ("stop", ""));
    let counters = served.stop().await;
    assert_eq!(counters.outcomes, [(Outcome::Empty, 1)].into());
    assert_eq!(counters.tokens.output, 0);

    let served = Served::new(faulty(SimulatorFaults {
        malformed: 1.0,
        ..NONE
    }))
    .await;
    let seen = served.ask(&ask("Part 1")).await;
    assert_eq!(seen.status, 200);
    assert!(serde_json::from_str::<Value>(&seen.text).is_err());
    let counters = served.stop().await;
    assert_eq!(counters.outcomes, [(Outcome::Malformed, 1)].into());
    assert_eq!((counters.tokens.total, counters.bodies.answered), (0, 0));
    assert!(counters.lost_tokens.output > 100);
}

#[tokio::test]
async fn injected_errors_look_like_openais() {
    let served = Served::new(faulty(SimulatorFaults {
        rate_limited: 1.0,
        ..NONE
    }))
    .await;
    let seen = served.ask(&ask("Part 1")).await;
    assert_eq!(seen.status, 429);
    assert_eq!(
        (seen.header("retry-after"), seen.header("retry-after-ms")),
        (Some("1"), Some("1000"))
    );
    assert_snapshot!(seen.text, @r#"{"error":{"message":"Rate limit reached for gpt-6-luna. Please try again in 1s. (injected by the simulator)","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#);
    let fault = Simulator::new(
        settings(SimulatorFaults {
            rate_limited: 1.0,
            ..NONE
        }),
        Duration::from_secs(60),
    )
    .call(&request("Part 1"), 1)
    .await
    .unwrap_err();
    assert_eq!(
        seen.json()["error"]["message"],
        fault.message.as_str(),
        "the same in process"
    );
    assert_eq!(seen.header("x-request-id"), fault.request_id.as_deref());
    assert_eq!(served.stop().await.outcomes, [(Outcome::RateLimited, 1)].into());

    let served = Served::new(faulty(SimulatorFaults {
        server_error: 1.0,
        ..NONE
    }))
    .await;
    let seen = served.ask(&ask("Part 1")).await;
    assert_eq!((seen.status, seen.header("retry-after")), (500, None));
    assert_snapshot!(seen.text, @r#"{"error":{"message":"The server had an error while processing your request. Sorry about that! (injected by the simulator)","type":"server_error","param":null,"code":null}}"#);
    let counters = served.stop().await;
    assert_eq!(counters.outcomes, [(Outcome::ServerError, 1)].into());
    assert_eq!(
        counters.tokens.total + counters.lost_tokens.total,
        0,
        "not billed"
    );
}

#[tokio::test]
async fn a_connection_is_reset_in_the_middle_of_an_answer() {
    let served = Served::new(faulty(SimulatorFaults {
        connection: 1.0,
        ..NONE
    }))
    .await;
    let error = served.try_ask(&ask("Part 1")).await.unwrap_err();
    assert!(!error.is_timeout() && error.status().is_none(), "{error:?}");

    // What arrives on the wire: half an answer, then the reset.
    let address = served.url.strip_prefix("http://").unwrap().to_owned();
    let body = ask("Part 2").to_string();
    let (arrived, error) = tokio::task::spawn_blocking(move || {
        let mut wire = std::net::TcpStream::connect(&address).unwrap();
        let length = body.len();
        write!(
            wire,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut arrived = Vec::new();
        let error = wire.read_to_end(&mut arrived).unwrap_err();
        (String::from_utf8_lossy(&arrived).into_owned(), error)
    })
    .await
    .unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // Other systems may throw away what arrived before a reset.
    if cfg!(target_os = "linux") {
        assert!(
            arrived.starts_with("HTTP/1.1 200 OK") && arrived.contains("**Adviser:**"),
            "{arrived}"
        );
    }
    let counters = served.stop().await;
    assert_eq!(counters.outcomes, [(Outcome::ConnectionReset, 2)].into());
    assert_eq!(counters.statuses, [].into());
    assert!(counters.lost_tokens.output > 200);
}

#[tokio::test]
async fn it_hangs_until_the_client_gives_up() {
    let served = Served::new(faulty(SimulatorFaults { timeout: 1.0, ..NONE })).await;
    let body = ask("Part 1");
    tokio::select! {
        _ = served.try_ask(&body) => unreachable!("it hangs"),
        _ = served.until(|stats| stats["most_admitted"]["in_60_s"] == 1) => {}
    }
    let stats = served.until(|stats| stats["in_flight"] == 0).await;
    assert_eq!(stats["outcomes"], json!({ "hung": 1 }));
    served.stop().await;
}

#[tokio::test]
async fn who_leaves_early_is_counted_as_abandoned() {
    let mut options = options();
    options.model.latency = Duration::from_secs(3600);
    let served = Served::new(options).await;
    let (body, other) = (ask("Part 1"), ask("Part 2"));
    tokio::select! {
        _ = served.ask(&body) => unreachable!("an hour is long"),
        _ = served.until(|stats| stats["most_admitted"]["in_60_s"] == 1) => {}
    }
    served
        .until(|stats| stats["outcomes"] == json!({ "abandoned": 1 }))
        .await;
    // The other one is still waiting when the server ends: it is reset, and nobody waits.
    let asking = served
        .client
        .post(format!("{}/v1/chat/completions", served.url))
        .body(other.to_string());
    let waiting = tokio::spawn(asking.send());
    served.until(|stats| stats["most_admitted"]["in_60_s"] == 2).await;
    let counters = served.stop().await;
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(counters.outcomes, [(Outcome::Abandoned, 2)].into());
    assert_eq!(counters.in_flight, 0);
}

#[tokio::test]
async fn requests_that_are_wrong_are_refused_as_openai_refuses_them() {
    let options = Options {
        api_key: Some("sk-right".to_owned().into()),
        models: vec!["gpt-6-luna".to_owned()],
        ..options()
    };
    let served = Served::new(options).await;
    let url = format!("{}/v1/chat/completions", served.url);
    let send = |key: Option<&str>, body: String| {
        let request = served.client.post(&url).body(body);
        served.send(match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    };
    let mut other = ask("x");
    other["model"] = json!("gpt-7");
    let cases = [
        (None, ask("x").to_string(), 401, Value::Null),
        (
            Some("sk-wrong"),
            ask("x").to_string(),
            401,
            json!("invalid_api_key"),
        ),
        (Some("sk-right"), "{".to_owned(), 400, Value::Null),
        (
            Some("sk-right"),
            json!({ "messages": [] }).to_string(),
            400,
            Value::Null,
        ),
        (
            Some("sk-right"),
            json!({ "model": "m" }).to_string(),
            400,
            json!("missing_required_parameter"),
        ),
        (Some("sk-right"), other.to_string(), 404, json!("model_not_found")),
        (
            Some("sk-right"),
            "x".repeat(service::LARGEST_BODY + 1),
            413,
            json!("request_too_large"),
        ),
    ];
    for (key, body, status, code) in cases {
        let seen = send(key, body).await.unwrap();
        assert_eq!(
            (seen.status, &seen.json()["error"]["code"]),
            (status, &code),
            "{}",
            seen.text
        );
        assert_eq!(seen.json()["error"]["type"], "invalid_request_error");
        assert!(seen.header("x-request-id").is_some());
        assert!(!seen.text.contains("sk-"), "no key in an answer");
    }
    let seen = send(Some("sk-right"), ask("x").to_string()).await.unwrap();
    assert_eq!(seen.status, 200);

    assert_snapshot!(served.get("/v1/nothing").await.text, @r#"{"error":{"message":"Invalid URL (GET /v1/nothing)","type":"invalid_request_error","param":null,"code":null}}"#);
    assert_snapshot!(served.get("/v1/chat/completions").await.text, @r#"{"error":{"message":"Not allowed to GET on /v1/chat/completions.","type":"invalid_request_error","param":null,"code":"method_not_supported"}}"#);
    assert_eq!(
        served.get("/v1/models").await.json()["data"][0]["id"],
        "gpt-6-luna"
    );
    let counters = served.stop().await;
    assert_eq!(counters.requests, 8);
    assert_eq!(
        counters.statuses,
        [(200, 1), (400, 3), (401, 2), (404, 1), (413, 1)].into()
    );
    assert_eq!(counters.bodies.distinct, 1, "what is refused is not asked");
}

#[tokio::test]
async fn limits_are_enforced_and_told() {
    let served = Served::new(Options {
        requests_per_minute: Some(1),
        ..options()
    })
    .await;
    let seen = served.ask(&ask("x")).await;
    assert_eq!(seen.status, 200);
    assert_eq!(seen.header("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(seen.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(seen.header("x-ratelimit-limit-tokens"), None);
    let seen = served.ask(&ask("x")).await;
    let error = &seen.json()["error"];
    assert_eq!(
        (seen.status, &error["type"], &error["code"]),
        (429, &json!("requests"), &json!("rate_limit_exceeded"))
    );
    let wait: u64 = seen.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert!(seen.header("x-ratelimit-reset-requests").unwrap().ends_with('s'));
    let counters = served.stop().await;
    assert_eq!(
        counters.outcomes,
        [(Outcome::Answered, 1), (Outcome::OverRequestsLimit, 1)].into()
    );
    assert_eq!(
        (counters.bodies.most_requests, counters.most_started.in_60_s),
        (1, 2)
    );

    let served = Served::new(Options {
        tokens_per_minute: Some(1000),
        ..options()
    })
    .await;
    let seen = served.ask(&ask("x")).await;
    assert_eq!(
        (seen.status, seen.header("x-ratelimit-remaining-tokens")),
        (200, Some("0"))
    );
    let seen = served.ask(&ask("x")).await;
    assert_eq!(
        (seen.status, &seen.json()["error"]["type"]),
        (429, &json!("tokens"))
    );
    let mut large = ask("x");
    large["max_completion_tokens"] = json!(1000);
    let seen = served.ask(&large).await;
    assert_eq!((seen.status, seen.header("retry-after")), (429, None));
    assert_snapshot!(seen.text, @r#"{"error":{"message":"Request too large for gpt-6-luna on tokens per min (TPM): Limit 1000, Requested 1007. The input or output tokens must be reduced in order to run successfully.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#);
    assert_eq!(served.stop().await.outcomes[&Outcome::OverTokensLimit], 2);
}

#[tokio::test]
async fn no_more_run_at_once_than_there_is_room_for() {
    for (crowded, status) in [(Crowded::RateLimited, 429), (Crowded::Overloaded, 503)] {
        let served = Served::new(Options {
            concurrency: Some(1),
            crowded,
            ..faulty(SimulatorFaults { timeout: 1.0, ..NONE })
        })
        .await;
        let (body, other) = (ask("Part 1"), ask("Part 2"));
        tokio::select! {
            _ = served.ask(&body) => unreachable!("it hangs"),
            _ = served.until(|stats| stats["most_admitted"]["in_60_s"] == 1) => {
                let seen = served.ask(&other).await;
                assert_eq!((seen.status, seen.header("retry-after")), (status, Some("1")));
            }
        }
        let stats = served.until(|stats| stats["in_flight"] == 0).await;
        assert_eq!(stats["outcomes"], json!({ "hung": 1, "over_concurrency": 1 }));
        assert_eq!(stats["most_in_flight"], 2);
        served.stop().await;
    }
}

#[tokio::test]
async fn an_outage_begins_and_ends_on_demand() {
    let served = Served::new(options()).await;
    for wrong in [
        "{}",
        "{\"seconds\": -1}",
        "{\"seconds\": 1, \"mode\": \"odd\"}",
        "{\"second\": 1}",
    ] {
        assert_eq!(served.post("/outage", wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(
        served.post("/outage", "{\"seconds\": 1000}").await.text,
        r#"{"seconds":1000.0,"mode":"error"}"#
    );
    let seen = served.ask(&ask("x")).await;
    assert_eq!(
        (seen.status, &seen.json()["error"]["type"]),
        (503, &json!("service_unavailable_error"))
    );

    served
        .post("/outage", "{\"seconds\": 1000, \"mode\": \"reset\"}")
        .await;
    assert!(served.try_ask(&ask("x")).await.is_err());

    served.post("/outage", "{\"seconds\": 0}").await;
    assert_eq!(served.ask(&ask("x")).await.status, 200);
    let counters = served.stop().await;
    assert_eq!(
        counters.outcomes,
        [(Outcome::Answered, 1), (Outcome::Outage, 2)].into()
    );
    assert_eq!(counters.statuses, [(200, 1), (503, 1)].into());
}

#[tokio::test]
async fn each_request_for_a_body_is_its_next_attempt() {
    let faults = SimulatorFaults {
        server_error: 0.5,
        ..NONE
    };
    let served = Served::new(faulty(faults)).await;
    let local = Simulator::new(settings(faults), Duration::from_secs(60));
    for prompt in ["one", "two"] {
        for attempt in 1..=12 {
            let seen = served.ask(&ask(prompt)).await.status;
            let expected = if local.call(&request(prompt), attempt).await.is_ok() {
                200
            } else {
                500
            };
            assert_eq!(seen, expected, "{prompt}, attempt {attempt}");
        }
    }
    let bodies = served.stop().await.bodies;
    assert_eq!((bodies.distinct, bodies.most_requests), (2, 12));
}

#[tokio::test]
async fn counters_tell_what_was_paid_for_twice_and_can_begin_anew() {
    let served = Served::new(options()).await;
    for prompt in ["one", "two", "one", "one"] {
        served.ask(&ask(prompt)).await;
    }
    let before = served.post("/stats/reset", "").await.json();
    assert_eq!(
        before["bodies"],
        json!({ "distinct": 2, "answered": 2, "paid_twice": 2, "most_requests": 3 })
    );
    assert_eq!(
        (&before["requests"], &before["statuses"]),
        (&json!(4), &json!({ "200": 4 }))
    );
    assert!(before["tokens"]["output"].as_u64().unwrap() > 500);
    served.ask(&ask("one")).await;
    let counters = served.stop().await;
    assert_eq!((counters.requests, counters.bodies.paid_twice), (1, 0));
}

#[tokio::test]
async fn prompts_are_cached_across_connections() {
    let served = Served::new(options()).await;
    let persona = "She likes it that way. ".repeat(300);
    let cached = async |part: u32| {
        let mut body = ask(&format!("{persona}\n\nPart {part}"));
        body["model"] = "gpt-4.1".into();
        let seen = served.ask(&body).await.json();
        seen["usage"]["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached(1).await, 0);
    let shared = cached(2).await;
    assert!(shared >= 1024 && shared % 128 == 0);
    assert_eq!(served.stop().await.tokens.cached_input, shared);
}

#[tokio::test]
async fn only_this_machine_is_served() {
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = serve(options(), everywhere, std::future::ready(()))
        .await
        .unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
}

#[test]
fn shares_have_to_make_sense() {
    let check = |faults| faulty(faults).check().map_err(|error| error.to_string());
    assert_eq!(
        check(SimulatorFaults {
            timeout: 0.5,
            empty: 0.5,
            ..NONE
        }),
        Ok(())
    );
    let error = check(SimulatorFaults { timeout: 1.5, ..NONE }).unwrap_err();
    assert_snapshot!(error, @"`1.5` is no share: expected 0 to 1");
    let error = check(SimulatorFaults {
        timeout: f64::NAN,
        ..NONE
    })
    .unwrap_err();
    assert_snapshot!(error, @"`NaN` is no share: expected 0 to 1");
    let error = check(SimulatorFaults {
        timeout: 0.75,
        empty: 0.5,
        ..NONE
    })
    .unwrap_err();
    assert_snapshot!(error, @"the shares of all faults add up to 1.25: expected at most 1");
}

/// One request without a socket.
async fn direct(service: &Arc<Service>, body: &Value) -> u16 {
    let body = Body::from(body.to_string());
    service
        .complete(Peer::default(), &HeaderMap::new(), body)
        .await
        .status()
        .as_u16()
}

#[tokio::test(start_paused = true)]
async fn greedy_clients_get_the_limit_and_its_burst_in_any_minute() {
    let (_stop, stopped) = watch::channel(false);
    let options = Options {
        requests_per_minute: Some(90),
        burst: Duration::from_secs(2),
        ..options()
    };
    let service = Service::new(options, stopped);
    let begun = Instant::now();
    let mut random = fastrand::Rng::with_seed(1);
    while begun.elapsed() < Duration::from_secs(300) {
        tokio::time::advance(Duration::from_millis(random.u64(..900))).await;
        for _ in 0..random.u32(..5) {
            direct(&service, &ask("x")).await;
        }
    }
    let counters = service.counters();
    assert!(counters.most_started.in_60_s > 200, "greedy enough");
    assert!(
        (90..=93).contains(&counters.most_admitted.in_60_s),
        "{:?}",
        counters.most_admitted
    );
    assert!(counters.most_admitted.in_1_s <= 4);
    assert_eq!(
        counters.statuses[&200] + counters.statuses[&429],
        counters.requests
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_takes_the_time_that_it_takes_in_process_and_meets_an_outage_on_the_way() {
    let (_stop, stopped) = watch::channel(false);
    let mut options = options();
    (options.model.latency, options.model.jitter) = (Duration::from_secs(20), 0.5);
    let local = Simulator::new(options.model.clone(), Duration::from_secs(60));
    let service = Service::new(options, stopped);
    let begun = Instant::now();
    local.call(&request("x"), 1).await.unwrap();
    let expected = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(direct(&service, &ask("x")).await, 200);
    assert_eq!(begun.elapsed(), expected);

    let order = |seconds| OutageOrder {
        seconds,
        mode: service::OutageMode::Error,
    };
    let body = ask("y");
    let (status, ()) = tokio::join!(direct(&service, &body), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        service.order_outage(&order(100.0));
    });
    assert_eq!(status, 503, "began while it was waiting");
    tokio::time::advance(Duration::from_secs(100)).await;
    assert_eq!(direct(&service, &ask("y")).await, 200, "over by itself");
}

#[tokio::test(start_paused = true)]
async fn an_outage_without_an_answer_ends_in_a_reset_when_it_ends() {
    let (_stop, stopped) = watch::channel(false);
    let service = Service::new(options(), stopped);
    let order = |seconds| OutageOrder {
        seconds,
        mode: service::OutageMode::Hang,
    };
    let (body, begun) = (ask("x"), Instant::now());
    service.order_outage(&order(100.0));
    direct(&service, &body).await;
    assert!(begun.elapsed() >= Duration::from_secs(100), "by itself");

    let begun = Instant::now();
    service.order_outage(&order(100.0));
    tokio::join!(direct(&service, &body), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        service.order_outage(&order(0.0));
    });
    assert!(begun.elapsed() < Duration::from_secs(2), "on demand");

    let given_up = tokio::time::timeout(Duration::from_secs(1), async {
        service.order_outage(&order(100.0));
        direct(&service, &body).await;
    });
    assert!(given_up.await.is_err());
    let counters = service.counters();
    assert_eq!(counters.outcomes, [(Outcome::Outage, 3)].into());
    assert_eq!((counters.statuses.len(), counters.bodies.distinct), (0, 0));
}
