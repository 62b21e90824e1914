//! How many files may be open at once, and how many calls in flight that leaves room for: each has a
//! connection, and a file of its persona that is read or written. Asked for in time, so that a limit of
//! this machine is never taken for a provider that cannot be reached.

use crate::report::figures::{count, number};

/// What is open whatever is called: the store, the runtime, standard streams, connections that are
/// being closed.
const OWN: u64 = 32;

/// What a call in flight may have open.
const EACH: u64 = 2;

/// Makes room for so many calls in flight, as far as this process may, and returns for how many there
/// is. The second is what a person should know, where those are fewer.
pub fn make_room(wanted: usize) -> (usize, Option<String>) {
    let needed = OWN.saturating_add(EACH.saturating_mul(wanted as u64));
    let Some(limit) = system::raise_to(needed).filter(|limit| *limit < needed) else {
        return (wanted, None);
    };
    let room = usize::try_from(limit.saturating_sub(OWN) / EACH).unwrap_or(usize::MAX);
    let room = room.clamp(1, wanted.max(1));
    let caveat = format!(
        "this process may have only {} open at once (`ulimit -n`): {} in flight at most, instead of {}",
        count(limit, "file"),
        count(room as u64, "call"),
        number(wanted as u64)
    );
    (room, Some(caveat))
}

#[cfg(unix)]
mod system {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// What macOS lets a process have, also where it names no limit.
    const MOST_ON_MACOS: u64 = 10_240;

    /// Raises the limit of open files to `needed`, or as far as that is allowed; `None`: there is none.
    pub fn raise_to(needed: u64) -> Option<u64> {
        let now = getrlimit(Resource::Nofile);
        let current = now.current?;
        if current >= needed {
            return Some(current);
        }
        let most = match cfg!(target_os = "macos") {
            true => now.maximum.unwrap_or(u64::MAX).min(MOST_ON_MACOS),
            false => now.maximum.unwrap_or(u64::MAX),
        };
        let raised = Rlimit {
            current: Some(needed.min(most).max(current)),
            maximum: now.maximum,
        };
        // Whoever may not raise it goes on with what there is.
        _ = setrlimit(Resource::Nofile, raised);
        getrlimit(Resource::Nofile).current
    }
}

#[cfg(not(unix))]
mod system {
    /// Windows has no such limit that a program of this kind meets.
    pub fn raise_to(_: u64) -> Option<u64> {
        None
    }
}
