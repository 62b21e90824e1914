//! A disk for tests: it writes down every operation, can let one fail or stop half way, and knows
//! what a power cut would leave.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use crate::store::disk::{Disk, DiskFile, RealDisk};

/// One operation as it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operation {
    Create(PathBuf),
    Open(PathBuf),
    Append(PathBuf, Vec<u8>),
    Sync(PathBuf),
    Cut(PathBuf, u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    SyncFolder,
}

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does nothing.
    Refused,
    /// An append writes half of its bytes; anything else does nothing.
    HalfWay,
    /// It does nothing, and neither does any after it.
    Dead,
}

/// Which operations a fault is meant for.
pub(super) type Applies = fn(&Operation) -> bool;

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    /// After so many more operations of the kind that `applies` accepts.
    fault: Option<(usize, Fault, Applies)>,
    lengths: HashMap<PathBuf, Lengths>,
    gate: Gate,
}

/// Where a sync can be stopped.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    Closed,
    /// Closed, and a sync waits before it.
    Met,
}

#[derive(Clone, Copy, Default)]
struct Lengths {
    written: u64,
    synced: u64,
}

/// A disk that can be told to fail.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk {
    state: Arc<Mutex<State>>,
    gate_moved: Arc<Condvar>,
}

struct FaultyFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    disk: FaultyDisk,
}

impl FaultyDisk {
    /// Lets an operation fail: the one after `n` more of those that `applies` accepts.
    pub(super) fn fail(&self, n: usize, fault: Fault, applies: Applies) {
        self.state.lock().unwrap().fault = Some((n, fault, applies));
    }

    /// Everything that was asked for, in order.
    pub(super) fn operations(&self) -> Vec<Operation> {
        self.state.lock().unwrap().operations.clone()
    }

    /// Lets the next sync wait for [`FaultyDisk::let_sync`].
    pub(super) fn hold_sync(&self) {
        self.state.lock().unwrap().gate = Gate::Closed;
    }

    /// Returns when a sync was begun and waits.
    pub(super) fn wait_for_sync(&self) {
        let state = self.state.lock().unwrap();
        let met = self.gate_moved.wait_while(state, |state| state.gate != Gate::Met);
        drop(met.unwrap());
    }

    /// Lets the sync go on.
    pub(super) fn let_sync(&self) {
        self.state.lock().unwrap().gate = Gate::Open;
        self.gate_moved.notify_all();
    }

    fn pass_gate(&self) {
        let mut state = self.state.lock().unwrap();
        if state.gate == Gate::Closed {
            state.gate = Gate::Met;
            self.gate_moved.notify_all();
        }
        let passed = self.gate_moved.wait_while(state, |state| state.gate == Gate::Met);
        drop(passed.unwrap());
    }

    /// Copies a folder, and cuts the files of this disk in the copy: of what was not synced,
    /// `keep` parts of 256 are there.
    pub(super) fn copy_after_power_cut(&self, from: &Path, to: &Path, keep: u8) {
        copy(from, to);
        for (path, lengths) in &self.state.lock().unwrap().lengths {
            let unsynced = lengths.written - lengths.synced;
            let len = lengths.synced + unsynced * u64::from(keep) / 256;
            let path = to.join(path.strip_prefix(from).unwrap());
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(len).unwrap();
        }
    }

    fn note(&self, operation: Operation) -> Result<(), Fault> {
        let mut state = self.state.lock().unwrap();
        let applies = state.fault.is_some_and(|(_, _, applies)| applies(&operation));
        state.operations.push(operation);
        match &mut state.fault {
            Some((0, fault, _)) if applies => {
                let fault = *fault;
                if fault != Fault::Dead {
                    state.fault = None;
                } else {
                    state.fault = Some((0, fault, |_| true));
                }
                Err(fault)
            }
            Some((n, _, _)) if applies => {
                *n -= 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn lengths(&self, path: &Path, change: impl FnOnce(&mut Lengths)) {
        change(
            self.state
                .lock()
                .unwrap()
                .lengths
                .entry(path.to_owned())
                .or_default(),
        );
    }

    fn wrap(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(FaultyFile {
            path: path.to_owned(),
            file,
            disk: self.clone(),
        })
    }
}

fn full(_: Fault) -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note(Operation::Create(path.to_owned())).map_err(full)?;
        let file = RealDisk.create(path)?;
        self.lengths(path, |lengths| *lengths = Lengths::default());
        Ok(self.wrap(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.note(Operation::Open(path.to_owned())).map_err(full)?;
        let file = RealDisk.open(path)?;
        let written = fs::metadata(path)?.len();
        self.lengths(path, |lengths| lengths.written = written);
        Ok(self.wrap(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = Operation::Rename(from.to_owned(), to.to_owned());
        self.note(operation).map_err(full)?;
        RealDisk.rename(from, to)?;
        let mut state = self.state.lock().unwrap();
        if let Some(lengths) = state.lengths.remove(from) {
            state.lengths.insert(to.to_owned(), lengths);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note(Operation::Remove(path.to_owned())).map_err(full)?;
        RealDisk.remove(path)?;
        self.state.lock().unwrap().lengths.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.note(Operation::SyncFolder).map_err(full)?;
        RealDisk.sync_folder(path)
    }
}

impl DiskFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let operation = Operation::Append(self.path.clone(), bytes.to_vec());
        let (written, result) = match self.disk.note(operation) {
            Ok(()) => (bytes, Ok(())),
            Err(Fault::HalfWay) => (&bytes[..bytes.len() / 2], Err(full(Fault::HalfWay))),
            Err(fault) => (&bytes[..0], Err(full(fault))),
        };
        self.file.append(written)?;
        self.disk
            .lengths(&self.path, |lengths| lengths.written += written.len() as u64);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.pass_gate();
        self.disk.note(Operation::Sync(self.path.clone())).map_err(full)?;
        self.file.sync()?;
        self.disk
            .lengths(&self.path, |lengths| lengths.synced = lengths.written);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.disk
            .note(Operation::Cut(self.path.clone(), len))
            .map_err(full)?;
        self.file.cut(len)?;
        self.disk.lengths(&self.path, |lengths| {
            *lengths = Lengths {
                written: len,
                synced: lengths.synced.min(len),
            };
        });
        Ok(())
    }
}

/// Copies a folder with all that is in it.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        match file.metadata() {
            Ok(metadata) if metadata.is_dir() => copy(&file.path(), &target),
            // sled may remove a file of its own meanwhile.
            _ => drop(fs::copy(file.path(), target)),
        }
    }
}
