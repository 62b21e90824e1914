//! Writes all that the journal has as lines of JSON, in its order. It decodes nothing that it need
//! not: what a newer septet wrote goes through as it is.

use std::io::{self, Write};

use crate::store::keep::line;
use crate::store::reader::{Damage, Reader};
use crate::store::segment::Found;
use crate::store::{LocalStore, StoreError};

/// What was written.
#[derive(Debug, Default)]
pub struct Exported {
    /// How many entries.
    pub entries: u64,
    /// Places of the journal that cannot be read, and are not in the export.
    pub damaged: Vec<Damage>,
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The journal cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A line cannot be written.
    #[error("cannot write the export")]
    Write(#[source] io::Error),
}

impl LocalStore {
    /// Writes everything that the journal says, one line an entry. Holds one file of it in memory.
    ///
    /// # Errors
    /// [`ExportError`]; what was written until then has no last line.
    pub fn export(&self, out: &mut dyn Write) -> Result<Exported, ExportError> {
        export(self.reader(None)?, out)
    }
}

fn export(mut journal: Reader, out: &mut dyn Write) -> Result<Exported, ExportError> {
    let mut exported = Exported::default();
    let mut write = |line: String| writeln!(out, "{line}").map_err(ExportError::Write);
    write(line::head())?;
    while let Some(place) = journal.next()? {
        let json = match &place.found {
            Found::Frame { frame, .. } => frame.json(),
            _ => Err(String::new()),
        };
        match json {
            Ok(json) => {
                write(line::entry(&line::plain(&json)))?;
                exported.entries += 1;
            }
            Err(_) => exported.damaged.extend(place.line().err()),
        }
    }
    write(line::end(exported.entries))?;
    Ok(exported)
}
