//! The built-in model in this process: what it says, how long it takes, what goes wrong, what it
//! caches.

use std::collections::HashMap;

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::call::prompt_cache::SHORT_LIFETIME;
use crate::call::{Delivery, Message, Rejection, Scope};
use crate::config::SimulatorFaults;

const PERSONA: &str = "\
# Ada Whitfield

age: 41
occupation: baker
city: Leeds

Ada keeps the books of a small bakery that her mother founded. She has not taken a holiday in four
years. Her brother wants to sell.

- likes: long walks
- Worries about the lease, which ends in spring.";

const TITLES: [&str; 7] = [
    "Arriving",
    "The bakery",
    "Money",
    "Family",
    "What if",
    "A plan",
    "Leaving",
];

fn settings() -> config::Simulator {
    config::Simulator {
        latency: Duration::from_millis(500),
        jitter: 0.5,
        reply_tokens: 250,
        seed: 1,
        faults: SimulatorFaults::default(),
    }
}

fn simulator() -> Simulator {
    Simulator::new(settings(), Duration::from_secs(600))
}

fn faulty(faults: SimulatorFaults) -> Simulator {
    Simulator::new(
        config::Simulator { faults, ..settings() },
        Duration::from_secs(600),
    )
}

fn request(persona: &str, prompt: &str) -> Request {
    let message = |role, content: String| Message { role, content };
    Request {
        provider: PROVIDER.into(),
        model: "gpt-6-luna".into(),
        messages: vec![
            message(Role::System, "You write conversations.".to_owned()),
            message(Role::User, format!("{persona}\n\n{prompt}")),
        ],
        parameters: Arc::default(),
        variant: None,
        delivery: Delivery::default(),
    }
}

fn chunk(part: usize) -> Request {
    let title = TITLES[part - 1];
    request(
        PERSONA,
        &format!("Write part {part} of 7, “{title}”.\n\nThey take stock of it, kindly. No more."),
    )
}

fn combine(simulator: &Simulator) -> Request {
    let mut prompt = "Join these parts into one conversation.".to_owned();
    for part in 1..=7 {
        prompt += &format!(
            "\n\n<part id=\"chunk-{part}\">\n{}\n</part>",
            text(simulator, &chunk(part))
        );
    }
    request(PERSONA, &prompt)
}

fn text(simulator: &Simulator, request: &Request) -> String {
    simulator.begin(request, 1).answer.text
}

fn with(name: &str, value: impl Into<Value>) -> Request {
    let mut request = chunk(1);
    Arc::make_mut(&mut request.parameters).insert(name.to_owned(), value.into());
    request
}

