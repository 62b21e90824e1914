//! Words of messages: the nearest right name to a wrong one, names in a list, what helps against what
//! the system says. It does not know what the names stand for.

/// What is said of a file of the store that somebody removed.
pub const DELETED: &str = "it was deleted while septet was at work";

/// What Linux and macOS say where a process may open no more files.
pub const FILES_RAN_OUT: &str = "Too many open files (os error 24)";

/// What helps against that.
pub const MORE_FILES: &str =
    "raise the limit of open files (`ulimit -n`), or let fewer calls be in flight (`--workers`)";

/// What helps where a file of the project or the cache (`place`) could not be read or written, going by
/// what the system says of it; `None`: its words are not known here.
pub fn against_the_system(message: &str, place: &str) -> Option<String> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    // Of Linux and macOS, then of Windows.
    Some(if says(&[FILES_RAN_OUT]) {
        MORE_FILES.to_owned()
    } else if says(&["Permission denied", "Read-only file system", "Access is denied"]) {
        format!("make {place} writable for who runs septet")
    } else if says(&["No space left", "Disk quota exceeded", "not enough space"]) {
        "free space on the disk".to_owned()
    } else {
        return None;
    })
}

/// Returns the candidate that `word` was probably meant to be; `None` if none is near.
///
/// Near is: at most a third of the longer word is to be changed (a swap of two neighbours is one
/// change), or a word of at least three letters is the beginning of the candidate; the case aside. Of equally near ones the one is taken whose first other character is
/// nearest in the alphabet (`chunk-7` for `chunk-8`), then the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let changes = strsim::damerau_levenshtein(&lower, &other);
            let longer = lower.chars().count().max(other.chars().count());
            let begun = lower.len() >= 3 && other.starts_with(&lower);
            (begun || changes * 3 <= longer).then(|| (changes, first_difference(&lower, &other), candidate))
        })
        .min_by_key(|(changes, difference, _)| (*changes, *difference))
        .map(|(_, _, candidate)| candidate)
}

/// How far apart the first two characters that differ are; 0 where one text begins the other.
fn first_difference(a: &str, b: &str) -> u32 {
    a.chars()
        .zip(b.chars())
        .find(|(a, b)| a != b)
        .map_or(0, |(a, b)| u32::from(a).abs_diff(u32::from(b)))
}

/// Returns `did you mean …?` where a candidate is near, else `what` followed by all of them.
pub fn suggest<'a>(word: &str, what: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    match nearest(word, candidates.iter().copied()) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if candidates.is_empty() => None,
        None => Some(format!("{what} {}", listed(&candidates))),
    }
}

/// Returns the names in backticks, with commas; those after the twelfth are only counted.
pub fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 12;
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let keys = [
            "concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "budget_usd",
        ];
        for (word, meant) in [
            ("concurency", Some("concurrency")),
            ("Concurrency", Some("concurrency")),
            ("token_per_minute", Some("tokens_per_minute")),
            ("budget", Some("budget_usd")),
            ("bu", None),
            ("budgt_usd", Some("budget_usd")),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }

    #[test]
    fn a_swap_is_one_change_and_of_equals_the_neighbour_wins() {
        assert_eq!(
            nearest("chunk-8", ["chunk-1", "chunk-7", "chunk-2"]),
            Some("chunk-7")
        );
        assert_eq!(nearest("chnuk-7", ["chunk-1", "chunk-7"]), Some("chunk-7"));
    }

    #[test]
    fn what_the_system_says_has_its_advice() {
        let advice = |message: &str| against_the_system(message, "`cache/`");
        for (message, begin) in [
            (
                "cannot open x: Too many open files (os error 24)",
                "raise the limit",
            ),
            (
                "cannot make x: Permission denied (os error 13)",
                "make `cache/` writable",
            ),
            (
                "cannot make x: Read-only file system (os error 30)",
                "make `cache/` writable",
            ),
            (
                "cannot write x: No space left on device (os error 28)",
                "free space",
            ),
        ] {
            assert!(advice(message).unwrap().starts_with(begin), "{message}");
        }
        assert_eq!(advice("cannot read x: Input/output error (os error 5)"), None);
    }

    #[test]
    fn names_all_where_none_is_near() {
        assert_eq!(
            suggest("zzz", "known are", ["input", "output"]).as_deref(),
            Some("known are `input`, `output`")
        );
        assert_eq!(suggest("zzz", "known are", []), None);
        let many: Vec<String> = (0..15).map(|i| i.to_string()).collect();
        assert!(listed(&many).ends_with("`11` and 3 more"));
    }
}
