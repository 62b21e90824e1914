use std::collections::BTreeSet;

use super::*;
use crate::call::Key;
use crate::store::faulty::copy;
use crate::store::local::LocalStore;
use crate::store::notice::Phase;
use crate::store::reader::Reader;
use crate::store::record::Entry;
use crate::store::segment::Found;
use crate::store::{Looked, Store, frame, samples};

const ANSWERS: u64 = 40;

fn small() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        ..Settings::default()
    }
}

fn reopen(cache: &Path) -> (LocalStore, Vec<Notice>) {
    LocalStore::open_with(cache, &small(), |_| {}).unwrap()
}

async fn keep(store: &LocalStore, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        store.keep(samples::answer(n)).await.unwrap();
    }
}

/// A cache with forty answers in several segments.
async fn cache(clean: bool) -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(notices, [], "nothing to tell about a new one");
    keep(&store, 0..ANSWERS).await;
    match clean {
        true => store.close().unwrap(),
        false => drop(store),
    }
    let segments = segments(cache.path());
    assert!(segments.len() > 3, "{segments:?}");
    cache
}

fn segments(cache: &Path) -> Vec<Segment> {
    segment::list(&cache.join(JOURNAL)).unwrap()
}

fn is_there(store: &LocalStore, n: u64) -> bool {
    match store
        .look(&samples::instance(n), &samples::key(n), &samples::bounds(None))
        .unwrap()
    {
        Looked::Hit(record) => {
            assert_eq!(Entry::Answer(*record), samples::answer(n));
            true
        }
        Looked::Miss(_) | Looked::CutOff(_) | Looked::Readmitted(_) => false,
    }
}

const NONE: [u64; 0] = [];

fn missing(store: &LocalStore) -> Vec<u64> {
    (0..ANSWERS).filter(|n| !is_there(store, *n)).collect()
}

/// The place of each answer in the journal.
fn places(cache: &Path) -> Vec<(Key, Position)> {
    let begin = Position {
        segment: 0,
        offset: 0,
    };
    let mut reader = Reader::new(segments(cache), begin, None);
    let mut places = Vec::new();
    while let Some(place) = reader.next().unwrap() {
        if let Found::Frame { frame, .. } = place.found {
            places.push((frame.key().unwrap(), place.at));
        }
    }
    places
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn generation(cache: &Path, number: u32) -> PathBuf {
    generations::path(&cache.join(STORE), number)
}

#[tokio::test]
async fn everything_is_there_after_a_clean_end_and_after_any_other() {
    for clean in [true, false] {
        let cache = cache(clean).await;
        for _ in 0..3 {
            let (store, notices) = reopen(cache.path());
            assert_eq!(notices, []);
            assert_eq!(missing(&store), NONE);
            drop(store);
        }
        assert!(generation(cache.path(), 1).is_dir(), "no reason to build anew");
    }
}

#[tokio::test]
async fn trees_that_are_gone_are_built_again() {
    for clean in [true, false] {
        let cache = cache(clean).await;
        fs::remove_dir_all(cache.path().join(STORE)).unwrap();
        let mut told = Vec::new();
        let (store, notices) = LocalStore::open(cache.path(), |progress| told.push(progress)).unwrap();
        assert_eq!(missing(&store), NONE);
        assert_eq!(
            notices,
            [Notice::Rebuilt {
                path: cache.path().join(STORE),
                reason: "it is empty".to_owned(),
                entries: ANSWERS,
                kept: false,
            }]
        );
        keep(&store, [99]).await;
        store.close().unwrap();
        let (store, notices) = reopen(cache.path());
        assert_eq!(notices, []);
        assert!(is_there(&store, 99));
    }
}

#[tokio::test]
async fn trees_that_are_damaged_are_built_again_beside_the_old_ones() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("no db", |trees| fs::remove_file(trees.join("db")).unwrap()),
        ("the first bytes of a db", |trees| {
            let file = fs::OpenOptions::new().write(true).open(trees.join("db")).unwrap();
            file.set_len(100).unwrap();
        }),
        ("another conf", |trees| flip(&trees.join("conf"), 15)),
        ("no checkpoint", checkpoint::remove),
        ("a damaged checkpoint", |trees| flip(&checkpoint::path(trees), 30)),
    ];
    for clean in [true, false] {
        let original = cache(clean).await;
        for (name, damage) in damages {
            let cache = tempfile::tempdir().unwrap();
            copy(original.path(), cache.path());
            damage(&generation(cache.path(), 1));
            let (store, notices) = reopen(cache.path());
            assert_eq!(missing(&store), NONE, "{name}");
            let [
                Notice::Rebuilt {
                    path, kept: false, ..
                },
            ] = &notices[..]
            else {
                panic!("{name}: {notices:?}");
            };
            assert_eq!(*path, generation(cache.path(), 1), "{name}");
            assert!(!path.exists(), "{name}: the journal has all of it");
            assert!(generation(cache.path(), 2).is_dir(), "{name}");
            keep(&store, [99]).await;
            store.close().unwrap();
            let (store, notices) = reopen(cache.path());
            assert_eq!(notices, [], "{name}");
            assert!(is_there(&store, 99), "{name}");
        }
    }
}