#[test]
fn a_chunk_reads_like_a_conversation_with_the_persona_on_the_part() {
    let answer = simulator().begin(&chunk(3), 1).answer;
    assert_snapshot!(answer.text, @r#"
    ## Part 3: Money

    **Adviser:** If you are ready, Ada, I would open “Money”. So that we do not lose the thread, the task reads: “They take stock of it, kindly”. Can you give me an example from last week?

    **Ada:** I would have to think about that, and the last time I sat down to think was while I was waiting for the bus. I thought I would be more nervous. I have never said that aloud before.

    **Adviser:** You filled in “baker” for occupation without hesitating, I think. Am I right?

    **Ada:** You read that better than I wrote it. You may write that down. Somewhere in it there is a decision.

    **Adviser:** You need not have an answer to everything. Is there a date by which it has to be settled?

    **Ada:** I counted once: three good reasons and one real one.

    **Adviser:** Then that is settled as far as it can be today.
    "#);
    assert_eq!(answer.judge(), Ok(()));
}

#[test]
fn a_combine_quotes_its_parts_in_their_order() {
    let simulator = simulator();
    let joined = text(&simulator, &combine(&simulator));
    assert_snapshot!(joined, @r#"
    # Ada Whitfield: a first conversation

    *Seven parts, joined.*

    ## Part 1: Arriving

    **Adviser:** If you are ready, Ada, I would open “Arriving”.

    ## Part 2: The bakery

    **Ada:** It is not a secret; it only never came up.

    ## Part 3: Money

    **Adviser:** Can you give me an example from last week?

    ## Part 4: Family

    **Ada:** People expect me to mention the quiet first, so I usually do. For once I do not want to hurry. That is the part I would like help with.

    ## Part 5: What if

    **Adviser:** What did you hope I would ask?

    ## Part 6: A plan

    **Ada:** Small things, mainly: a door left open, a letter answered on the same day.

    ## Part 7: Leaving

    **Adviser:** If we could settle only one question today, which would you pick?

    **Ada:** Agreed. I feel a little lighter.
    "#);
    let parts: Vec<String> = (1..=7).map(|part| text(&simulator, &chunk(part))).collect();
    let mut at = 0;
    for line in joined.lines().filter(|line| line.starts_with("**")) {
        let (_, said) = line.split_once(":** ").unwrap();
        for sentence in lines::sentences(said) {
            let from = parts[at..].iter().position(|part| part.contains(sentence));
            at += from.expect("quoted, and from no earlier part");
        }
    }
    assert_eq!(at, 6);
}

#[test]
fn the_text_depends_on_what_is_in_the_key_and_on_nothing_else() {
    let base = text(&simulator(), &chunk(1));
    let mut other = [(); 8].map(|()| chunk(1));
    other[0].messages[0].content.push('!');
    other[1].messages[1].content.push('!');
    other[2].model = "gpt-6-sol".into();
    other[3].variant = Some("b".into());
    other[4] = with("temperature", 0.5);
    other[5] = with("seed", 2);
    other[6] = with("reply_tokens", 251);
    other[7].messages.remove(0);
    for (i, request) in other.iter().enumerate() {
        assert_ne!(text(&simulator(), request), base, "change {i}");
    }

    let mut same = [(); 4].map(|()| chunk(1));
    same[0].provider = "localhost:8080/v1".into();
    same[1].delivery.max_output_tokens = Some(5000);
    same[2].delivery.service_tier = Some("flex".into());
    same[3] = with("prompt_cache_key", "ada");
    for (i, request) in same.iter().enumerate() {
        assert_eq!(text(&simulator(), request), base, "change {i}");
    }
    assert_eq!(
        simulator().begin(&chunk(1), 2).answer.text,
        base,
        "a later attempt"
    );
}

#[test]
fn the_settings_stand_in_for_parameters_that_lack() {
    let mut explicit = with("seed", 7);
    Arc::make_mut(&mut explicit.parameters).insert(REPLY_TOKENS.to_owned(), json!(400.0));
    let settings = config::Simulator {
        seed: 7,
        reply_tokens: 400,
        ..settings()
    };
    let configured = Simulator::new(settings, Duration::from_secs(600));
    assert_eq!(text(&configured, &chunk(1)), text(&simulator(), &explicit));
}

#[test]
fn the_output_limit_cuts_the_text_off_and_changes_nothing_else() {
    let whole = simulator().begin(&chunk(1), 1).answer;
    let limits = [
        (1, Some(Rejection::Truncated)),
        (100, Some(Rejection::Truncated)),
        (whole.usage.output - 1, Some(Rejection::Truncated)),
        (whole.usage.output, None),
        (u64::MAX, None),
    ];
    for (limit, rejection) in limits {
        let mut request = chunk(1);
        request.delivery.max_output_tokens = Some(limit);
        let answer = simulator().begin(&request, 1).answer;
        assert_eq!(answer.judge().err(), rejection, "{limit}");
        assert_eq!(answer.usage.output, limit.min(whole.usage.output));
        assert!(whole.text.starts_with(&answer.text));
        assert_eq!(
            answer.text.chars().count().div_ceil(4) as u64,
            answer.usage.output
        );
    }
}

/// The reply to a request for so many tokens, and whether its length
/// is within 30 %; a token more or less is the rounding.
fn reply_of(mut request: Request, tokens: u64, seed: u64) -> (Answer, bool) {
    let parameters = Arc::make_mut(&mut request.parameters);
    parameters.insert(REPLY_TOKENS.to_owned(), tokens.into());
    parameters.insert(SEED.to_owned(), seed.into());
    let answer = simulator().begin(&request, 1).answer;
    let share = answer.usage.output as f64 / tokens as f64;
    let slack = 1.0 / tokens as f64;
    (answer, (0.7 - slack..=1.3 + slack).contains(&share))
}

/// Where a heading had just begun, the cut took it back, and the reply was a third too short.
#[test]
fn a_cut_behind_a_heading_is_near_its_length_too() {
    for (tokens, seed) in [(91, 116), (91, 6088241642941028705), (95, 108), (95, 139)] {
        let (answer, near) = reply_of(combine(&simulator()), tokens, seed);
        assert!(near, "{tokens} → {}: {}", answer.usage.output, answer.text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A reply is as long as was asked for, within 30 %, whatever it is about.
    #[test]
    fn the_length_follows_reply_tokens(tokens in 30u64..1500, seed: u64, persona in "[ -~äß“”\n]{0,400}", joins: bool) {
        let request = if joins { combine(&simulator()) } else { request(&persona, "Part 2: Money. They count.") };
        let (answer, near) = reply_of(request, tokens, seed);
        prop_assert!(near, "{tokens} → {}: {}", answer.usage.output, answer.text);
        prop_assert_eq!(answer.judge(), Ok(()));
    }

    /// No prompt is too odd to be answered.
    #[test]
    fn any_prompt_gets_a_text(prompt in "\\PC{0,200}", lines in prop::collection::vec("[-#*:“”.a-zA ]{0,30}", 0..20), tokens in 0u64..300) {
        let mut request = request(&lines.join("\n"), &prompt);
        Arc::make_mut(&mut request.parameters).insert(REPLY_TOKENS.to_owned(), tokens.into());
        prop_assert!(!text(&simulator(), &request).trim().is_empty());
    }
}

/// Draws for as many requests as it takes to see shares.
fn draws(simulator: &Simulator, count: usize) -> HashMap<Option<Trouble>, usize> {
    let mut seen = HashMap::new();
    for i in 0..count {
        let mut request = request("", &format!("request {}", i / 2));
        Arc::make_mut(&mut request.parameters).insert(REPLY_TOKENS.to_owned(), 1.into());
        let call = simulator.begin(&request, 1 + (i % 2) as u32);
        *seen.entry(call.trouble).or_default() += 1;
    }
    seen
}

#[test]
fn faults_come_as_often_as_they_are_asked_for() {
    let faults = SimulatorFaults {
        rate_limited: 0.08,
        server_error: 0.06,
        connection: 0.04,
        timeout: 0.02,
        truncated: 0.10,
        filtered: 0.03,
        empty: 0.05,
        malformed: 0.07,
    };
    let count = 6000;
    let seen = draws(&faulty(faults), count);
    for (share, trouble) in shares(&faults) {
        let expected = share * count as f64;
        // Four standard deviations: with a fixed seed it holds always or never.
        let bound = 4.0 * (expected * (1.0 - share)).sqrt();
        let found = seen[&Some(trouble)] as f64;
        assert!(
            (found - expected).abs() < bound,
            "{trouble:?}: {found} of {count}, expected {expected} ± {bound}"
        );
    }
    assert_eq!(
        draws(&simulator(), 500),
        HashMap::from([(None, 500)]),
        "no shares, no faults"
    );
    let always = faulty(SimulatorFaults {
        empty: 1.0,
        ..Default::default()
    });
    assert_eq!(draws(&always, 500), HashMap::from([(Some(Trouble::Empty), 500)]));
}

#[test]
fn the_next_attempt_has_a_chance_of_its_own() {
    let half = faulty(SimulatorFaults {
        server_error: 0.5,
        ..Default::default()
    });
    let troubles = |attempt| {
        (0..64)
            .map(|i| half.begin(&request("", &format!("{i}")), attempt).trouble)
            .collect::<Vec<_>>()
    };
    assert_eq!(troubles(1), troubles(1));
    let both = troubles(1)
        .iter()
        .zip(troubles(2))
        .filter(|(first, second)| first.is_some() && second.is_some())
        .count();
    assert!(
        (6..28).contains(&both),
        "{both} of 64 failed twice, expected a quarter"
    );
}

#[tokio::test(start_paused = true)]
async fn time_passes_around_the_mean_and_the_same_at_each_replay() {
    let mut sum = Duration::ZERO;
    for i in 0..200 {
        let request = request("", &format!("{i}"));
        let begun = Instant::now();
        simulator().call(&request, 1).await.unwrap();
        let passed = begun.elapsed();
        assert!(
            (Duration::from_millis(250)..=Duration::from_millis(751)).contains(&passed),
            "{passed:?}"
        );
        let begun = Instant::now();
        simulator().call(&request, 1).await.unwrap();
        assert_eq!(begun.elapsed(), passed);
        sum += passed;
    }
    let mean = sum / 200;
    assert!(
        (Duration::from_millis(470)..Duration::from_millis(530)).contains(&mean),
        "{mean:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_what_a_client_of_a_server_would_make_of_it() {
    let call = |faults| async move { faulty(faults).call(&chunk(1), 1).await };
    let none = SimulatorFaults::default();

    let fault = call(SimulatorFaults {
        rate_limited: 1.0,
        ..none
    })
    .await
    .unwrap_err();
    assert_eq!(
        (fault.kind, fault.http_status),
        (FaultKind::RateLimited, Some(429))
    );
    assert_eq!(fault.retry_after, Some(Duration::from_secs(1)));
    assert_snapshot!(fault, @"Rate limit reached for gpt-6-luna. Please try again in 1s. (injected by the simulator) (HTTP 429)");

    let fault = call(SimulatorFaults {
        server_error: 1.0,
        ..none
    })
    .await
    .unwrap_err();
    assert_eq!(
        (fault.kind, fault.http_status, fault.scope),
        (FaultKind::ServerError, Some(500), Scope::Attempt)
    );
    assert_snapshot!(fault, @"The server had an error while processing your request. Sorry about that! (injected by the simulator) (HTTP 500)");

    let fault = call(SimulatorFaults {
        connection: 1.0,
        ..none
    })
    .await
    .unwrap_err();
    assert_eq!((fault.kind, fault.http_status), (FaultKind::Connection, None));
    assert_snapshot!(fault, @"connection reset before the answer was whole");

    let fault = call(SimulatorFaults {
        malformed: 1.0,
        ..none
    })
    .await
    .unwrap_err();
    assert_eq!(
        (fault.kind, fault.http_status),
        (FaultKind::BadResponse, Some(200))
    );

    let begun = Instant::now();
    let fault = call(SimulatorFaults { timeout: 1.0, ..none }).await.unwrap_err();
    assert_eq!((fault.kind, fault.http_status), (FaultKind::Timeout, None));
    assert_eq!(begun.elapsed(), Duration::from_secs(600));
    assert_snapshot!(fault, @"no answer within 600s");

    let whole = simulator().call(&chunk(1), 1).await.unwrap();
    let answer = call(SimulatorFaults {
        truncated: 1.0,
        ..none
    })
    .await
    .unwrap();
    assert_eq!(answer.judge(), Err(Rejection::Truncated));
    assert!(whole.text.starts_with(&answer.text));
    assert_eq!(answer.text.chars().count(), whole.text.chars().count() / 2);

    let answer = call(SimulatorFaults {
        filtered: 1.0,
        ..none
    })
    .await
    .unwrap();
    assert_eq!(answer.judge(), Err(Rejection::Filtered));
    assert_eq!(answer.usage.output, whole.usage.output, "billed");

    let answer = call(SimulatorFaults { empty: 1.0, ..none }).await.unwrap();
    assert_eq!(answer.judge(), Err(Rejection::Empty));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_takes_longer_than_the_timeout_is_one() {
    let slow = Simulator::new(settings(), Duration::from_millis(10));
    let fault = slow.call(&chunk(1), 1).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout);
}

#[test]
fn tokens_are_a_quarter_of_the_characters_and_told_as_openai_tells_them() {
    let request = chunk(1);
    let answer = simulator().begin(&request, 1).answer;
    assert_eq!(answer.usage.input, request.estimated_input_tokens());
    assert_snapshot!(answer.raw_usage, @r#"{"completion_tokens":202,"completion_tokens_details":{"reasoning_tokens":0},"prompt_tokens":89,"prompt_tokens_details":{"cache_write_tokens":0,"cached_tokens":0},"total_tokens":291}"#);
    assert_eq!(answer.model, "gpt-6-luna");
    assert_eq!(answer.service_tier, None);
}

/// Seven requests that share more than 1,024 tokens.
fn twins() -> Vec<Request> {
    let persona = format!("{PERSONA}\n\n{}", "She likes it that way. ".repeat(300));
    (1..=7)
        .map(|part| Request {
            model: "gpt-4.1".into(),
            ..request(&persona, &format!("Part {part}"))
        })
        .collect()
}

fn cached(result: Result<Answer, Fault>) -> u64 {
    result.unwrap().usage.cached_input.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_prompt_is_cached_once_an_answer_has_begun() {
    let twins = twins();
    let model = simulator();
    let (first, second) = tokio::join!(model.call(&twins[0], 1), model.call(&twins[1], 1));
    assert_eq!((cached(first), cached(second)), (0, 0), "at once: nobody profits");
    let shared = cached(model.call(&twins[2], 1).await);
    assert_eq!(shared, (twins[0].estimated_input_tokens() / 128) * 128);

    let model = simulator();
    let begun = tokio::time::timeout(Duration::from_millis(1), model.call(&twins[0], 1)).await;
    assert!(begun.is_err(), "given up before the answer");
    assert_eq!(cached(model.call(&twins[1], 1).await), 0);

    tokio::time::advance(SHORT_LIFETIME - Duration::from_secs(1)).await;
    assert_eq!(cached(model.call(&twins[2], 1).await), shared);
    tokio::time::advance(SHORT_LIFETIME).await;
    assert_eq!(cached(model.call(&twins[3], 1).await), 0);
}

#[tokio::test(start_paused = true)]
async fn the_lifetime_of_the_cache_can_be_set_and_faults_cache_only_what_had_begun() {
    let twins = twins();
    let model = simulator().with_cache_lifetime(Some(Duration::from_secs(2)));
    model.call(&twins[0], 1).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(cached(model.call(&twins[1], 1).await) > 0);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(cached(model.call(&twins[2], 1).await), 0);

    let none = SimulatorFaults::default();
    let cases = [
        (
            SimulatorFaults {
                rate_limited: 1.0,
                ..none
            },
            false,
        ),
        (
            SimulatorFaults {
                server_error: 1.0,
                ..none
            },
            false,
        ),
        (SimulatorFaults { timeout: 1.0, ..none }, false),
        (
            SimulatorFaults {
                connection: 1.0,
                ..none
            },
            true,
        ),
        (
            SimulatorFaults {
                malformed: 1.0,
                ..none
            },
            true,
        ),
    ];
    for (faults, caches) in cases {
        let model = faulty(faults);
        model.call(&twins[0], 1).await.unwrap_err();
        assert_eq!(
            model.begin(&twins[1], 1).answer.usage.cached_input > Some(0),
            caches,
            "{faults:?}"
        );
    }
}
