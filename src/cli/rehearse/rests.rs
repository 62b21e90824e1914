//! What a rehearsal rests on beside what its plan does: how figures are spread, and which faults
//! come again.

use serde_json::{Value, json};

use crate::cli::plan::basis;
use crate::cli::plan::time::{Faults, MOST_FAULTS};
use crate::cli::rehearse::Rehearsed;
use crate::printable::one_line;
use crate::report::figures::{count, number};

/// As people read it.
pub fn text(rehearsed: &Rehearsed<'_>) -> String {
    let mut parts = vec![basis::text(rehearsed.foreseen)];
    parts.push(match rehearsed.foreseen.forecast.basis.answers {
        0 => "any length up to twice what is likely is taken to come as often as any other".to_owned(),
        _ => "lengths and times spread as they were".to_owned(),
    });
    let several = rehearsed.faults.len() > 1;
    for (model, faults) in &rehearsed.faults {
        let whose = match several {
            true => format!(" of {}", one_line(model)),
            false => String::new(),
        };
        parts.push(of_faults(faults, &whose));
    }
    parts.join("; ")
}

fn of_faults(faults: &Faults, whose: &str) -> String {
    match (faults.of, faults.calls) {
        (0, _) => format!("no faults{whose}: no earlier calls, assumed"),
        (of, 0) => format!(
            "no faults: none of {}{whose} ended in one",
            count(of, "earlier call")
        ),
        (of, calls) if faults.faults.is_empty() => format!(
            "no faults: {} of {}{whose} ended in one, and where more than {} % did it is taken for an \
             outage that is over",
            number(calls),
            count(of, "earlier call"),
            MOST_FAULTS * 100.0
        ),
        (of, _) => {
            let kinds = faults
                .faults
                .iter()
                .map(|fault| format!("{} {}", percent(fault.share), fault.kind.as_str()));
            let kinds: Vec<String> = kinds.collect();
            format!(
                "faults as in {}{whose}: {}",
                count(of, "earlier call"),
                kinds.join(", ")
            )
        }
    }
}

/// A small share with a digit behind the point.
fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

/// As programs read it.
pub fn json(rehearsed: &Rehearsed<'_>) -> Value {
    let mut rests = basis::json(rehearsed.foreseen);
    let of_model = |(model, faults): &(String, Faults)| {
        let kinds = faults
            .faults
            .iter()
            .map(|fault| json!({ "kind": fault.kind.as_str(), "share": fault.share }));
        json!({
            "model": model, "calls": faults.of, "faulted": faults.calls,
            "rehearsed": kinds.collect::<Vec<_>>(),
        })
    };
    rests["faults"] = rehearsed.faults.iter().map(of_model).collect();
    rests
}