#[tokio::test]
async fn trees_that_never_open_are_left_alone() {
    let cache = cache(true).await;
    let hasty = Settings {
        open_limit: Duration::ZERO,
        ..small()
    };
    let (store, notices) = LocalStore::open_with(cache.path(), &hasty, |_| {}).unwrap();
    assert_eq!(missing(&store), NONE);
    let [Notice::Rebuilt { reason, .. }] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(reason, "no end after 0 s");
}

#[tokio::test]
async fn a_write_that_was_not_finished_is_cut_off() {
    let original = cache(false).await;
    let newest = segments(original.path()).pop().unwrap();
    let last = places(original.path()).pop().unwrap().1;
    assert_eq!(last.segment, newest.number);
    // Everything from "one byte of the last record" to "all but one byte".
    for len in [
        last.offset + 1,
        last.offset + 63,
        last.offset + 64,
        newest.len - 1,
    ] {
        let cache = tempfile::tempdir().unwrap();
        copy(original.path(), cache.path());
        // As if the trees had not come so far yet.
        fs::remove_dir_all(cache.path().join(STORE)).unwrap();
        let path = cache.path().join(JOURNAL).join(newest.path.file_name().unwrap());
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(len)
            .unwrap();
        let (store, notices) = reopen(cache.path());
        let torn = Notice::Torn {
            path: path.clone(),
            offset: last.offset,
            len: len - last.offset,
        };
        assert_eq!(notices[0], torn);
        assert_eq!(missing(&store), [ANSWERS - 1]);
        keep(&store, [ANSWERS - 1]).await;
        drop(store);
        let (store, notices) = reopen(cache.path());
        assert_eq!((missing(&store), notices), (NONE.into(), vec![]));
    }
}

#[tokio::test]
async fn rubbish_at_the_end_is_cut_off_too() {
    let cache = cache(true).await;
    let newest = segments(cache.path()).pop().unwrap();
    let mut bytes = fs::read(&newest.path).unwrap();
    let record = bytes[segment::HEADER..][..200].to_vec();
    bytes.extend([0; 1000]);
    bytes.extend(record);
    fs::write(&newest.path, bytes).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(
        notices,
        [Notice::Torn {
            path: newest.path.clone(),
            offset: newest.len,
            len: 1200,
        }]
    );
    assert_eq!(missing(&store), NONE);
    assert_eq!(fs::metadata(&newest.path).unwrap().len(), newest.len);
}

#[tokio::test]
async fn a_segment_that_was_just_begun_is_begun_again() {
    for len in [0, 1, 15, 16] {
        let cache = cache(false).await;
        let next = segments(cache.path()).len() as u32 + 1;
        let path = segment::path(&cache.path().join(JOURNAL), next);
        fs::write(&path, &segment::header()[..len]).unwrap();
        let (store, _) = reopen(cache.path());
        keep(&store, [99]).await;
        drop(store);
        assert!(places(cache.path()).last().unwrap().1 == Position::start_of(next));
        fs::remove_dir_all(cache.path().join(STORE)).unwrap();
        let (store, notices) = reopen(cache.path());
        assert_eq!(missing(&store), NONE);
        assert!(is_there(&store, 99));
        assert_eq!(notices.len(), 1, "{notices:?}");
    }
}

