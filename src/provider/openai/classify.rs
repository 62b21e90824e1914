//! Tells apart what errors mean: the names that vendors give them first, then their messages,
//! then the HTTP status. Does not read HTTP or JSON.

use crate::call::{Counted, FaultKind, Scope};
use crate::provider::openai::envelope::Envelope;

/// How much of a message is searched, in characters: what a server says of an error stands at
/// its beginning, and further back it may quote a prompt that says anything.
const TELLING: usize = 300;

/// Says what an error is and how far it reaches. `status` is the HTTP status, 2xx included: some
/// servers report errors that way.
pub(super) fn classify(status: u16, error: Option<&Envelope>) -> (FaultKind, Scope) {
    // A 2xx says nothing about an error; a code in the body may.
    let status = if status < 300 {
        error.and_then(|error| error.status)
    } else {
        Some(status)
    };
    if let Some(kind) = error.and_then(|error| by_words(status, error)) {
        return (kind, kind.scope());
    }
    let kind = status.map_or(FaultKind::BadResponse, by_status);
    (kind, kind.scope())
}

fn by_words(status: Option<u16>, error: &Envelope) -> Option<FaultKind> {
    let message = telling(&error.message);
    let mut names = error.names.iter().map(String::as_str);
    names
        .clone()
        .find_map(by_name)
        .or_else(|| by_message(status, &message))
        .or_else(|| by_field(status, error))
        .or_else(|| names.clone().find_map(by_rate_name))
        // With an error status these say less than it does: Ollama calls a 401 `api_error`.
        .or_else(|| status.is_none().then(|| names.find_map(by_server_name)).flatten())
}

/// Names that mean one thing whatever the status: gateways change statuses.
fn by_name(name: &str) -> Option<FaultKind> {
    Some(match name {
        "context_length_exceeded" | "context_window_exceeded" | "exceed_context_size_error" => {
            FaultKind::ContextTooLong
        }

        "unsupported_parameter" | "unsupported_value" | "unknown_parameter" | "extra_forbidden" => {
            FaultKind::BadParameter
        }

        "invalid_prompt"
        | "content_filter"
        | "content_policy_violation"
        | "responsibleaipolicyviolation"
        | "moderation_blocked"
        | "bio_policy"
        | "misalignment_policy_violation" => FaultKind::RefusedInput,

        // `no_db_connection` is LiteLLM's answer to an unknown key where it has no database;
        // `api_key_invalid` is Gemini's, with status 400.
        "invalid_api_key" | "authentication_error" | "api_key_invalid" | "no_db_connection" => {
            FaultKind::Authentication
        }

        "insufficient_quota"
        | "credit_balance_exhausted"
        | "organization_spend_limit_exceeded"
        | "project_spend_limit_exceeded"
        | "organization_usage_limit_exceeded"
        | "billing_hard_limit_reached"
        | "billing_error"
        | "enforced_spend_limit_reached"
        | "openrouter_credits"
        | "openrouter_key_limit" => FaultKind::NoCredit,

        "unsupported_country_region_territory" | "permission_error" => FaultKind::Permission,

        "model_not_found" | "not_found_error" | "invalid_model" => FaultKind::NotFound,

        "request_too_large" => FaultKind::RequestTooLarge,

        // Paid calls in the air are a rate too: fewer at once, and it goes on.
        "slow_down" | "openrouter_in_flight_budget" => FaultKind::RateLimited,

        "server_is_overloaded" | "overloaded_error" | "service_unavailable_error" | "capacity_exceeded" => {
            FaultKind::Overloaded
        }
        _ => return None,
    })
}

/// A rule of messages.
struct Rule {
    /// The statuses it holds for; a body without a status of its own counts as 400.
    statuses: &'static [u16],
    /// What the message says, in lower case: any of these.
    says: &'static [&'static str],
    means: FaultKind,
}

/// The rules of messages; the first that fits holds.
const RULES: &[Rule] = &[
    // Before any rule of rates: the same call is too large again after every wait.
    Rule {
        statuses: &[400, 413, 429],
        says: &["request too large for"],
        means: FaultKind::RequestTooLarge,
    },
    Rule {
        statuses: &[400, 413, 422],
        says: &[
            "prompt is too long",                           // Anthropic
            "contextwindowexceedederror",                   // LiteLLM
            "maximum context length",                       // OpenAI, vLLM, Mistral, DeepSeek, OpenRouter
            "maximum prompt length",                        // xAI
            "available context size",                       // llama.cpp
            "exceeds the maximum number of tokens allowed", // Gemini
        ],
        means: FaultKind::ContextTooLong,
    },
    Rule {
        statuses: &[400, 402, 403, 429],
        says: &[
            "you have reached your specified api usage limits", // Anthropic
            "you have reached your specified workspace",        // Anthropic
            "credit balance is too low",                        // Anthropic
        ],
        means: FaultKind::NoCredit,
    },
    Rule {
        statuses: &[400, 422],
        says: &[
            "unsupported parameter",
            "unsupported value",
            "unknown parameter",
            "unknown field",
            "unknown name \"",                // Gemini
            "unrecognized request argument",  // OpenAI, older
            "extra inputs are not permitted", // Anthropic, FastAPI
            "unsupportedparamserror",         // LiteLLM
        ],
        means: FaultKind::BadParameter,
    },
    Rule {
        statuses: &[400],
        says: &[
            "invalid model name",      // LiteLLM
            "is not a valid model id", // OpenRouter
            "model not exist",         // DeepSeek
        ],
        means: FaultKind::NotFound,
    },
    Rule {
        statuses: &[400],
        says: &[
            "api key not valid", // Gemini
            "incorrect api key", // xAI
        ],
        means: FaultKind::Authentication,
    },
    Rule {
        statuses: &[400],
        says: &["user location is not supported"], // Gemini
        means: FaultKind::Permission,
    },
    Rule {
        statuses: &[400],
        says: &["contentpolicyviolationerror"], // LiteLLM
        means: FaultKind::RefusedInput,
    },
    Rule {
        statuses: &[403],
        // OpenRouter. Not "flagged" alone: that may be an account.
        says: &["requires moderation", "input was flagged"],
        means: FaultKind::RefusedInput,
    },
];

