//! Whether a model that answered is the one that was asked, by their names. Servers answer with a
//! dated snapshot, or without the vendor's name before it; what else they call a model is theirs.

/// True where these names are of different models, as far as names tell.
pub fn differ(asked: &str, answered: &str) -> bool {
    let (asked, answered) = (bare(asked), bare(answered));
    !(is_snapshot(&asked, &answered) || is_snapshot(&answered, &asked))
}

/// Without the vendors before it, the variant behind it, and what means the newest of them.
fn bare(name: &str) -> String {
    let name = name.trim().to_lowercase();
    let name = name.rsplit('/').next().unwrap_or(&name);
    // `:free`, `:latest`; but a size belongs to the name (`llama3:70b`).
    let variant = |name: &str| {
        let (name, variant) = name.split_once(':')?;
        variant
            .starts_with(|c: char| c.is_ascii_alphabetic())
            .then(|| name.to_owned())
    };
    let name = variant(name).unwrap_or_else(|| name.to_owned());
    name.strip_suffix("-latest").map(str::to_owned).unwrap_or(name)
}

/// True for the same name, or the same with a date or a number of a build behind it:
/// `-2026-10-01`, `-20250929`, `-0613`, `@001`, but not `-mini`, `.1` or `-8b`.
fn is_snapshot(name: &str, longer: &str) -> bool {
    let Some(rest) = longer.strip_prefix(name) else {
        return false;
    };
    let digits = rest.chars().filter(char::is_ascii_digit).count();
    let parts_apart = rest.starts_with(['-', '@']) && !rest.contains("--");
    let only_numbers = rest.chars().all(|c| c.is_ascii_digit() || c == '-' || c == '@');
    rest.is_empty() || parts_apart && only_numbers && digits >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_the_same_model() {
        for (asked, answered) in [
            ("gpt-6-luna", "gpt-6-luna"),
            ("gpt-6-luna", "gpt-6-luna-2026-10-01"),
            ("gpt-6-luna-2026-10-01", "gpt-6-luna"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5@20250929"),
            ("anthropic/claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
            ("models/gemini-3-flash", "gemini-3-flash-001"),
            ("mistral-large-latest", "mistral-large-2512"),
            ("llama3.2", "llama3.2:latest"),
            ("deepseek/deepseek-v4:free", "deepseek/deepseek-v4"),
            ("GPT-6-Luna", "gpt-6-luna"),
        ] {
            assert!(!differ(asked, answered), "{asked} {answered}");
        }
    }

    #[test]
    fn a_sibling_is_another_one() {
        for (asked, answered) in [
            ("gpt-6-luna", "llama-3-8b"),
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-5", "gpt-5.1"),
            ("llama-3", "llama-3-8b"),
            ("llama3:8b", "llama3:70b"),
            ("openrouter/auto", "gpt-6-luna"),
        ] {
            assert!(differ(asked, answered), "{asked} {answered}");
        }
    }
}
