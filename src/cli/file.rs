//! Files that commands write where a person says: whole or not at all. It does not know what is in them.

use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes the file `path`, durably, with what `content` writes into it. One that is there is replaced once
/// all of it is on the disk.
///
/// # Errors
/// Those of `content`, and what `failed` makes of the system's. What was there before is there still.
pub fn write<T, E>(
    path: &Path,
    content: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    failed: impl Fn(io::Error) -> E,
) -> Result<T, E> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    // By default a temporary file is its owner's alone; what it becomes is an ordinary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let file = builder
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(|error| failed(of_the_system(error)))?;
    let mut out = BufWriter::with_capacity(1 << 16, file.as_file());
    let written = content(&mut out)?;
    out.flush()
        .and_then(|()| file.as_file().sync_all())
        .map_err(&failed)?;
    drop(out);
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(written)
}

/// The system's own error, without the name of a temporary file that nobody has asked for.
fn of_the_system(error: io::Error) -> io::Error {
    let source = error.get_ref().and_then(|wrapped| wrapped.source());
    let source = source.and_then(|source| source.downcast_ref::<io::Error>());
    match source.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error,
    }
}
