//! Takes out of look-up trees what can be read there: entries that a damaged journal may not have
//! any more. It does not know what the journal has or what is done with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::store::frame::{self, Frame};
use crate::store::put::Shelf;
use crate::store::shelves::Closed;
use crate::store::trees::Trees;

/// So many values are read at once: few, since what sled cannot read takes the others of its page
/// with it.
const PAGE: usize = 16;

/// Frames as they lay in the journal, by sequence number and checksum: of two entries with one
/// number none is dropped.
pub(super) type Frames = BTreeMap<(u64, u32), Vec<u8>>;

/// What tells a frame from all others.
pub(super) fn name(seq: u64, frame: &[u8]) -> (u64, u32) {
    (seq, crc32fast::hash(frame))
}

/// Takes every intact entry out of trees that are open, of those that are `wanted` (their frames and
/// the bytes of these). No other is held. Returns false if sled failed on the way: then something may
/// be missing.
pub(super) fn from_trees(
    trees: &Trees,
    wanted: impl Fn(&Frame<'_>, &[u8]) -> bool,
    into: &mut Frames,
) -> bool {
    let mut whole = true;
    for shelf in Shelf::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let Ok(page) = trees.page(shelf, after.as_deref(), PAGE) else {
                whole = false;
                break;
            };
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (_, value) in &page {
                match frame::parse_whole(value) {
                    // The end of a mark is no entry: it follows from one.
                    Ok(frame) if frame.is_empty() => {}
                    Ok(frame) if frame.entry().is_err() => whole = false,
                    Ok(frame) if wanted(&frame, value) => {
                        into.insert(name(frame.seq, value), value.to_vec());
                    }
                    Ok(_) => {}
                    Err(_) => whole = false,
                }
            }
        }
    }
    whole
}

/// The same for trees that are not open, and perhaps not to be trusted. Returns why they could not
/// be opened.
pub(super) fn from_folder(
    folder: &Path,
    limit: Duration,
    wanted: impl Fn(&Frame<'_>, &[u8]) -> bool,
    into: &mut Frames,
) -> Result<bool, String> {
    if !folder.join("db").exists() {
        // sled would make a new one.
        return Err("its file `db` is not there".to_owned());
    }
    let trees = Trees::open(folder, limit, None).map_err(|closed| match closed {
        Closed::Broken(reason) => reason,
        Closed::Disk(error) => error.to_string(),
    })?;
    Ok(from_trees(&trees, wanted, into))
}
