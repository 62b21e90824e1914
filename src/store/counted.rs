//! One tree of sled: how many values it holds, and, where single keys are looked for before they are
//! there, a filter that spares it the question. It does not know what keys and values mean.

use std::sync::atomic::{AtomicU64, Ordering};

use sled::{Db, IVec, Tree};

use crate::store::filter::Filter;
use crate::store::shelves::Closed;

/// A tree and what is known of it without reading it.
pub(super) struct Counted {
    pub(super) name: &'static str,
    pub(super) tree: Tree,
    records: AtomicU64,
    /// True for a tree in which single keys are looked for before they are there. For each of them sled
    /// would read a page and keep it: 30 to 50 µs, and 4 to 40 KB of memory (2026-11-27).
    looked_up: bool,
    /// Every key of the tree was noted in it; `None` where that is not known.
    filter: Option<Filter>,
}

impl Counted {
    /// Opens a tree that has so many records, as far as is known.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn open(db: &Db, name: &'static str, records: Option<u64>) -> sled::Result<Self> {
        Ok(Self {
            name,
            tree: db.open_tree(name)?,
            records: records.unwrap_or(0).into(),
            looked_up: false,
            filter: None,
        })
    }

    /// The same, of a tree in which single keys are looked for before they are there.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn open_looked_up(db: &Db, name: &'static str, records: Option<u64>) -> sled::Result<Self> {
        let counted = Self::open(db, name, records)?;
        let filter = counted.tree.is_empty().then(Filter::default);
        Ok(Self {
            looked_up: true,
            filter,
            ..counted
        })
    }

    /// Lets go of the tree.
    pub(super) fn close(self) -> Known {
        Known {
            name: self.name,
            records: self.records,
            looked_up: self.looked_up,
            filter: self.filter,
        }
    }

    /// The value under a key.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn get(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        match self.denies(key) {
            true => Ok(None),
            false => self.tree.get(key),
        }
    }

    /// True for a key that is surely not there, as can be told without asking the tree.
    pub(super) fn denies(&self, key: &[u8]) -> bool {
        self.filter.as_ref().is_some_and(|filter| !filter.may_hold(key))
    }

    /// Puts a value under its key, in place of an older one.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn put(&self, key: &[u8], value: impl Into<IVec>) -> sled::Result<()> {
        self.note(key);
        if self.tree.insert(key, value)?.is_none() {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Puts a value where there is none, or returns the one that is there.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn put_first(&self, key: &[u8], value: &IVec) -> sled::Result<Option<IVec>> {
        self.note(key);
        let swapped = self
            .tree
            .compare_and_swap(key, None::<&[u8]>, Some(value.clone()))?;
        let Err(found) = swapped else {
            self.records.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        };
        Ok(found.current)
    }

    fn note(&self, key: &[u8]) {
        if let Some(filter) = &self.filter {
            filter.note(key);
        }
    }

    /// How many values it holds.
    pub(super) fn count(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// The filter in which every key of it was noted, if there is one.
    pub(super) fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// Takes a filter in which every key of it was noted.
    pub(super) fn trust(&mut self, filter: Filter) {
        if self.looked_up && self.filter.is_none() {
            self.filter = Some(filter);
        }
    }

    /// Counts for real: reads every node. The filter is made on the way.
    ///
    /// # Errors
    /// If there are fewer than there were.
    pub(super) fn recount(&mut self) -> Result<(), Closed> {
        let filter = self.looked_up.then(Filter::default);
        let mut found = 0;
        for pair in self.tree.iter() {
            let (key, _) = pair?;
            if let Some(filter) = &filter {
                filter.note(&key);
            }
            found += 1;
        }
        self.filter = filter;
        match self.records.swap(found, Ordering::Relaxed) {
            expected if found < expected => Err(Closed::Broken(format!(
                "`{}` has {found} of {expected} records",
                self.name
            ))),
            _ => Ok(()),
        }
    }
}

/// What is known of a tree while it is closed.
pub(super) struct Known {
    name: &'static str,
    records: AtomicU64,
    looked_up: bool,
    filter: Option<Filter>,
}

impl Known {
    /// Opens the tree again.
    ///
    /// # Errors
    /// sled's.
    pub(super) fn open(self, db: &Db) -> sled::Result<Counted> {
        Ok(Counted {
            name: self.name,
            tree: db.open_tree(self.name)?,
            records: self.records,
            looked_up: self.looked_up,
            filter: self.filter,
        })
    }
}
