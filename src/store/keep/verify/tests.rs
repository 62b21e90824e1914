use std::fs;

use super::*;
use crate::store::faulty::copy;
use crate::store::filter::Filter;
use crate::store::{LocalStore, Store, samples};

const ANSWERS: u64 = 30;

fn small() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        ..Settings::default()
    }
}

/// A cache with answers in several files and one of each other kind, closed cleanly or not.
async fn cache(clean: bool) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap();
    for n in 0..ANSWERS {
        store.keep(samples::answer(n)).await.unwrap();
    }
    // Long enough to lie in parts, replaced, marked.
    store
        .keep(crate::store::Entry::Answer(samples::record(
            3,
            &samples::prose(1, 400_000),
        )))
        .await
        .unwrap();
    for entry in samples::one_of_each() {
        store.keep(entry).await.unwrap();
    }
    match clean {
        true => store.close().unwrap(),
        false => drop(store),
    }
    cache
}

fn check(cache: &Path) -> (Verified, Vec<String>) {
    let mut problems = Vec::new();
    let shown = |problem: Problem| problem.to_string().replace(cache.to_str().unwrap(), "cache");
    let verified = verify(cache, &mut |problem| problems.push(shown(problem))).unwrap();
    assert_eq!(verified.problems, problems.len() as u64);
    (verified, problems)
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn segment_file(cache: &Path, number: u32) -> PathBuf {
    segment::path(&cache.join(JOURNAL), number)
}

#[tokio::test]
async fn a_whole_store_is_whole_however_it_ended() {
    for clean in [true, false] {
        let cache = cache(clean).await;
        let before = (
            fs::read(segment_file(cache.path(), 1)).unwrap(),
            segment::list(&cache.path().join(JOURNAL)).unwrap(),
        );
        for _ in 0..2 {
            let (verified, problems) = check(cache.path());
            assert_eq!(problems, Vec::<String>::new());
            let entries = ANSWERS + 1 + samples::one_of_each().len() as u64;
            assert_eq!((verified.entries, verified.answers), (entries, ANSWERS + 2));
            if clean {
                // Every answer once, the two that were replaced, and one each of rejected, note,
                // mark, run, source, attempt and fault.
                assert_eq!((verified.ahead, verified.records), (0, ANSWERS + 2 + 7));
            }
            assert!(verified.files > 2 && verified.unfinished.is_none());
        }
        let after = (
            fs::read(segment_file(cache.path(), 1)).unwrap(),
            segment::list(&cache.path().join(JOURNAL)).unwrap(),
        );
        assert_eq!(before, after, "nothing was changed");
        let (_, notices) = LocalStore::open(cache.path(), |_| {}).unwrap();
        assert_eq!(notices, []);
    }
}

#[tokio::test]
async fn a_new_store_is_whole() {
    let cache = tempfile::tempdir().unwrap();
    LocalStore::open(cache.path(), |_| {}).unwrap().0.close().unwrap();
    assert_eq!(check(cache.path()).1, Vec::<String>::new());
}

#[tokio::test]
async fn any_flipped_byte_of_the_journal_is_found() {
    let whole = cache(true).await;
    let mut rng = fastrand::Rng::with_seed(1);
    for round in 0..40 {
        let copied = tempfile::tempdir().unwrap();
        copy(whole.path(), copied.path());
        let segments = segment::list(&copied.path().join(JOURNAL)).unwrap();
        let segment = &segments[rng.usize(..segments.len() - 1)];
        let at = rng.usize(..segment.len as usize);
        change(&segment.path, |bytes| bytes[at] ^= 1 << rng.u32(..8));
        let mut found = Vec::new();
        let verified = verify(copied.path(), &mut |problem| found.push(problem));
        // A flipped format number is a newer septet's, if its checksum were right.
        verified.unwrap();
        let named = found.iter().any(|problem| match problem {
            Problem::Journal(damage) => {
                damage.path == segment.path
                    && (damage.offset..damage.offset + damage.len).contains(&(at as u64))
            }
            _ => false,
        });
        assert!(
            named,
            "round {round}, byte {at} of {}: {found:?}",
            segment.path.display()
        );
    }
}

#[tokio::test]
async fn what_the_journal_lost_is_named_on_both_sides() {
    let cache = cache(true).await;
    let path = segment_file(cache.path(), 1);
    change(&path, |bytes| bytes[segment::HEADER + frame::HEADER + 5] ^= 1);
    let (verified, problems) = check(cache.path());
    let key = samples::key(0);
    assert_eq!(
        problems,
        [
            format!(
                "the record of `{}` in `cache/journal/00000001.log` at byte 16 cannot be read: checksum does not match",
                key.short()
            ),
            format!("`answers-v1` of `cache/store/0001`: the journal does not have the record of `{key}`"),
        ]
    );
    assert_eq!(verified.answers, ANSWERS + 1);
}

#[tokio::test]
async fn missing_and_short_files_are_named() {
    let whole = cache(true).await;
    let last = segment::list(&whole.path().join(JOURNAL)).unwrap().pop().unwrap();
    type Change = fn(&Path);
    let rows: [(&str, Change); 3] = [
        (
            "`cache/journal/00000002.log` is missing: what only it held is lost",
            |cache| {
                fs::remove_file(segment_file(cache, 2)).unwrap();
            },
        ),
        ("is missing: what only it held is lost", |cache| {
            let last = segment::list(&cache.join(JOURNAL)).unwrap().pop().unwrap();
            fs::remove_file(last.path).unwrap();
        }),
        (
            "has lost its end: the look-up trees hold more than the journal",
            |cache| {
                let last = segment::list(&cache.join(JOURNAL)).unwrap().pop().unwrap();
                change(&last.path, |bytes| bytes.truncate(bytes.len() - 10));
            },
        ),
    ];
    for (expected, change) in rows {
        let copied = tempfile::tempdir().unwrap();
        copy(whole.path(), copied.path());
        change(copied.path());
        let (_, problems) = check(copied.path());
        assert!(problems[0].ends_with(expected), "{last:?} {problems:?}");
    }
}

#[tokio::test]
async fn a_write_that_was_cut_off_is_no_damage() {
    let cache = cache(false).await;
    let last = segment::list(&cache.path().join(JOURNAL)).unwrap().pop().unwrap();
    change(&last.path, |bytes| {
        bytes.extend_from_slice(b"\xF7sep and no more")
    });
    let (verified, problems) = check(cache.path());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(verified.unfinished.unwrap().offset, last.len);
}

#[tokio::test]
async fn trees_that_are_damaged_are_named() {
    let whole = cache(true).await;
    let folder = |cache: &Path| generations::path(&cache.join(STORE), 1);
    type Change = fn(&Path);
    let rows: [(&str, Change); 4] = [
        ("they have no checkpoint", |folder| {
            fs::remove_file(checkpoint::path(folder)).unwrap()
        }),
        ("the checksum of its checkpoint does not match", |folder| {
            change(&checkpoint::path(folder), |bytes| bytes[20] ^= 1);
        }),
        ("cannot be used: ", |folder| {
            fs::remove_file(folder.join("db")).unwrap()
        }),
        ("", |folder| {
            // Whatever sled makes of it: a panic, a loss, a damaged record.
            change(&folder.join("db"), |bytes| {
                let middle = bytes.len() / 3;
                bytes[middle..middle + 5000].fill(0x5a);
            });
        }),
    ];
    for (expected, change) in rows {
        let copied = tempfile::tempdir().unwrap();
        copy(whole.path(), copied.path());
        change(&folder(copied.path()));
        let (_, problems) = check(copied.path());
        assert!(
            problems.first().is_some_and(|problem| problem.contains(expected)),
            "{expected}: {problems:?}"
        );
    }
    let copied = tempfile::tempdir().unwrap();
    copy(whole.path(), copied.path());
    fs::remove_dir_all(copied.path().join(STORE)).unwrap();
    let (_, problems) = check(copied.path());
    assert_eq!(
        problems,
        ["the look-up trees `cache/store` cannot be used: there are none"]
    );
}

#[tokio::test]
async fn a_record_that_differs_is_named() {
    // Trees of another history under a right checkpoint: what no checksum can show.
    let cache = cache(true).await;
    let folder = generations::path(&cache.path().join(STORE), 1);
    let checkpoint::Found::Good(checkpoint) = checkpoint::read(&folder).unwrap() else {
        panic!("there is one");
    };
    let trees = Trees::open(
        &folder,
        std::time::Duration::from_secs(60),
        Some((*checkpoint).clone()),
    )
    .unwrap();
    let mut bytes = frame::encode(&samples::answer(2)).unwrap();
    frame::stamp(&mut bytes, 1);
    trees
        .put(&crate::store::put::Put {
            shelf: Shelf::Answers,
            key: samples::key(2).as_bytes().to_vec(),
            seq: 1,
            frame: Some(bytes),
        })
        .unwrap();
    trees.close(*checkpoint).unwrap();
    let (_, problems) = check(cache.path());
    let key = samples::key(2);
    assert_eq!(
        problems,
        [format!(
            "`answers-v1` of `cache/store/0001`: the record of `{key}` is not the one that the journal has"
        )]
    );
}

#[tokio::test]
async fn a_store_that_is_in_use_is_not_checked() {
    let cache = cache(true).await;
    let _held = LocalStore::open(cache.path(), |_| {}).unwrap();
    let verified = verify(cache.path(), &mut |_| {});
    assert!(matches!(verified, Err(StoreError::Held { .. })), "{verified:?}");
}

/// Found by a user who cut a journal: what `--refresh` had asked for, and got, was a problem for good.
#[tokio::test]
async fn a_mark_that_has_ended_may_be_lost_with_its_journal() {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap();
    store.keep(samples::answer(1)).await.unwrap();
    let instance = samples::instance(1);
    store
        .keep(crate::store::Entry::Refresh { instance })
        .await
        .unwrap();
    store.keep(samples::answer(1)).await.unwrap();
    store.keep(samples::answer(2)).await.unwrap();
    store.close().unwrap();
    change(&segment_file(cache.path(), 1), |bytes| {
        bytes.truncate(segment::HEADER)
    });
    let (store, notices) = LocalStore::open_with(cache.path(), &small(), |_| {}).unwrap();
    assert!(!notices.is_empty());
    store.close().unwrap();
    let (verified, problems) = check(cache.path());
    assert_eq!(problems, [""; 0]);
    assert!(verified.answers >= 2, "{verified:?}");
}

/// What no septet writes: a filter that the checkpoint vouches for, and that lacks keys.
#[tokio::test]
async fn a_filter_that_denies_what_is_there_is_named_and_goes_with_a_repair() {
    let cache = cache(true).await;
    let folder = generations::path(&cache.path().join(STORE), 1);
    let checkpoint::Found::Good(mut checkpoint) = checkpoint::read(&folder).unwrap() else {
        panic!("there is one");
    };
    let (none, mut some) = (Filter::default(), keys::read(&folder, &checkpoint));
    let sources = some.remove("sources-v1").unwrap();
    let bytes = keys::encode([("notes-v1", &none), ("sources-v1", &sources)].into_iter());
    checkpoint.keys = keys::write(&folder, &bytes);
    checkpoint.write(&folder).unwrap();
    let (_, problems) = check(cache.path());
    let persona = samples::instance(5).persona;
    assert_eq!(
        problems,
        [format!(
            "`notes-v1` of `cache/store/0001`: the record of `{persona}` is not found, since `keys.filter` \
             says that there is none"
        )]
    );
    let settings = Settings::default();
    let repaired = crate::store::repair(cache.path(), &settings, &mut |_| {}, |_| {}).unwrap();
    assert_eq!((repaired.before.problems, repaired.after.problems), (1, 0));
    assert_eq!(check(cache.path()).1, [""; 0]);
    let (store, _) = LocalStore::open(cache.path(), |_| {}).unwrap();
    assert!(store.transcript(&persona).unwrap().is_some());
}