#[tokio::test]
async fn damage_in_the_middle_costs_what_it_hits_and_is_named() {
    let cache = cache(true).await;
    let places = places(cache.path());
    let newest = segments(cache.path()).pop().unwrap().number;
    let hits: Vec<_> = [3, 17].map(|n: usize| places[n]).into();
    assert!(hits.iter().all(|(_, place)| place.segment < newest));
    for (_, place) in &hits {
        let path = segment::path(&cache.path().join(JOURNAL), place.segment);
        flip(&path, place.offset + 100);
    }
    let (store, notices) = reopen(cache.path());
    assert_eq!(
        (missing(&store), notices),
        (NONE.into(), vec![]),
        "the trees have it"
    );
    drop(store);
    fs::remove_file(generation(cache.path(), 1).join("db")).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(missing(&store), [3, 17]);
    let named: Vec<_> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Damaged(damage) => Some((damage.key.unwrap(), damage.offset)),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = hits.iter().map(|(key, place)| (*key, place.offset)).collect();
    assert_eq!(named, expected);
    let Some(Notice::Rebuilt { path, kept: true, .. }) = notices.last() else {
        panic!("{notices:?}");
    };
    assert!(path.is_dir(), "the old trees may have what the journal lost");
}

#[tokio::test]
async fn damage_at_the_end_of_an_older_segment_is_no_unfinished_write() {
    let cache = cache(true).await;
    let second = segments(cache.path())[1].clone();
    flip(&second.path, second.len - 1);
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let (store, notices) = reopen(cache.path());
    assert!(matches!(notices[0], Notice::Damaged(_)), "{notices:?}");
    assert_eq!(missing(&store).len(), 1);
    assert_eq!(fs::metadata(&second.path).unwrap().len(), second.len);
}

#[tokio::test]
async fn a_damaged_file_header_costs_nothing() {
    let cache = cache(true).await;
    let second = segments(cache.path())[1].clone();
    flip(&second.path, 9);
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(missing(&store), NONE);
    let expected = format!(
        "16 bytes of `{}` at byte 0 cannot be read: the header of the file is damaged",
        second.path.display()
    );
    assert_eq!(notices[0].to_string(), expected);
}

#[tokio::test]
async fn a_missing_segment_is_told_when_it_matters() {
    let cache = cache(true).await;
    let second = segments(cache.path())[1].path.clone();
    let inside: BTreeSet<_> = places(cache.path())
        .iter()
        .filter(|(_, place)| place.segment == 2)
        .map(|(key, _)| *key)
        .collect();
    fs::remove_file(&second).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(
        (missing(&store), notices),
        (NONE.into(), vec![]),
        "the trees have it"
    );
    drop(store);
    fs::remove_file(generation(cache.path(), 1).join("db")).unwrap();
    let (store, notices) = reopen(cache.path());
    let lost: BTreeSet<_> = missing(&store).into_iter().map(samples::key).collect();
    assert_eq!(lost, inside);
    assert_eq!(
        notices[0],
        Notice::Missing {
            path: second,
            files: 1
        }
    );
    assert!(matches!(notices[1], Notice::Rebuilt { kept: true, .. }));
}

