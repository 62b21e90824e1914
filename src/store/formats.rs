//! What earlier septets wrote is read for ever: a journal of each format lies in `fixtures/`, with
//! what it says as an export. A change of the format adds a pair there and changes none.

use std::fs;
use std::path::Path;

use crate::store::{Conflict, Entry, LocalStore, Looked, Store, samples, verify};

/// Written on 2026-11-26.
const JOURNAL_1: &[u8] = include_bytes!("fixtures/journal-1.log");
const EXPORT_1: &str = include_str!("fixtures/journal-1.jsonl");

fn exported(store: &LocalStore) -> String {
    let mut bytes = Vec::new();
    store.export(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn check(cache: &Path) {
    let (store, notices) = LocalStore::open(cache, |_| {}).unwrap();
    let torn_or_damaged = notices
        .iter()
        .filter(|notice| !matches!(notice, crate::store::Notice::Rebuilt { .. }));
    assert_eq!(torn_or_damaged.count(), 0, "{notices:?}");
    let found = store
        .look(&samples::instance(1), &samples::key(1), &samples::bounds(None))
        .unwrap();
    let Entry::Answer(record) = samples::answer(1) else {
        panic!("an answer");
    };
    assert_eq!(found, Looked::Hit(Box::new(record)));
    assert_eq!(store.rejected(&samples::key(2)).unwrap().len(), 1);
    assert_eq!(exported(&store), EXPORT_1);
    store.close().unwrap();
    let verified = verify(cache, &mut |problem| panic!("{problem}")).unwrap();
    assert_eq!((verified.entries, verified.answers), (10, 3));
}

#[test]
fn a_journal_of_format_1_is_read() {
    let cache = tempfile::tempdir().unwrap();
    fs::create_dir_all(cache.path().join("journal")).unwrap();
    fs::write(cache.path().join("journal/00000001.log"), JOURNAL_1).unwrap();
    check(cache.path());
    check(cache.path());
}

#[tokio::test]
async fn an_export_of_format_1_is_read() {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
    let imported = store
        .import(&mut EXPORT_1.as_bytes(), Conflict::Newest)
        .await
        .unwrap();
    assert!(imported.complete && imported.added == 10);
    store.close().unwrap();
    check(cache.path());
}
