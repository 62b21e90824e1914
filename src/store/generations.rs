//! The folders of trees in `store/`: `0001`, `0002`, … New trees never take the place of old ones,
//! since a thread that hangs inside sled may still write to those.

use std::fs;
use std::path::{Path, PathBuf};

use crate::store::StoreError;
use crate::store::checkpoint;

/// The folders of trees by their numbers.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn list(store: &Path) -> Result<Vec<(u32, PathBuf)>, StoreError> {
    let failed = |source| StoreError::io("read", store, source);
    let mut found = Vec::new();
    for folder in fs::read_dir(store).map_err(failed)? {
        let folder = folder.map_err(failed)?.path();
        let name = folder.file_name().and_then(|name| name.to_str());
        if let Some(number) = name.and_then(|name| name.parse().ok())
            && folder.is_dir()
        {
            found.push((number, folder));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest folder of trees with a checkpoint: a crash may have left one behind it that is not
/// complete.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn current(store: &Path) -> Result<Option<PathBuf>, StoreError> {
    let mut folders: Vec<_> = list(store)?.into_iter().map(|(_, folder)| folder).collect();
    let complete = folders
        .iter()
        .rposition(|folder| checkpoint::path(folder).exists());
    Ok(match complete {
        Some(index) => Some(folders.swap_remove(index)),
        None => folders.pop(),
    })
}

/// Removes the trees up to a number: the journal has all that they had. What cannot be removed is
/// in nobody's way.
pub(super) fn remove_older(store: &Path, number: u32) {
    for (_, folder) in list(store)
        .unwrap_or_default()
        .into_iter()
        .filter(|(other, _)| *other <= number)
    {
        let _ = fs::remove_dir_all(folder);
    }
}

/// The folder of the trees with this number.
pub(super) fn path(store: &Path, number: u32) -> PathBuf {
    store.join(format!("{number:04}"))
}
