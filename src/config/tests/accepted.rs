//! What right pipelines become.

use super::*;
use crate::call::Price;

#[test]
fn the_shipped_pipeline() {
    let config = right(SHIPPED);
    let ids: Vec<&str> = config.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "chunk-1", "chunk-2", "chunk-3", "chunk-4", "chunk-5", "chunk-6", "chunk-7", "combine"
        ]
    );
    let combine = &config.nodes[7];
    assert_eq!(combine.needs.len(), 7);
    assert!(config.nodes[..7].iter().all(|node| node.needs.is_empty()));
    assert_eq!(config.result, combine.id);
    assert_eq!(config.nodes[2].vars["part"], json!(3));
    assert_eq!(config.nodes[2].context.as_deref(), Some("prompts/persona.md"));
    assert_eq!(combine.model.max_output_tokens, Some(16_000));
    assert_eq!(config.nodes[0].model.max_output_tokens, Some(4_000));
    assert_eq!(
        config.limits,
        Limits {
            concurrency: Some(64),
            ..Limits::default()
        }
    );
    assert_eq!(SHIPPED.lines().nth(config.nodes[0].line - 1), Some("[[node]]"));
}

/// Every commented-out line is right too: people take the `#` away and run it.
#[test]
fn the_comments_of_the_shipped_pipeline() {
    let uncommented: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code)
                if code.starts_with('[')
                    || code
                        .split_once(" = ")
                        .is_some_and(|(key, _)| !key.trim().contains(' ')) =>
            {
                code
            }
            _ => line,
        })
        .map(|line| line.replace("\"simulator\"               #", "\"openai\" #") + "\n")
        .collect();
    let config = right(&uncommented);
    assert_eq!(&*config.provider.name, "openai");
    assert!(matches!(config.provider.kind, ProviderKind::OpenAi { .. }));
    assert_eq!(config.limits.requests_per_minute, Some(500));
    assert!(config.limits.hours.is_some());
    assert_eq!(config.limits.budget_usd, Some(crate::call::Money::from_usd(25.0)));
    let parameters = &config.nodes[0].model.parameters;
    assert_eq!(
        **parameters,
        [
            ("reasoning_effort".to_owned(), json!("low")),
            ("temperature".to_owned(), json!(0.8)),
            ("top_p".to_owned(), json!(0.9))
        ]
        .into()
    );
    assert_eq!(config.nodes[0].model.service_tier.as_deref(), Some("flex"));
}

#[test]
fn defaults() {
    let config = right("[[node]]\nid = \"a\"\nprompt = \"p.md\"\n");
    assert_eq!(config.personas, "personas");
    assert_eq!(config.output, "transcripts/{persona}.md");
    assert_eq!(config.transcript(&"ann".into()), "transcripts/ann.md");
    assert_eq!(config.limits, Limits::default());
    assert_eq!(
        config.retry,
        Retry {
            attempts: 6,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            rejected: 2
        }
    );
    assert_eq!(&*config.provider.name, "simulator");
    assert_eq!(config.provider.timeout, Duration::from_secs(600));
    assert_eq!(config.provider.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.provider.idle_timeout, Duration::from_secs(60));
    let node = &config.nodes[0];
    assert_eq!((&node.system, &node.context, node.line), (&None, &None, 1));
    assert_eq!(config.node(&node.id), Some(0));
}

#[test]
fn only_what_changes_the_simulators_text_is_a_parameter() {
    let text = "[simulator]\nseed = 7\nlatency = \"0s\"\nfaults = { timeout = 0.5 }\n";
    let simulated = right_with_node(text);
    let parameters = &simulated.nodes[0].model.parameters;
    assert_eq!(
        **parameters,
        [
            ("reply_tokens".to_owned(), json!(400)),
            ("seed".to_owned(), json!(7))
        ]
        .into()
    );
    let served = right_with_node(&format!("{text}[provider]\nkind = \"openai\""));
    assert!(served.nodes[0].model.parameters.is_empty());
}

