//! `septet init`: a new project that runs as it is. The files are those that septet itself ships,
//! and are part of the program.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::Init;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::errln;

/// The shipped project: path, text.
const FILES: &[(&str, &str)] = &include!("init/files.rs");

/// Makes the project.
pub fn init(directory: Option<&Path>, args: &Init) -> Result<ExitCode, CliError> {
    let root = &directory.unwrap_or(Path::new("")).join(&args.target);
    let shown = root.display();
    if root.join("pipeline.toml").exists() {
        return Err(Complaint::new(format!("`{shown}` already has a `pipeline.toml`"))
            .hint("choose another folder, or run the project that is there: `septet run`")
            .into());
    }
    for (path, text) in FILES {
        write_new(&root.join(path), text).map_err(|error| {
            Complaint::new(format!("cannot write `{}`: {error}", root.join(path).display()))
        })?;
    }
    errln!("made a project in `{shown}`: a pipeline, its prompts, and sample personas");
    let go_there = if root.as_os_str() == "." {
        String::new()
    } else {
        format!(" -C {shown}")
    };
    errln!("\nnext: `septet{go_there} run` (offline and free, on the built-in model)");
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet; one that is there stays as it is.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::File::create_new(path) {
        Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_project_is_the_one_of_the_repository() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut open = vec![root.join("prompts"), root.join("personas")];
        let mut found = vec!["pipeline.toml".to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => open.push(path),
                    false => found.push(
                        path.strip_prefix(root)
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .replace('\\', "/"),
                    ),
                }
            }
        }
        found.sort();
        let mut shipped: Vec<&str> = FILES
            .iter()
            .map(|(path, _)| *path)
            .filter(|path| !path.contains(".gitignore"))
            .collect();
        shipped.sort();
        assert_eq!(shipped, found, "src/cli/init/files.rs lists every file");
    }
}
