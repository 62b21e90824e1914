//! Any text as `pipeline.toml`: an error points into it, and what is right can be worked with.

use super::*;
use crate::fuzzed;

#[test]
fn config_fuzz() {
    bolero::check!(name = "config_fuzz").for_each(|bytes: &[u8]| {
        let text = fuzzed::text(bytes, &[NODE, SHIPPED, WHOLE]);
        let lines = text.split('\n').count();
        match load(&text, "pipeline.toml") {
            Ok(config) => assert!(!config.nodes.is_empty()),
            Err(errors) => {
                assert!(errors.iter().next().is_some());
                for error in errors.iter() {
                    assert!((1..=lines).contains(&error.line), "{error}");
                    assert!(
                        !error.message.is_empty() && !error.message.contains('\n'),
                        "{error}"
                    );
                }
            }
        }
    });
}

/// What the shipped one has as comments.
const WHOLE: &str = r#"
[pipeline]
personas = "people"
output = "out/{persona}.md"
result = "b"
[provider]
kind = "openai"
name = "x"
base_url = "http://127.0.0.1:8080/v1"
api_key_env = "KEY"
timeout = "10m"
idle_timeout = "60s"
prompt_cache = "key"
[model]
name = "m"
max_output_tokens = 100
temperature = 0.8
[model.extra]
top_p = 0.9
[limits]
concurrency = 8
requests_per_minute = 500
tokens_per_minute = 200000
hours = ["23:00-07:00", "12:00-13:00"]
budget_usd = 25.0
[retry]
attempts = 6
base = "1s"
max = "60s"
rejected = 2
[prices."m"]
input = 0.1
output = 0.5
zone = "UTC"
[[prices."m".when]]
hours = ["01:00-04:00"]
days = "mon-fri"
input = 0.2
[prompts]
system = ""
[[node]]
id = "a-1"
prompt = "p.md"
vars = { part = 1, title = "x", deep = { a = [1, 2.5, true] } }
min_chars = 2
must_match = "^[a-z]+$"
json_schema = { type = "object" }
[[node]]
id = "b"
needs = ["a-*"]
prompt = "p.md"
model = { temperature = 0.2 }
"#;

#[test]
fn the_example_of_the_fuzzer_is_right_but_for_what_it_shows() {
    let text = errors(WHOLE);
    assert!(text.starts_with("no error"), "{text}");
}