#[test]
fn names_of_providers() {
    for (url, name, cap) in [
        (
            "https://api.openai.com/v1",
            "api.openai.com/v1",
            "max_completion_tokens",
        ),
        (
            "https://api.openai.com/v1/",
            "api.openai.com/v1",
            "max_completion_tokens",
        ),
        (
            "https://EU.API.OpenAI.com:443/v1",
            "eu.api.openai.com/v1",
            "max_completion_tokens",
        ),
        (
            "https://x.openai.azure.com/openai/v1",
            "x.openai.azure.com/openai/v1",
            "max_completion_tokens",
        ),
        ("https://notopenai.com/v1", "notopenai.com/v1", "max_tokens"),
        ("http://localhost:8000/v1", "localhost:8000/v1", "max_tokens"),
        ("http://[::1]:80", "[::1]", "max_tokens"),
        (
            "https://openrouter.ai/api/v1",
            "openrouter.ai/api/v1",
            "max_tokens",
        ),
    ] {
        let config = right_with_node(&format!("[provider]\nkind = \"openai\"\nbase_url = {url:?}"));
        assert_eq!(&*config.provider.name, name);
        let ProviderKind::OpenAi {
            output_cap_field,
            base_url,
            api_key_env,
            ..
        } = config.provider.kind
        else {
            panic!("{url}")
        };
        assert_eq!(output_cap_field, cap, "{url}");
        let openai = name.starts_with("api.openai.com") || name.starts_with("eu.api.openai.com");
        let key = openai.then_some("OPENAI_API_KEY");
        assert_eq!(
            api_key_env.as_deref(),
            key,
            "OpenAI's key goes nowhere else: {url}"
        );
        // An empty path is `/` in every http URL; no other one ends so.
        assert!(
            base_url.path() == "/" || !base_url.path().ends_with('/'),
            "{base_url}"
        );
    }
}

#[test]
fn what_a_provider_may_say_otherwise() {
    let config = right_with_node(
        "[provider]\nkind = \"openai\"\nname = \"mine\"\napi_key_env = \"\"\noutput_cap_field = \"max_tokens\"",
    );
    assert_eq!(&*config.provider.name, "mine");
    let ProviderKind::OpenAi {
        output_cap_field,
        base_url,
        api_key_env,
        ..
    } = config.provider.kind
    else {
        panic!()
    };
    assert_eq!(
        (output_cap_field.as_str(), base_url.as_str(), api_key_env),
        ("max_tokens", "https://api.openai.com/v1", None)
    );
}

#[test]
fn durations_as_people_write_them() {
    for (text, milliseconds) in [
        ("500ms", 500),
        ("1s", 1_000),
        ("10m", 600_000),
        ("1h 30m", 5_400_000),
        ("1.5s", 1_500),
        ("24h", 86_400_000),
    ] {
        let config = right_with_node(&format!("[provider]\ntimeout = {text:?}"));
        assert_eq!(
            config.provider.timeout,
            Duration::from_millis(milliseconds),
            "{text}"
        );
    }
}

#[test]
fn nodes_override_defaults() {
    let config = right(
        r#"
        [model]
        name = "big"
        temperature = 1
        reasoning_effort = "high"
        max_output_tokens = 1_000
        [model.extra]
        top_p = 0.5
        stop = ["x"]
        [prompts]
        system = "s.md"
        context = "c.md"
        [[node]]
        id = "plain"
        prompt = "p.md"
        [[node]]
        id = "own"
        needs = ["plain", "pl*", "plain"]
        prompt = "q.md"
        system = ""
        context = "d.md"
        variant = "b"
        vars = { day = 2026-11-23, list = [1, 2.5, true], deep = { a = "x" } }
        [node.model]
        name = "small"
        temperature = 0.25
        reasoning_effort = ""
        service_tier = "flex"
        extra = { top_p = 0.9 }
        "#,
    );
    let [plain, own] = &config.nodes[..] else { panic!() };
    assert_eq!(
        (plain.system.as_deref(), plain.context.as_deref()),
        (Some("s.md"), Some("c.md"))
    );
    assert_eq!(
        (own.system.as_deref(), own.context.as_deref()),
        (None, Some("d.md"))
    );
    assert_eq!(own.needs, [NodeId::from("plain")]);
    assert_eq!((&plain.variant, own.variant.as_deref()), (&None, Some("b")));
    assert_eq!(
        own.vars,
        [
            ("day".to_owned(), json!("2026-11-23")),
            ("deep".to_owned(), json!({"a": "x"})),
            ("list".to_owned(), json!([1, 2.5, true]))
        ]
        .into()
    );
    assert_eq!((&*plain.model.name, &*own.model.name), ("big", "small"));
    assert_eq!(own.model.max_output_tokens, Some(1_000));
    assert_eq!(own.model.service_tier.as_deref(), Some("flex"));
    let parameters = |node: &Node| serde_json::to_value(&*node.model.parameters).unwrap();
    assert_eq!(
        parameters(plain),
        json!({"reasoning_effort": "high", "reply_tokens": 400, "seed": 0, "stop": ["x"], "temperature": 1.0, "top_p": 0.5})
    );
    assert_eq!(
        parameters(own),
        json!({"reply_tokens": 400, "seed": 0, "stop": ["x"], "temperature": 0.25, "top_p": 0.9})
    );
}