#[tokio::test]
async fn a_journal_that_is_gone_leaves_the_trees_in_use() {
    let cache = cache(true).await;
    let last = segments(cache.path()).pop().unwrap();
    fs::remove_dir_all(cache.path().join(JOURNAL)).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(missing(&store), NONE);
    let gone = last.path.clone();
    let next = segment::path(&cache.path().join(JOURNAL), last.number + 1);
    let back = Notice::WrittenBack {
        path: next,
        entries: ANSWERS,
    };
    assert_eq!(notices, [Notice::Missing { path: gone, files: 1 }, back]);
    keep(&store, [99]).await;
    drop(store);
    // What comes now stands behind the checkpoint, or it would never be replayed.
    assert_eq!(segments(cache.path())[0].number, last.number + 1);
    let (store, notices) = reopen(cache.path());
    assert_eq!(notices, []);
    assert!(is_there(&store, 99) && missing(&store).is_empty());
    drop(store);
    // And if the trees break now, nothing of them is thrown away.
    flip(&generation(cache.path(), 1).join("conf"), 15);
    let (store, notices) = reopen(cache.path());
    assert!(is_there(&store, 99));
    assert!(matches!(notices[0], Notice::Missing { .. }), "{notices:?}");
    assert!(
        matches!(notices[1], Notice::Rebuilt { kept: true, .. }),
        "{notices:?}"
    );
    assert!(generation(cache.path(), 1).is_dir());
}

#[tokio::test]
async fn trees_without_any_journal_and_checkpoint_are_not_thrown_away() {
    let cache = cache(true).await;
    fs::remove_dir_all(cache.path().join(JOURNAL)).unwrap();
    checkpoint::remove(&generation(cache.path(), 1));
    let (_store, notices) = reopen(cache.path());
    assert!(
        matches!(
            notices[..],
            [
                Notice::Missing { .. },
                Notice::Rebuilt {
                    kept: true,
                    entries: 0,
                    ..
                }
            ]
        ),
        "{notices:?}"
    );
    assert!(generation(cache.path(), 1).is_dir());
}

#[tokio::test]
async fn what_is_written_back_is_written_back_whole_though_it_was_killed_on_the_way() {
    type Loss = fn(&Segment);
    let losses: [Loss; 2] = [
        |newest| {
            let file = fs::OpenOptions::new().write(true).open(&newest.path).unwrap();
            file.set_len(segment::HEADER as u64).unwrap();
        },
        |newest| fs::remove_file(&newest.path).unwrap(),
    ];
    for lose in losses {
        let cache = cache(true).await;
        let newest = segments(cache.path()).pop().unwrap();
        let whole = fs::read(&newest.path).unwrap();
        lose(&newest);
        // A header and the first of the entries: so far it came.
        let (_, first) = frame::parse(&whole[segment::HEADER..]).unwrap();
        let next = segment::path(&cache.path().join(JOURNAL), newest.number + 1);
        for written in [0, segment::HEADER, segment::HEADER + first] {
            let copied = tempfile::tempdir().unwrap();
            crate::store::faulty::copy(cache.path(), copied.path());
            let next = copied.path().join(next.strip_prefix(cache.path()).unwrap());
            fs::write(&next, &whole[..written]).unwrap();
            let (store, notices) = reopen(copied.path());
            let back = |notice: &Notice| matches!(notice, Notice::WrittenBack { .. });
            assert!(notices.iter().any(back), "{written}: {notices:?}");
            drop(store);
            // From the journal alone.
            fs::remove_dir_all(copied.path().join(STORE)).unwrap();
            let (store, _) = reopen(copied.path());
            assert_eq!(missing(&store), NONE, "{written}");
        }
    }
}

#[tokio::test]
async fn a_journal_that_has_lost_its_end_gets_back_what_the_trees_have_of_it() {
    let cache = cache(true).await;
    let newest = segments(cache.path()).pop().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&newest.path).unwrap();
    file.set_len(segment::HEADER as u64).unwrap();
    let (store, notices) = reopen(cache.path());
    let next = segment::path(&cache.path().join(JOURNAL), newest.number + 1);
    assert_eq!(
        notices,
        [
            Notice::Short {
                path: newest.path,
                served: true
            },
            Notice::WrittenBack {
                path: next,
                entries: 4
            },
        ]
    );
    assert_eq!(missing(&store), NONE);
    keep(&store, [99]).await;
    drop(store);
    let (store, notices) = reopen(cache.path());
    assert_eq!(notices, []);
    assert!(is_there(&store, 99) && missing(&store).is_empty());
    drop(store);
    // From the journal alone.
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let (store, notices) = reopen(cache.path());
    assert!(
        matches!(notices[..], [Notice::Rebuilt { kept: false, .. }]),
        "{notices:?}"
    );
    assert!(is_there(&store, 99) && missing(&store).is_empty());
}

