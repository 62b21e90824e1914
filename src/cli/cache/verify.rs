//! `septet cache verify`: is every record there, and as it was written?

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::cache::args::Verify;
use crate::cli::cache::out::Out;
use crate::cli::cache::{FOLDER, bar, has_cache, refused};
use crate::cli::failure::CliError;
use crate::cli::print::errln;
use crate::cli::project;
use crate::printable::one_line;
use crate::report::figures::{count, number};
use crate::store::{self, Problem, Repaired, Settings, Verified};

/// Checks the cache, and repairs it if asked to; exit code 1 if something is wrong or lost.
pub fn verify(directory: Option<&Path>, args: &Verify) -> Result<ExitCode, CliError> {
    let mut out = Out::new();
    let cache = project::root(directory).join(FOLDER);
    let well = match has_cache(directory)? {
        true if args.repair => mend(&cache, args, &mut out)?,
        true => check(&cache, args, &mut out)?,
        false => told(&Verified::default(), args, &mut out)?,
    };
    out.finish()?;
    if !well && !args.repair && !args.json {
        errln!("\n{}", HINT);
    }
    Ok(ExitCode::from(u8::from(!well)))
}

const HINT: &str = "hint: `septet cache verify --repair` puts back what can be saved and sets aside what is damaged; until then what is intact is served";

/// Says what is wrong. True if nothing is.
fn check(cache: &Path, args: &Verify, out: &mut Out) -> Result<bool, CliError> {
    let mut printed = Ok(());
    let verified = store::verify(cache, &mut |problem| show(&problem, args, out, &mut printed));
    printed?;
    told(&verified.map_err(|error| refused(&error))?, args, out)
}

/// Says what is wrong, mends it, and says what was saved. True if nothing is wrong any more and
/// nothing was lost.
fn mend(cache: &Path, args: &Verify, out: &mut Out) -> Result<bool, CliError> {
    let mut printed = Ok(());
    let bar = bar();
    let repaired = store::repair(
        cache,
        &Settings::default(),
        &mut |problem| show(&problem, args, out, &mut printed),
        |progress| bar.tell(progress),
    );
    bar.clear();
    let repaired = repaired.map_err(|error| refused(&error))?;
    printed?;
    if repaired.before.problems == 0 && repaired.before.kept.is_empty() {
        return told(&repaired.before, args, out);
    }
    match args.json {
        true => out.object(&about_repair(&repaired))?,
        false => out.line(&words_of_repair(&repaired))?,
    }
    let well = told(&repaired.after, args, out)?;
    Ok(well && repaired.lost_answers.is_empty() && repaired.nameless == 0)
}

fn show(problem: &Problem, args: &Verify, out: &mut Out, printed: &mut Result<(), CliError>) {
    if printed.is_ok() {
        *printed = match args.json {
            true => out.object(&about(problem)),
            false => out.line(&format!("✗ {}", one_line(&problem.to_string()))),
        };
    }
}

fn told(verified: &Verified, args: &Verify, out: &mut Out) -> Result<bool, CliError> {
    match args.json {
        true => out.object(&object(verified))?,
        false => out.line(&words(verified))?,
    }
    Ok(verified.problems == 0)
}

/// What a repair did, for programs.
fn about_repair(repaired: &Repaired) -> Value {
    json!({
        "event": "cache_repaired",
        "problems": repaired.before.problems,
        "saved": repaired.saved,
        "saved_answers": repaired.saved_answers,
        "lost_answers": repaired.lost_answers,
        "nameless": repaired.nameless,
        "aside": repaired.aside,
    })
}

fn words_of_repair(repaired: &Repaired) -> String {
    let mut lines = vec![match repaired.saved {
        0 => "↻ repaired: the look-up trees had nothing that the journal does not have".to_owned(),
        saved => format!(
            "↻ repaired: {} that only the look-up trees had put back into the journal ({})",
            count_of(saved, "entry", "entries"),
            count(repaired.saved_answers, "answer"),
        ),
    }];
    for key in &repaired.lost_answers {
        lines.push(format!(
            "✗ lost: something that was stored for request `{key}`, which has no answer now"
        ));
    }
    if repaired.nameless > 0 {
        lines.push(format!(
            "✗ {} of the journal could not be read and did not say what stood there; not all of it was in the look-up trees",
            count(repaired.nameless, "place"),
        ));
    }
    if let Some(aside) = &repaired.aside {
        lines.push(format!(
            "○ the damaged files are in `{}`, with a list of what was found",
            one_line(&aside.display().to_string())
        ));
    }
    lines.join("\n")
}

/// A problem, for programs.
fn about(problem: &Problem) -> Value {
    let message = problem.to_string();
    let mut object = match problem {
        Problem::Journal(damage) => json!({
            "kind": "journal",
            "file": damage.path,
            "offset": damage.offset,
            "bytes": damage.len,
            "key": damage.key,
        }),
        Problem::Missing { path, files } => json!({ "kind": "missing", "file": path, "files": files }),
        Problem::Short { path } => json!({ "kind": "short", "file": path }),
        Problem::Trees { path, .. } => json!({ "kind": "trees", "file": path }),
        Problem::Record { path, tree, key, .. } => json!({
            "kind": "record",
            "file": path,
            "tree": tree,
            "key": key,
        }),
    };
    object["event"] = "cache_problem".into();
    object["message"] = message.into();
    object
}

fn object(verified: &Verified) -> Value {
    json!({
        "event": "cache_verified",
        "files": verified.files,
        "entries": verified.entries,
        "answers": verified.answers,
        "records": verified.records,
        "ahead": verified.ahead,
        "unfinished_bytes": verified.unfinished.as_ref().map_or(0, |damage| damage.len),
        "kept_trees": verified.kept,
        "problems": verified.problems,
    })
}

fn words(verified: &Verified) -> String {
    let looked_at = format!(
        "{} in {} of the journal ({}), {} in the look-up trees",
        count_of(verified.entries, "entry", "entries"),
        count(verified.files, "file"),
        count(verified.answers, "answer"),
        count(verified.records, "record"),
    );
    let mut lines = vec![match verified.problems {
        0 => format!("✓ all intact: {looked_at}"),
        problems => format!("✗ {}; intact: {looked_at}", count(problems, "problem")),
    }];
    if verified.ahead > 0 {
        lines.push(format!(
            "○ {} not yet in the look-up trees: the last septet did not end cleanly, the next one takes them in",
            match verified.ahead {
                1 => "1 entry is".to_owned(),
                ahead => format!("{} entries are", number(ahead)),
            }
        ));
    }
    for folder in &verified.kept {
        lines.push(format!(
            "○ `{}`: older look-up trees, kept when something was lost; `--repair` takes from them what the journal has not",
            one_line(&folder.display().to_string())
        ));
    }
    if let Some(unfinished) = &verified.unfinished {
        lines.push(format!(
            "○ the last write was not finished ({} bytes of `{}` from byte {} on): nothing that was reported as stored",
            number(unfinished.len),
            one_line(&unfinished.path.display().to_string()),
            unfinished.offset
        ));
    }
    lines.join("\n")
}

fn count_of(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}