#[test]
fn needs_keep_the_order_of_the_file_and_leave_the_node_itself_out() {
    let config = right(
        "[[node]]\nid = \"all\"\nneeds = [\"*\"]\nprompt = \"p\"\n[[node]]\nid = \"b\"\nprompt = \"p\"\n[[node]]\nid = \"a\"\nneeds = [\"b\"]\nprompt = \"p\"",
    );
    assert_eq!(config.nodes[0].needs, [NodeId::from("b"), NodeId::from("a")]);
    assert_eq!(config.result.as_str(), "all");
}

#[test]
fn a_long_chain_and_a_wide_fan() {
    let chain: String = (0..3_000)
        .map(|i| {
            let needs = if i == 0 {
                String::new()
            } else {
                format!("needs = [\"n{}\"]\n", i - 1)
            };
            format!("[[node]]\nid = \"n{i}\"\nprompt = \"p\"\n{needs}")
        })
        .collect();
    assert_eq!(right(&chain).result.as_str(), "n2999");
}

#[test]
fn windows_endings_and_a_byte_order_mark() {
    let text = format!("\u{feff}{}", SHIPPED.replace('\n', "\r\n"));
    assert_eq!(right(&text).nodes, right(SHIPPED).nodes);
}

/// Both tables may stand side by side: turning a rehearsal into a run is one word.
#[test]
fn the_simulators_table_may_stay() {
    right_with_node("[provider]\nkind = \"openai\"\n[simulator]\nlatency = \"1s\"");
}

#[test]
fn prices() {
    let config =
        right_with_node("[prices.\"m 1\"]\ninput = 1\noutput = 2.5\n[prices.free]\ninput = 0\noutput = 0");
    assert_eq!(
        config.prices["m 1"],
        Price::per_million(1.0, None, None, 2.5).into()
    );
    assert_eq!(config.prices.len(), 2);
}

/// The rates of DeepSeek's V4 Pro as of 2026-11, and what else can be said of hours.
#[test]
fn prices_by_the_hour() {
    let price = |hours: &str, at: &str| {
        let text = format!("[prices.m]\ninput = 2\ncached_input = 0.5\noutput = 8\n{hours}");
        let tariff = &right_with_node(&text).prices["m"];
        let rate = tariff.at(at.parse().unwrap());
        (rate.price, rate.hours.as_deref().map(str::to_owned))
    };
    let all = |input, cached, written, output| Price::per_million(input, Some(cached), Some(written), output);
    let usual = all(2.0, 0.5, 2.0, 8.0);
    // 2026-11-27 is a Friday.
    let peak = "[[prices.m.when]]\nhours = [\"01:00-04:00\", \"06:00-10:00\"]\ndays = \"mon-fri\"\ninput = 4\noutput = 16";
    let name = "mon-fri 01:00-04:00, 06:00-10:00 UTC".to_owned();
    let dear = (all(4.0, 0.5, 4.0, 16.0), Some(name));
    let rows = [
        (peak, "2026-11-27T03:59:59Z", dear.clone()),
        (peak, "2026-11-27T06:00:00Z", dear),
        (peak, "2026-11-27T04:00:00Z", (usual, None)),
        (peak, "2026-11-28T03:00:00Z", (usual, None)),
        (
            "zone = \"europe/berlin\"\nwhen = [{ hours = \"23:00-07:00\", cached_input = 0 }]",
            "2026-11-27T05:59:59Z",
            (
                all(2.0, 0.0, 2.0, 8.0),
                Some("23:00-07:00 Europe/Berlin".to_owned()),
            ),
        ),
        (
            "when = [{ days = [\"sat\", \"sun\"], output = 1 }, { days = \"fri\", output = 3 }]",
            "2026-11-29T12:00:00Z",
            (all(2.0, 0.5, 2.0, 1.0), Some("sat-sun UTC".to_owned())),
        ),
        ("when = []", "2026-11-29T12:00:00Z", (usual, None)),
    ];
    for (hours, at, expected) in rows {
        assert_eq!(price(hours, at), expected, "{hours} at {at}");
    }
}