/// What is left of a record that was cut through is no damage for ever.
#[tokio::test]
async fn a_record_that_was_cut_through_goes_once_it_is_written_back() {
    let cache = cache(true).await;
    let newest = segments(cache.path()).pop().unwrap();
    let last = places(cache.path()).pop().unwrap().1;
    let file = fs::OpenOptions::new().write(true).open(&newest.path).unwrap();
    file.set_len(newest.len - 10).unwrap();
    let (store, notices) = reopen(cache.path());
    assert!(
        matches!(
            notices[..],
            [
                Notice::Short { served: true, .. },
                Notice::WrittenBack { entries: 1, .. }
            ]
        ),
        "{notices:?}"
    );
    assert_eq!(missing(&store), NONE);
    drop(store);
    assert_eq!(fs::metadata(&newest.path).unwrap().len(), last.offset);
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let (store, notices) = reopen(cache.path());
    assert!(
        matches!(notices[..], [Notice::Rebuilt { kept: false, .. }]),
        "{notices:?}"
    );
    assert_eq!(missing(&store), NONE);
}

#[tokio::test]
async fn old_trees_stay_where_the_journal_has_lost_what_they_held() {
    let original = cache(true).await;
    let newest = segments(original.path()).pop().unwrap();
    let last = places(original.path()).pop().unwrap().1;
    // At the end of a record, in the middle of one, and with a flip in the last.
    for (len, flipped) in [
        (last.offset, None),
        (last.offset + 70, None),
        (newest.len, Some(last.offset + 70)),
    ] {
        let cache = tempfile::tempdir().unwrap();
        copy(original.path(), cache.path());
        fs::remove_file(generation(cache.path(), 1).join("db")).unwrap();
        let path = segment::path(&cache.path().join(JOURNAL), newest.number);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        if let Some(offset) = flipped {
            flip(&path, offset);
        }
        let (store, notices) = reopen(cache.path());
        assert_eq!(missing(&store), [ANSWERS - 1]);
        let short = Notice::Short { path, served: false };
        assert!(notices.contains(&short), "{notices:?}");
        assert!(matches!(notices.last(), Some(Notice::Rebuilt { kept: true, .. })));
        assert!(generation(cache.path(), 1).is_dir());
    }
}

#[tokio::test]
async fn numbers_go_on_where_they_ended() {
    let cache = cache(true).await;
    let seqs = |store: &LocalStore| -> Vec<u64> {
        let lines = store.entries().unwrap().map(|line| line.unwrap().unwrap());
        lines.map(|logged| logged.seq).collect()
    };
    for damage in [None, Some(STORE), Some(JOURNAL), None] {
        if let Some(folder) = damage {
            fs::remove_dir_all(cache.path().join(folder)).unwrap();
        }
        let (store, _) = reopen(cache.path());
        let before = seqs(&store).last().copied().unwrap_or(ANSWERS);
        keep(&store, [99]).await;
        let all = seqs(&store);
        assert!(all.is_sorted_by(|a, b| a < b));
        assert!(*all.last().unwrap() > before, "{damage:?}");
        store.close().unwrap();
    }
}

/// All files of a folder with what is in them.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => all.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    all.retain(|(path, _)| !path.ends_with("lock"));
    all.sort();
    all
}

