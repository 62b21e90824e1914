//! What the requests of a run are made of, as it was read, and that it is kept before the first
//! call that uses it. It does not know how requests are made of it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::persona::PersonaFile;
use crate::store::{Entry, LARGEST_SOURCE, Source, SourceId, Store};

/// The pipeline or the files of one persona, as they were read.
#[derive(Debug)]
pub struct Snapshot {
    id: SourceId,
    /// `None` where it is too large to be kept.
    source: Option<Source>,
    /// Set once it was handed to the store, or was there.
    kept: AtomicBool,
}

impl Snapshot {
    /// Of a pipeline and its templates by path.
    pub fn pipeline(text: &str, templates: &BTreeMap<String, String>) -> Self {
        let id = SourceId::of_pipeline(text, templates);
        let source = Source::Pipeline {
            text: text.to_owned(),
            templates: templates.clone(),
        };
        Self::new(id, source)
    }

    /// Of the files of a persona.
    pub fn persona(files: Vec<PersonaFile>) -> Self {
        let mut files = files;
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let id = SourceId::of_persona(files.iter().map(|file| (file.name.as_str(), &file.bytes[..])));
        // A persona that can be used is UTF-8; any other is never called for.
        let text = |file: PersonaFile| (file.name, String::from_utf8(file.bytes).unwrap_or_default());
        let files = files.into_iter().map(text).collect();
        Self::new(id, Source::Persona { files })
    }

    fn new(id: SourceId, source: Source) -> Self {
        Self {
            id,
            source: (source.bytes() <= LARGEST_SOURCE).then_some(source),
            kept: AtomicBool::new(false),
        }
    }

    /// The name of its content.
    pub fn id(&self) -> SourceId {
        self.id
    }

    /// The entry that keeps it, where the store does not have it; once. It is to be appended before
    /// whatever refers to it. One that is too large is not kept: its name alone says whether it
    /// changed.
    pub fn entry(&self, store: &dyn Store, at_ms: u64) -> Option<Entry> {
        if self.kept.swap(true, Ordering::Relaxed) {
            return None;
        }
        let source = self.source.as_ref()?;
        // A store that does not work says so when the entry is appended.
        let is_there = store.has_source(&self.id).unwrap_or(false);
        (!is_there).then(|| Entry::Source {
            id: self.id,
            at_ms,
            source: source.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    fn file(name: &str, bytes: usize) -> PersonaFile {
        PersonaFile {
            name: name.into(),
            bytes: vec![b'a'; bytes],
        }
    }

    #[tokio::test]
    async fn a_source_is_kept_once_whoever_uses_it() {
        let store = MemoryStore::new();
        let files = || vec![file("b.md", 3), file("a.md", 2)];
        let (one, twin) = (Snapshot::persona(files()), Snapshot::persona(files()));
        let entry = one.entry(&store, 7).unwrap();
        store.note(entry).await.unwrap();
        assert_eq!(one.entry(&store, 7), None);
        assert_eq!(twin.entry(&store, 7), None);
        let source = store.source(&one.id()).unwrap().unwrap();
        assert_eq!(source.id(), twin.id());
    }

    #[test]
    fn what_is_too_large_has_a_name_and_is_not_kept() {
        let store = MemoryStore::new();
        let largest = Snapshot::persona(vec![file("a.md", LARGEST_SOURCE - 4)]);
        let too_large = Snapshot::persona(vec![file("a.md", LARGEST_SOURCE - 3)]);
        assert_ne!(largest.id(), too_large.id());
        assert!(largest.entry(&store, 7).is_some());
        assert_eq!(too_large.entry(&store, 7), None);
    }
}