/// A hint goes to those who are known to take it, unless the pipeline says otherwise.
#[test]
fn hints_for_prompt_caches() {
    use CacheHint::{Breakpoints, Key, Nothing};
    const OPENAI: &str = "kind = \"openai\"";
    const OTHER: &str = "kind = \"openai\"\nbase_url = \"http://localhost:11434/v1\"";
    const FAKE: &str = "kind = \"openai\"\nbase_url = \"https://notopenai.com/v1\"";
    const AZURE: &str = "kind = \"openai\"\nbase_url = \"https://me.openai.azure.com/openai/v1\"";
    let rows = [
        (OPENAI, "gpt-6-luna", "", Breakpoints),
        (OPENAI, "gpt-5.6-sol", "", Breakpoints),
        (OPENAI, "gpt-5.5", "", Key),
        (OPENAI, "gpt-4o", "", Key),
        (OPENAI, "o3", "", Key),
        (OTHER, "gpt-6-luna", "", Nothing),
        (FAKE, "gpt-6-luna", "", Nothing),
        (AZURE, "gpt-6-luna", "", Nothing),
        ("", "gpt-6-luna", "", Breakpoints),
        ("", "gpt-4o", "", Nothing),
        ("", "simulator", "", Nothing),
        (OPENAI, "gpt-6-luna", "auto", Breakpoints),
        (OPENAI, "gpt-6-luna", "key", Key),
        (OPENAI, "gpt-6-luna", "off", Nothing),
        (OPENAI, "gpt-4o", "off", Nothing),
        (OTHER, "m", "explicit", Breakpoints),
        (OTHER, "m", "key", Key),
        ("", "m", "explicit", Breakpoints),
    ];
    for (provider, model, setting, hint) in rows {
        let setting = match setting {
            "" => String::new(),
            word => format!("prompt_cache = {word:?}"),
        };
        let text = format!(
            "[provider]\n{provider}\n{setting}\n[model]\nname = {model:?}\n[[node]]\nid = \"a\"\nprompt = \"p.md\"\n"
        );
        assert_eq!(right(&text).nodes[0].model.cache, hint, "{text}");
    }
    let own = "[provider]\nkind = \"openai\"\n[model]\nname = \"gpt-6-luna\"\n[[node]]\nid = \"a\"\nprompt = \"p.md\"\n";
    let own = right(&format!("{own}model.extra.prompt_cache_key = \"mine\"\n"));
    assert_eq!(own.nodes[0].model.cache, Nothing, "said in `extra`");
}

#[test]
fn the_order_of_calls_that_share_a_prefix() {
    let order = |text: &str| right_with_node(text).schedule.prefix;
    assert_eq!(order(""), PrefixOrder::Auto);
    assert_eq!(order("[schedule]"), PrefixOrder::Auto);
    assert_eq!(order("[schedule]\nprefix = \"share\""), PrefixOrder::Share);
    assert_eq!(order("[schedule]\nprefix = \"eager\""), PrefixOrder::Eager);
}

#[test]
fn budgets() {
    let limits =
        right_with_node("[limits]\nbudget_usd = 25\nbudget_usd_month = 99.5\nbudget_usd_total = 0").limits;
    let usd = |usd: f64| Some(crate::call::Money::from_usd(usd));
    assert_eq!(limits.budget_usd, usd(25.0));
    assert_eq!(limits.budget_usd_month, usd(99.5));
    assert_eq!(limits.budget_usd_total, usd(0.0));
}

#[test]
fn hours_of_the_day() {
    use crate::hours::{Hours, Window};
    let hours = |text: &str| right_with_node(&format!("[limits]\nhours = {text}")).limits.hours;
    let windows =
        |texts: &[&str]| Hours::new(texts.iter().map(|text| Window::parse(text).unwrap()).collect());
    assert_eq!(hours("\"23:00-07:00\""), windows(&["23:00-07:00"]));
    assert_eq!(
        hours("[\"20:00-24:00\", \"0:00-6:30\"]"),
        windows(&["20:00-00:00", "00:00-06:30"])
    );
}

#[test]
fn the_responses_api_is_chosen_by_name() {
    let api = |text: &str| {
        let config = right_with_node(&format!("[provider]\nkind = \"openai\"\n{text}"));
        match config.provider.kind {
            ProviderKind::OpenAi { api, .. } => api,
            ProviderKind::Simulator(_) => panic!("another kind"),
        }
    };
    assert_eq!(api(""), Api::Chat);
    assert_eq!(api("api = \"chat\"\nbackground = false"), Api::Chat);
    assert_eq!(api("api = \"responses\""), Api::Responses { background: false });
    assert_eq!(
        api("api = \"responses\"\nbackground = true"),
        Api::Responses { background: true }
    );
}