#[tokio::test]
async fn what_a_newer_septet_wrote_is_refused_and_not_touched() {
    let newer_segment = |cache: &Path| {
        let path = segments(cache)[0].path.clone();
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..12]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        fs::write(path, bytes).unwrap();
    };
    let newer_checkpoint = |cache: &Path| {
        let line = r#"{"format":3}"#;
        let text = format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes()));
        fs::write(checkpoint::path(&generation(cache, 1)), text).unwrap();
    };
    let newer_frame = |cache: &Path| {
        let path = segments(cache).pop().unwrap().path;
        let mut bytes = fs::read(&path).unwrap();
        let mut frame = frame::encode(&samples::answer(99)).unwrap();
        frame[28] = 2;
        frame::stamp(&mut frame, 1000);
        bytes.extend_from_slice(&frame);
        fs::write(path, bytes).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [(Change<'_>, u32); 3] = [(&newer_segment, 2), (&newer_checkpoint, 3), (&newer_frame, 2)];
    for (case, (change, newer)) in changes.into_iter().enumerate() {
        let cache = cache(true).await;
        change(cache.path());
        let before = contents(&cache.path().join(JOURNAL));
        let trees = fs::read(checkpoint::path(&generation(cache.path(), 1))).unwrap();
        let error = LocalStore::open(cache.path(), |_| {}).err().expect("refused");
        assert!(
            matches!(error, StoreError::Newer { found, known, .. } if found == newer && known == newer - 1),
            "case {case}: {error}"
        );
        assert_eq!(contents(&cache.path().join(JOURNAL)), before, "case {case}");
        assert_eq!(
            fs::read(checkpoint::path(&generation(cache.path(), 1))).unwrap(),
            trees
        );
    }
}

#[tokio::test]
async fn trees_of_an_older_septet_are_built_again() {
    let cache = cache(true).await;
    let (store, _) = reopen(cache.path());
    store.note(samples::attempt(7)).await.unwrap();
    store.note(samples::fault(7)).await.unwrap();
    store.close().unwrap();
    let path = checkpoint::path(&generation(cache.path(), 1));
    let text = fs::read_to_string(&path).unwrap();
    // Older trees have no such shelves, and their checkpoint does not speak of runs.
    let mut checkpoint: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    checkpoint["format"] = 1.into();
    checkpoint.as_object_mut().unwrap().remove("runs");
    let line = checkpoint.to_string();
    fs::write(
        path,
        format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes())),
    )
    .unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(notices.len(), 1);
    assert!(
        notices[0].to_string().contains("an older septet wrote it"),
        "{}",
        notices[0]
    );
    assert_eq!(missing(&store), NONE);
    assert_eq!(store.calls(&samples::instance(7)).unwrap().len(), 2);
    drop(store);
    assert_eq!(reopen(cache.path()).1, []);
}