fn by_message(status: Option<u16>, message: &str) -> Option<FaultKind> {
    let status = status.unwrap_or(400);
    let fits = |rule: &&Rule| {
        rule.statuses.contains(&status) && rule.says.iter().any(|words| message.contains(words))
    };
    RULES.iter().find(fits).map(|rule| rule.means)
}

/// What other fields of the envelope say.
fn by_field(status: Option<u16>, error: &Envelope) -> Option<FaultKind> {
    match status {
        Some(403) if error.flagged => Some(FaultKind::RefusedInput),
        Some(400 | 422) if error.param.as_deref().is_some_and(is_delivery) => Some(FaultKind::BadParameter),
        _ => None,
    }
}

/// Fields that are sent for every node or for none.
fn is_delivery(param: &str) -> bool {
    param == "service_tier" || param.contains("prompt_cache")
}

/// Names of a rate that is exceeded. Weaker than every message: OpenAI uses `rate_limit_exceeded`
/// also for a call that is larger than the limit.
fn by_rate_name(name: &str) -> Option<FaultKind> {
    let rate = [
        "rate_limit_exceeded",
        "rate_limit_error",
        "rate_limited",
        "throttling_error",
    ];
    rate.contains(&name).then_some(FaultKind::RateLimited)
}

/// Names that only say that the server failed.
fn by_server_name(name: &str) -> Option<FaultKind> {
    [
        "server_error",
        "api_error",
        "timeout_error",
        "internal_server_error",
    ]
    .contains(&name)
    .then_some(FaultKind::ServerError)
}

/// Gemini's quota of a day: it lasts until midnight in California, whatever its `retryDelay`
/// says, so that going on means thousands of refused calls.
pub(super) fn is_daily_quota(error: &Envelope) -> bool {
    error.quotas.iter().any(|quota| quota.contains("PerDay"))
}

/// Which limit a 429 is about: OpenAI's and Groq's `type`, else the words of OpenAI ("tokens per
/// min (TPM)"), Anthropic ("input tokens per minute") and Gemini's names of quotas.
pub(super) fn limit(error: &Envelope) -> Option<Counted> {
    let named = |name: &String| match name.as_str() {
        "tokens" => Some(Counted::Tokens),
        "requests" => Some(Counted::Requests),
        _ => None,
    };
    let message = telling(&error.message);
    let says = |words: &[&str]| {
        let quotas = error.quotas.iter().map(|quota| quota.to_lowercase());
        let mut texts = quotas.chain([message.clone()]);
        texts.any(|text| words.iter().any(|word| text.contains(word)))
    };
    error.names.iter().find_map(named).or_else(|| {
        if says(&["tokens per min", "token_count", "(tpm)"]) {
            Some(Counted::Tokens)
        } else if says(&["requests per min", "requestsper", "(rpm)"]) {
            Some(Counted::Requests)
        } else {
            None
        }
    })
}

/// The tokens that a 429 took the call for: "Limit 10000, Used 9500, Requested 1200" (OpenAI, Groq).
pub(super) fn reckoned(error: &Envelope) -> Option<u64> {
    let message = telling(&error.message);
    let (_, rest) = message.split_once("requested ")?;
    let digits: String = rest
        .chars()
        .take_while(|char| char.is_ascii_digit() || *char == ',')
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn by_status(status: u16) -> FaultKind {
    match status {
        401 => FaultKind::Authentication,
        402 => FaultKind::NoCredit,
        403 => FaultKind::Permission,
        404 => FaultKind::NotFound,
        408 | 409 => FaultKind::ServerError,
        413 => FaultKind::RequestTooLarge,
        // Flex processing without room is one of them: unbilled, and a 429 uses up no attempt.
        429 => FaultKind::RateLimited,
        498 | 503 | 529 => FaultKind::Overloaded,
        400..500 => FaultKind::BadRequest,
        _ => FaultKind::ServerError,
    }
}

fn telling(message: &str) -> String {
    message.chars().take(TELLING).collect::<String>().to_lowercase()
}
