//! `septet cache verify`: is every record there, and as it was written?

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::cache::args::Verify;
use crate::cli::cache::out::Out;
use crate::cli::cache::{FOLDER, has_cache, refused};
use crate::cli::failure::CliError;
use crate::cli::print::errln;
use crate::cli::project;
use crate::printable::one_line;
use crate::report::figures::{count, number};
use crate::store::{self, Problem, Verified};

/// Checks the cache; exit code 1 if something is wrong.
pub fn verify(directory: Option<&Path>, args: &Verify) -> Result<ExitCode, CliError> {
    let mut out = Out::new();
    let verified = match has_cache(directory)? {
        true => check(&project::root(directory).join(FOLDER), args, &mut out)?,
        false => Verified::default(),
    };
    match args.json {
        true => out.object(&object(&verified))?,
        false => out.line(&words(&verified))?,
    }
    out.finish()?;
    if verified.problems > 0 && !args.json {
        errln!("\n{}", HINT);
    }
    Ok(ExitCode::from(u8::from(verified.problems > 0)))
}

const HINT: &str = "hint: keep a copy of `cache/`; what is intact is served all the same, and look-up trees are rebuilt from the journal by the next run";

fn check(cache: &Path, args: &Verify, out: &mut Out) -> Result<Verified, CliError> {
    let mut printed = Ok(());
    let verified = store::verify(cache, &mut |problem| {
        if printed.is_ok() {
            printed = match args.json {
                true => out.object(&about(&problem)),
                false => out.line(&format!("✗ {}", one_line(&problem.to_string()))),
            };
        }
    });
    printed?;
    verified.map_err(|error| refused(&error))
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
