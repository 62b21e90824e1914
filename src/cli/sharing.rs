//! What `septet check` says of prompts that a provider's prompt cache cannot serve.

use crate::cli::print::outln;
use crate::plan::sharing::{Cost, Finding};
use crate::report::figures::{count, number};

/// Prints a warning for each finding, with what it costs and what to do.
pub fn tell(findings: &[Finding]) {
    for finding in findings {
        let (text, hint) = words(finding);
        outln!("! {text}\n  hint: {hint}");
    }
}

fn words(finding: &Finding) -> (String, &'static str) {
    match finding {
        Finding::Late {
            calls,
            personas,
            tokens,
            cost,
        } => (
            format!(
                "about {} tokens that the {calls} calls of a persona have in common stand behind what differs: \
                 the provider's cache cannot serve them{}",
                number(*tokens),
                price(*personas, *cost)
            ),
            "put what they share (the persona) into `context`, which comes first, and what differs into `prompt`",
        ),
        Finding::Instructions {
            personas,
            tokens,
            cost,
        } => (
            format!(
                "the system message differs from persona to persona: about {} tokens of instructions could be \
                 read from the provider's cache and are paid in full for each{}",
                number(*tokens),
                price(*personas, *cost)
            ),
            "move what is the persona's into `context`, or to the end of the system message",
        ),
        Finding::Short {
            calls,
            personas,
            tokens,
            cost,
        } => (
            format!(
                "the {calls} calls of a persona share about {} tokens, and providers keep 1,024 or more: \
                 a longer shared part would cost less than this one{}",
                number(*tokens),
                price(*personas, *cost)
            ),
            "add to `context` or the system message what helps every part, or move it there from the prompts",
        ),
    }
}

/// What a finding costs in a run.
fn price(personas: u64, cost: Cost) -> String {
    let saves = match cost.money {
        Some(money) => format!(", which would save {money}"),
        None => String::new(),
    };
    format!(
        " (in a run with {} {} tokens could be read instead{saves})",
        count(personas, "persona"),
        number(cost.tokens)
    )
}
