//! Counts the tokens of an answer from the server's `usage`. Every field may be missing, null or
//! nonsense; what cannot be believed counts as not reported.

use serde_json::Value;

use crate::call::{Request, Usage};

/// More tokens than this in one call are nonsense: a hundred times the largest context known.
const SILLY: u64 = 1_000_000_000;

/// Returns the tokens of an answer with the text `text`; estimates what the server does not
/// count, a token for every four characters.
pub(super) fn count(usage: &Value, request: &Request, text: &str) -> Usage {
    let input = either(usage, "prompt_tokens", "input_tokens");
    let output = output(usage, input);
    // Servers that count nothing send zeros; a prompt is never empty.
    let reported = input.is_some_and(|input| input > 0) && (output.is_some_and(|n| n > 0) || text.is_empty());
    if !reported {
        return Usage {
            input: input
                .filter(|input| *input > 0)
                .unwrap_or_else(|| request.estimated_input_tokens()),
            output: output
                .filter(|output| *output > 0)
                .unwrap_or_else(|| estimate(text)),
            estimated: true,
            ..Usage::default()
        };
    }
    let (input, output) = (input.unwrap_or_default(), output.unwrap_or_default());
    let cached = cached(usage).map(|cached| cached.min(input));
    Usage {
        input,
        cached_input: cached,
        cache_write: written(usage).map(|written| written.min(input - cached.unwrap_or(0))),
        output,
        reasoning: reasoning(usage),
        estimated: false,
    }
}

/// All output, reasoning included. xAI reports reasoning beside `completion_tokens`, and gateways
/// to Gemini leave it out; both have it in `total_tokens` (checked 2026-11).
fn output(usage: &Value, input: Option<u64>) -> Option<u64> {
    let told = either(usage, "completion_tokens", "output_tokens")?;
    let total = number(&usage["total_tokens"]).unwrap_or(0);
    let beside = total.saturating_sub(input?);
    Some(told.max(beside).max(reasoning(usage).unwrap_or(0)))
}

fn reasoning(usage: &Value) -> Option<u64> {
    number(&usage["completion_tokens_details"]["reasoning_tokens"])
        .or_else(|| number(&usage["output_tokens_details"]["reasoning_tokens"]))
}

fn cached(usage: &Value) -> Option<u64> {
    number(&usage["prompt_tokens_details"]["cached_tokens"])
        .or_else(|| number(&usage["input_tokens_details"]["cached_tokens"]))
        .or_else(|| number(&usage["prompt_cache_hit_tokens"])) // DeepSeek
        .or_else(|| number(&usage["cache_read_input_tokens"])) // LiteLLM
}

fn written(usage: &Value) -> Option<u64> {
    number(&usage["prompt_tokens_details"]["cache_write_tokens"])
        .or_else(|| number(&usage["input_tokens_details"]["cache_write_tokens"]))
        .or_else(|| number(&usage["cache_creation_input_tokens"])) // LiteLLM
}

fn either(usage: &Value, chat: &str, responses: &str) -> Option<u64> {
    number(&usage[chat]).or_else(|| number(&usage[responses]))
}

/// A count, also as `12.0` or `"12"`; `None` for everything that is none.
fn number(value: &Value) -> Option<u64> {
    let float = |x: f64| (x >= 0.0 && x <= SILLY as f64 && x.fract() == 0.0).then_some(x as u64);
    value
        .as_u64()
        .or_else(|| value.as_f64().and_then(float))
        .or_else(|| value.as_str()?.trim().parse().ok())
        .filter(|count| *count <= SILLY)
}

fn estimate(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(4)
}
