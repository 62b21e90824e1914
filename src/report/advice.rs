//! What a person can do about a failure, by its kind and by what the system says of it.

use crate::call::Rejection;
use crate::events::Failure;
use crate::wording::{DELETED, FILES_RAN_OUT, MORE_FILES, against_the_system};

/// The kind of failures that a larger output limit cures.
pub const TRUNCATED: &str = Rejection::Truncated.as_str();

/// In the words of an answer that was cut off before it had reached the output limit.
const CUT_ELSEWHERE: &str = ", before `max_output_tokens`";

/// What is said of the next run where the cache is gone.
pub const BEGINS_ANEW: &str = "put the cache back from a copy if there is one: without it `septet run` begins anew, and pays for \
     everything again";

/// True for the end of a run whose cache is gone.
pub fn begins_anew(cause: &Failure) -> bool {
    cause.kind == Failure::STORE && cause.message.contains(DELETED)
}

/// What a person can do about failures of a kind, as far as one of them tells.
pub fn advice(kind: &str, message: &str) -> Option<String> {
    match kind {
        // The end of the summary says it.
        Failure::STORE if message.contains(DELETED) => return None,
        Failure::STORE => {
            let mend = against_the_system(message, "the cache's folder");
            return Some(mend.unwrap_or_else(|| "look at free space and permissions of `cache/`".to_owned()));
        }
        Failure::OUTPUT => {
            let mend =
                against_the_system(message, "the folder of the transcripts").map(|mend| format!("{mend}; "));
            return Some(format!(
                "{}what was paid for is stored: `septet run` writes the transcript then, without a call",
                mend.unwrap_or_default()
            ));
        }
        // Not the provider's, whatever could not be opened.
        _ if message.contains(FILES_RAN_OUT) => return Some(MORE_FILES.to_owned()),
        _ => {}
    }
    let advice = match kind {
        // The failure itself says what can be done about it.
        TRUNCATED if message.contains(CUT_ELSEWHERE) => "at this limit only `--refresh` asks again",
        TRUNCATED => {
            "raise `max_output_tokens`, or ask for a shorter answer; at this limit only `--refresh` asks again"
        }
        "context_too_long" => "shorten the prompt or the persona, or choose a model with a longer context",
        "request_too_large" => "raise `tokens_per_minute` to what the provider allows, or shorten the prompt",
        "authentication" => "check the key in the variable that `api_key_env` names",
        "permission" => "check that the key may use this model, from this place",
        "not_found" => "check `model.name` and `provider.base_url`",
        "no_credit" => "add credit or raise the spending limit at the provider",
        "rate_limited" => "look at what the account may use; `--workers` and `--rpm` ask for less at once",
        "bad_parameter" => "take the parameter out of `[model]`; many models refuse some",
        "connection" => "check the network and `provider.base_url`",
        _ => return None,
    };
    Some(advice.to_owned())
}
