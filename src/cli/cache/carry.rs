//! `septet cache export` and `import`: a store as lines of text, to move, share or keep it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::cache::args::{Export, Import};
use crate::cli::cache::out::Out;
use crate::cli::cache::{self, close, existing, refused, warn_of_damage};
use crate::cli::failure::{CliError, Complaint, with_causes};
use crate::cli::print::errln;
use crate::cli::{file, project, receipts, runtime};
use crate::report::figures::{count, number};
use crate::store::{Conflict, ExportError, Exported, ImportError, Imported, LocalStore};

/// Standard input or output in place of a file.
const STANDARD: &str = "-";

/// Writes all of the cache; exit code 1 if some of it cannot be read.
pub fn export(directory: Option<&Path>, args: &Export) -> Result<ExitCode, CliError> {
    let opened = existing(directory)?;
    let Some(store) = opened.store else {
        return Err(Complaint::new("there is no cache to export").into());
    };
    let exported = match args.file.as_str() {
        STANDARD => to_standard_output(&store)?,
        file => Some(to_file(&store, &opened.root.join(file))?),
    };
    close(store.into());
    let Some(exported) = exported else {
        return Ok(ExitCode::SUCCESS);
    };
    warn_of_damage(&exported.damaged);
    let damaged = exported.damaged.len() as u64;
    errln!(
        "exported {}{}",
        entries(exported.entries),
        match damaged {
            0 => String::new(),
            n => format!(", without {} that cannot be read", count(n, "place")),
        }
    );
    Ok(ExitCode::from(u8::from(damaged > 0)))
}

/// `None`: whoever reads it wants no more.
fn to_standard_output(store: &LocalStore) -> Result<Option<Exported>, CliError> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let exported = store.export(&mut out);
    let flushed = out.flush();
    match exported.and_then(|exported| flushed.map(|()| exported).map_err(ExportError::Write)) {
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        other => other
            .map(Some)
            .map_err(|error| not_exported(&error, "standard output")),
    }
}

/// Writes the file whole or not at all.
fn to_file(store: &LocalStore, path: &Path) -> Result<Exported, CliError> {
    let exported = file::write(path, |out| store.export(out), ExportError::Write);
    exported.map_err(|error| not_exported(&error, &path.display().to_string()))
}

fn not_exported(error: &ExportError, to: &str) -> CliError {
    match error {
        ExportError::Store(error) => refused(error),
        ExportError::Write(_) => CliError::stopped(Complaint::new(with_causes(error)).at(to)),
    }
}

/// Takes an export in; exit code 1 if it was cut off.
pub fn import(directory: Option<&Path>, args: &Import) -> Result<ExitCode, CliError> {
    let root = project::root(directory);
    // Also into a folder without a project: a copy to keep.
    if !root.is_dir() {
        return Err(project::no_pipeline(directory).into());
    }
    let mut lines = source(&root, &args.file)?;
    let store = cache::open(&root)?;
    // What comes in may ask for nodes anew.
    receipts::take_back(&root)?;
    let conflict = match args.keep_existing {
        true => Conflict::Existing,
        false => Conflict::Newest,
    };
    let imported = runtime()?.block_on(store.import(&mut *lines, conflict));
    // Durable before it is said.
    let closed = store.close();
    let imported = imported.map_err(|error| not_imported(&error, &args.file))?;
    closed.map_err(|error| refused(&error))?;
    say(&imported, args)?;
    if !imported.complete {
        errln!("warning: the export has no last line: it may have been cut off");
    }
    Ok(ExitCode::from(u8::from(!imported.complete)))
}

fn source(root: &Path, file: &str) -> Result<Box<dyn BufRead>, CliError> {
    if file == STANDARD {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    // The whole path: with `-C` it is another folder's.
    let path = root.join(file);
    let path = path.strip_prefix(".").unwrap_or(&path);
    let opened = File::open(path)
        .map_err(|error| Complaint::new(format!("cannot read `{}`: {error}", path.display())))?;
    Ok(Box::new(BufReader::with_capacity(1 << 16, opened)))
}

fn not_imported(error: &ImportError, file: &str) -> CliError {
    let complaint = Complaint::new(with_causes(error));
    let file = if file == STANDARD { "standard input" } else { file };
    match error {
        ImportError::Store(error) => refused(error),
        ImportError::Read(_) => complaint.at(file).into(),
        ImportError::Line { .. } => complaint
            .at(file)
            .hint("what stands before this line was taken in; an import can be repeated, nothing is taken twice")
            .into(),
    }
}

fn say(imported: &Imported, args: &Import) -> Result<(), CliError> {
    if args.json {
        let mut out = Out::new();
        out.object(&json!({
            "event": "cache_imported",
            "entries": imported.entries,
            "added": imported.added,
            "known": imported.known,
            "replacing": imported.replacing,
            "outdated": imported.outdated,
            "notes_left": imported.notes_left,
            "complete": imported.complete,
        }))?;
        return out.finish();
    }
    let mut text = format!(
        "imported {} of {}; {} here already",
        number(imported.added),
        entries(imported.entries),
        match imported.known {
            1 => "1 was".to_owned(),
            known => format!("{} were", number(known)),
        }
    );
    let kept = match args.keep_existing {
        true => "the one that was here is served",
        false => "the newer one is served",
    };
    for (n, what) in [
        (
            imported.replacing,
            "took the place of another answer to the same request".to_owned(),
        ),
        (
            imported.outdated,
            format!("did not: {kept}, this one is kept beside it"),
        ),
        (
            imported.notes_left,
            "about transcripts of which other notes are here: left out".to_owned(),
        ),
    ] {
        if n > 0 {
            text.push_str(&format!("\n  {} {what}", number(n)));
        }
    }
    cache::print(&text)
}

fn entries(n: u64) -> String {
    format!("{} {}", number(n), if n == 1 { "entry" } else { "entries" })
}