#[tokio::test]
async fn a_second_opener_is_told_who_holds_it() {
    let cache = cache(true).await;
    let (store, _) = reopen(cache.path());
    let error = LocalStore::open(cache.path(), |_| {}).err().expect("refused");
    let expected = format!("another process holds the cache {}: ", cache.path().display());
    assert!(error.to_string().starts_with(&expected), "{error}");
    drop(store);
    reopen(cache.path());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_rebuilding_is_made_good() {
    let cache = cache(true).await;
    // The next trees as a crash leaves them: begun, without a checkpoint. The old ones broken.
    drop(Trees::open(&generation(cache.path(), 2), NEW_LIMIT, None).unwrap());
    fs::remove_file(generation(cache.path(), 1).join("db")).unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(missing(&store), NONE);
    assert_eq!(notices.len(), 1);
    let left: Vec<_> = generations::list(&cache.path().join(STORE))
        .unwrap()
        .into_iter()
        .map(|(number, _)| number)
        .collect();
    assert_eq!(left, [3]);
}

/// What was paid is the same sum whichever way a store comes up.
#[tokio::test]
async fn what_was_paid_is_known_however_the_store_is_opened() {
    let usd = crate::call::Money::from_usd;
    let priced = |n: u64| {
        Entry::Answer(crate::store::Record {
            cost: Some(usd(n as f64 / 1000.0)),
            ..samples::record(n, "text")
        })
    };
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = reopen(cache.path());
    for n in 1..=10 {
        store.keep(priced(n)).await.unwrap();
    }
    store.close().unwrap();
    let paid = |store: &LocalStore| store.spending().total().paid;
    let (store, _) = reopen(cache.path());
    assert_eq!(paid(&store), usd(0.055), "closed in peace");
    store.keep(priced(11)).await.unwrap();
    let Entry::Attempt(sent) = samples::attempt(77) else {
        unreachable!("an attempt is one")
    };
    let begun = crate::store::Sent {
        reserved: Some(usd(0.002)),
        ..sent
    };
    store.note(Entry::Attempt(begun)).await.unwrap();
    drop(store);
    let expected = usd(0.066);
    let (store, _) = reopen(cache.path());
    assert_eq!(paid(&store), expected, "not closed: replayed, each once");
    let spent = store.spending().total();
    assert_eq!(spent.counted() - spent.paid, usd(0.002), "a call without an end");
    store.close().unwrap();
    let path = |folder: &Path| checkpoint::path(&generations::current(&folder.join(STORE)).unwrap().unwrap());
    let old = fs::read_to_string(path(cache.path())).unwrap();
    let (line, _) = old.split_once('\n').unwrap();
    let mut json: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(json.as_object_mut().unwrap().remove("spending").is_some());
    let line = json.to_string();
    fs::write(
        path(cache.path()),
        format!("{line}\n{:08x}\n", crc32fast::hash(line.as_bytes())),
    )
    .unwrap();
    let (store, notices) = reopen(cache.path());
    assert_eq!(
        (paid(&store), notices),
        (expected, vec![]),
        "the checkpoint of an older septet"
    );
    drop(store);
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    let (store, _) = reopen(cache.path());
    assert_eq!(paid(&store), expected, "rebuilt from the journal");
}

/// Found by a loop of kills on a full disk: the first open of all that ends in its middle.
#[tokio::test]
async fn a_first_open_that_was_cut_off_leaves_nothing_to_tell() {
    use crate::store::faulty::{Fault, FaultyDisk};
    for step in 0.. {
        let cache = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::default();
        disk.fail(step, Fault::Dead, |_| true);
        let settings = Settings {
            disk: Arc::new(disk.clone()),
            ..small()
        };
        let opened = LocalStore::open_with(cache.path(), &settings, |_| {});
        if disk.operations().len() <= step {
            opened.unwrap();
            assert!(step > 3, "{step}");
            break;
        }
        drop(opened);
        let (store, notices) = reopen(cache.path());
        assert_eq!(notices, [], "step {step}");
        keep(&store, [1]).await;
    }
}

/// Killed while it takes in what the journal has behind a clean end, it leaves trees that hold more than
/// was counted, and more than their filters know.
#[tokio::test]
async fn before_anything_is_replayed_the_trees_are_not_clean_any_more() {
    let cache = tempfile::tempdir().unwrap();
    let (store, _) = reopen(cache.path());
    keep(&store, 0..3).await;
    store.close().unwrap();
    let older = tempfile::tempdir().unwrap();
    copy(&cache.path().join(STORE), older.path());
    let (store, _) = reopen(cache.path());
    let long = |n: u64| {
        let mut rng = fastrand::Rng::with_seed(n);
        let text: String = (0..400_000).map(|_| rng.alphanumeric()).collect();
        Entry::Answer(samples::record(n, &text))
    };
    for n in 10..16 {
        store.keep(long(n)).await.unwrap();
    }
    store.close().unwrap();
    // The trees of before, beside all of the journal: as put back from a backup.
    fs::remove_dir_all(cache.path().join(STORE)).unwrap();
    copy(older.path(), &cache.path().join(STORE));
    let killed = tempfile::tempdir().unwrap();
    let mut told = 0;
    let (store, notices) = LocalStore::open_with(cache.path(), &small(), |progress| {
        assert_eq!(progress.phase, Phase::Replay);
        let checkpoint::Found::Good(checkpoint) = checkpoint::read(&generation(cache.path(), 1)).unwrap()
        else {
            panic!("there is one");
        };
        assert!(!checkpoint.clean && checkpoint.keys.is_none(), "{checkpoint:?}");
        if told == 1 {
            copy(cache.path(), killed.path());
        }
        told += 1;
    })
    .unwrap();
    assert!(told > 1 && notices.is_empty(), "{told} {notices:?}");
    store.close().unwrap();
    for cache in [cache.path(), killed.path()] {
        let (store, notices) = reopen(cache);
        assert_eq!(notices, []);
        assert_eq!(store.stats().unwrap().answers, 9);
        for n in 10..16 {
            assert_eq!(
                store.stored(&samples::key(n)).unwrap().map(Entry::Answer),
                Some(long(n))
            );
        }
    }
}
