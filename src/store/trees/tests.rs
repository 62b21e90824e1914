use std::io;

use super::*;
use crate::store::put::{self, Gist, Written};
use crate::store::record::Entry;
use crate::store::shelves::PART_BYTES;
use crate::store::{frame, samples};

const LIMIT: Duration = Duration::from_secs(60);

fn written(seq: u64, entry: Entry) -> Written {
    let mut bytes = frame::encode(&entry).unwrap();
    frame::stamp(&mut bytes, seq);
    Written::new(Gist::from(&entry), seq, bytes)
}

fn fill(trees: &Trees, written: &Written) {
    written.puts.iter().for_each(|put| trees.put(put).unwrap());
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        format: checkpoint::FORMAT,
        store: 0,
        seal: 0,
        segment: 1,
        offset: 16,
        next_seq: 1,
        clean: false,
        records: BTreeMap::new(),
        unfinished: Vec::new(),
        runs: Default::default(),
        spending: None,
        keys: None,
    }
}

/// An answer of about `len` bytes that cannot be packed to much less than three quarters.
fn large(n: u64, len: usize) -> Entry {
    let mut rng = fastrand::Rng::with_seed(n);
    let mut record = samples::record(n, "");
    record.answer.text = (0..len).map(|_| rng.alphanumeric()).collect();
    Entry::Answer(record)
}

fn get(trees: &Trees, n: u64) -> Option<Entry> {
    let value = trees.get(Shelf::Answers, samples::key(n).as_bytes()).unwrap()?;
    Some(frame::parse_whole(&value).unwrap().entry().unwrap())
}

fn fresh(folder: &Path) -> Trees {
    Trees::open(folder, LIMIT, None).unwrap()
}

/// Trees with `answers` in them, closed cleanly or dropped; and their checkpoint.
fn filled(folder: &Path, answers: u64, clean: bool) -> Checkpoint {
    let trees = fresh(folder);
    (0..answers).for_each(|n| fill(&trees, &written(n, samples::answer(n))));
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    checkpoint.clean = clean;
    match clean {
        true => trees.close(checkpoint.clone()).unwrap(),
        false => drop(trees),
    }
    checkpoint
}

fn reason(folder: &Path, checkpoint: Checkpoint) -> String {
    match Trees::open(folder, LIMIT, Some(checkpoint)) {
        Err(Closed::Broken(reason)) => reason,
        Err(Closed::Disk(error)) => panic!("{error}"),
        Ok(_) => panic!("they were opened"),
    }
}

#[test]
fn what_was_walked_through_is_forgotten_and_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    let attempts = |n: u64| {
        let instance = samples::instance(n);
        (0..40).map(move |attempt| {
            let mut sent = samples::sent(n);
            (sent.instance, sent.attempt) = (instance.clone(), attempt);
            Entry::Attempt(sent)
        })
    };
    const INSTANCES: u64 = 1_200;
    let mut seq = 0;
    for entry in (0..INSTANCES).flat_map(attempts).chain([samples::answer(7)]) {
        seq += 1;
        fill(&trees, &written(seq, entry));
    }
    let walk = |trees: &Trees, from: u64| {
        let prefixes = (from..INSTANCES).map(|n| put::calls_prefix(&samples::instance(n)));
        prefixes
            .map(|prefix| trees.with_prefix(Shelf::Calls, &prefix).unwrap().len())
            .sum::<usize>()
    };
    // Not while something was put that is not durable yet.
    let all = 40 * INSTANCES as usize;
    assert_eq!(walk(&trees, 0), all);
    assert!(
        trees.walked.load(Ordering::Relaxed) > trees.most_walked,
        "there is enough to walk through"
    );
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    checkpoint.clean = true;
    trees.close(checkpoint.clone()).unwrap();
    let trees = open(folder.path());
    let counts = |trees: &Trees| Shelf::ALL.map(|shelf| trees.count(shelf));
    let before = counts(&trees);
    // Two threads, of which one opens sled anew while the other asks it.
    std::thread::scope(|scope| {
        let other = scope.spawn(|| (0..3_000).all(|_| get(&trees, 7).is_some()));
        assert_eq!((walk(&trees, 0), walk(&trees, 0)), (all, all));
        assert!(other.join().unwrap());
    });
    assert!(
        trees.walked.load(Ordering::Relaxed) < trees.most_walked,
        "it was opened anew"
    );
    assert_eq!(counts(&trees), before);
    assert!(
        trees.denies(Shelf::Answers, samples::key(8).as_bytes()),
        "and kept its filter"
    );
    fill(&trees, &written(seq + 1, samples::answer(8)));
    assert!(get(&trees, 8).is_some());
    trees.sync(&mut checkpoint).unwrap();
    trees.close(checkpoint).unwrap();
    let trees = open(folder.path());
    assert!(get(&trees, 7).is_some() && get(&trees, 8).is_some());
}

#[test]
fn what_is_put_is_there_after_a_restart_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = filled(folder.path(), 50, true);
    for clean in [true, false] {
        checkpoint.clean = clean;
        let trees = Trees::open(folder.path(), LIMIT, Some(checkpoint.clone())).unwrap();
        assert_eq!(trees.count(Shelf::Answers), 50);
        assert_eq!(trees.count(Shelf::Marks), 0, "no mark ends that was never set");
        assert!(!trees.have_marks().unwrap());
        assert_eq!(get(&trees, 17), Some(samples::answer(17)));
        assert_eq!(get(&trees, 99), None);
    }
}

#[test]
fn a_second_value_under_a_key_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    fill(&trees, &written(1, samples::answer(1)));
    fill(&trees, &written(2, large(1, 1000)));
    assert_eq!(get(&trees, 1), Some(large(1, 1000)));
    assert_eq!(trees.count(Shelf::Answers), 1);
}

#[test]
fn a_mark_ends_and_is_told_from_one_that_was_never_set() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    let mark = || {
        let key = crate::store::put::mark_key(&samples::instance(1));
        let value = trees.get(Shelf::Marks, &key).unwrap()?;
        let frame = frame::parse_whole(&value).unwrap();
        Some((frame.seq, frame.is_empty()))
    };
    fill(&trees, &written(1, samples::refresh(1)));
    assert_eq!(mark(), Some((1, false)));
    fill(&trees, &written(2, samples::answer(1)));
    assert_eq!(mark(), Some((2, true)));
    assert!(trees.have_marks().unwrap());
}

#[test]
fn blobs_stay_empty_whatever_the_sizes() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    // The worst case for a node is full of values just short enough not to be cut.
    let worst = (0..200).map(|n| large(n, PART_BYTES * 5 / 4));
    let others = [1, 2_000, 100_000, 400_000, 3_000_000]
        .into_iter()
        .flat_map(|len| (0..4).map(move |n| large(1000 + len as u64 * 10 + n, len)));
    let entries: Vec<_> = worst.chain(others).collect();
    let mut whole = 0;
    for (seq, entry) in entries.iter().enumerate() {
        let written = written(seq as u64, entry.clone());
        whole += usize::from((PART_BYTES * 9 / 10..=PART_BYTES).contains(&written.frame.len()));
        fill(&trees, &written);
    }
    assert!(whole > 150, "{whole} values are of the worst size");
    trees.sync(&mut checkpoint()).unwrap();
    let blobs = fs::read_dir(folder.path().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0);
    for entry in &entries {
        let Entry::Answer(record) = entry else {
            panic!("all are answers");
        };
        let value = trees.get(Shelf::Answers, record.key.as_bytes()).unwrap().unwrap();
        assert_eq!(frame::parse_whole(&value).unwrap().entry().unwrap(), *entry);
    }
}

#[test]
fn what_the_checkpoint_vouches_for_has_to_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let good = filled(folder.path(), 20, false);
    let mut more = good.clone();
    more.records.insert("answers-v1".to_owned(), 21);
    assert_eq!(
        reason(folder.path(), more.clone()),
        "`answers-v1` has 20 of 21 records"
    );
    more.clean = true;
    assert!(
        Trees::open(folder.path(), LIMIT, Some(more)).is_ok(),
        "not counted after a clean end"
    );
    let later = Checkpoint {
        seal: 2,
        ..good.clone()
    };
    assert_eq!(reason(folder.path(), later), "what was written last is not there");
    let other = Checkpoint {
        store: 1,
        ..good.clone()
    };
    assert_eq!(reason(folder.path(), other), "it belongs to another checkpoint");
    fs::remove_file(folder.path().join("db")).unwrap();
    let clean = Checkpoint { clean: true, ..good };
    assert!(Trees::open(folder.path(), LIMIT, Some(clean)).is_err());
}

#[test]
fn a_failure_is_the_end_and_leaves_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    trees.mark(&checkpoint).unwrap();
    assert!(checkpoint::path(folder.path()).exists());
    let failed = trees.ask(|_| -> sled::Result<()> { panic!("page 7 is gone") });
    let expected = format!(
        "the look-up tree {} failed: panic: page 7 is gone",
        folder.path().display()
    );
    assert_eq!(failed.unwrap_err().to_string(), expected);
    assert_eq!(
        trees.get(Shelf::Answers, b"x").err().unwrap().to_string(),
        expected
    );
    trees.mark(&checkpoint).unwrap();
    assert!(!checkpoint::path(folder.path()).exists());
    assert_eq!(trees.close(checkpoint).unwrap_err().to_string(), expected);
}

#[test]
fn a_full_disk_is_the_end_but_no_reason_to_build_anew() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    trees.mark(&checkpoint).unwrap();
    let full = || -> sled::Result<()> { Err(io::Error::from(io::ErrorKind::StorageFull).into()) };
    assert!(matches!(trees.ask(|_| full()), Err(StoreError::Tree { .. })));
    assert!(trees.get(Shelf::Answers, b"x").is_err());
    assert!(!trees.are_distrusted());
    assert!(checkpoint::path(folder.path()).exists());
}

/// What comes out of trees after their file was changed: everything, or that they are broken.
fn open_damaged(folder: &Path, checkpoint: &Checkpoint, answers: u64) -> Result<(), String> {
    let trees = match Trees::open(folder, LIMIT, Some(checkpoint.clone())) {
        Ok(trees) => trees,
        Err(Closed::Broken(reason)) => return Err(reason),
        Err(Closed::Disk(error)) => panic!("{error}"),
    };
    for n in 0..answers {
        let value = trees.get(Shelf::Answers, samples::key(n).as_bytes());
        let value = value.map_err(|error| error.to_string())?;
        let value = value.ok_or("an answer is gone without a word")?;
        let entry = frame::parse_whole(&value)?.entry()?;
        assert_eq!(entry, samples::answer(n), "a wrong answer");
    }
    Ok(())
}

#[test]
fn damage_to_any_file_of_sled_is_seen_or_does_no_harm() {
    const ANSWERS: u64 = 300;
    for (clean, reopened) in [(true, true), (false, true), (true, false), (false, false)] {
        let original = tempfile::tempdir().unwrap();
        let checkpoint = filled(original.path(), ANSWERS, clean);
        // sled writes its snapshot when it opens.
        if reopened {
            drop(Trees::open(original.path(), LIMIT, Some(checkpoint.clone())).unwrap());
        }
        let files: Vec<_> = fs::read_dir(original.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| *name == "db" || *name == "conf" || name.starts_with("snap."))
            .collect();
        assert!(files.len() >= 2, "{files:?}");
        let mut rng = fastrand::Rng::with_seed(7);
        let mut broken = 0;
        for round in 0..24 {
            let copy = tempfile::tempdir().unwrap();
            crate::store::faulty::copy(original.path(), copy.path());
            let file = copy.path().join(&files[round % files.len()]);
            let mut bytes = fs::read(&file).unwrap();
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            match round / files.len() % 3 {
                0 => bytes.truncate(rng.usize(..written)),
                1 => bytes[rng.usize(..written)] ^= 1 << rng.u32(..8),
                _ => bytes[rng.usize(..written / 2)..][..written / 4].fill(0),
            }
            fs::write(&file, bytes).unwrap();
            match open_damaged(copy.path(), &checkpoint, ANSWERS) {
                Ok(()) => {}
                Err(reason) if reason == "an answer is gone without a word" => {
                    panic!("round {round}: {file:?}: {reason}")
                }
                Err(_) => broken += 1,
            }
        }
        assert!(broken > 6, "only {broken} of 24 damages were met at all");
    }
}

/// sled's notes of where everything lies: they have another name whenever they were made anew.
fn layouts(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    names.retain(|name| name.starts_with("snap."));
    names.sort();
    names
}

#[test]
fn after_very_many_puts_the_layout_is_noted_for_the_next_open() {
    for (puts, noted) in [(0, false), (MANY_PUTS, true)] {
        let folder = tempfile::tempdir().unwrap();
        let trees = fresh(folder.path());
        (0..200).for_each(|n| fill(&trees, &written(n, samples::answer(n))));
        let mut checkpoint = checkpoint();
        trees.sync(&mut checkpoint).unwrap();
        let before = layouts(folder.path());
        trees.puts.fetch_add(puts, Ordering::Relaxed);
        trees.close(checkpoint.clone()).unwrap();
        assert_eq!(layouts(folder.path()) != before, noted, "{puts} puts");
        let again = Trees::open(folder.path(), LIMIT, Some(checkpoint)).unwrap();
        assert_eq!(
            (again.count(Shelf::Answers), get(&again, 199)),
            (200, Some(samples::answer(199)))
        );
    }
}

#[test]
fn what_is_looked_for_before_it_is_there_is_found_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    for n in 0..300 {
        assert_eq!(get(&trees, n), None);
        fill(&trees, &written(n, samples::answer(n)));
        assert_eq!(get(&trees, n), Some(samples::answer(n)));
    }
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    trees.close(checkpoint.clone()).unwrap();
    let again = Trees::open(folder.path(), LIMIT, Some(checkpoint)).unwrap();
    assert!((0..300).all(|n| get(&again, n) == Some(samples::answer(n))));
    assert_eq!(get(&again, 300), None);
}

/// What lies beside trees that were closed.
fn on_disk(folder: &Path) -> Checkpoint {
    match checkpoint::read(folder).unwrap() {
        checkpoint::Found::Good(checkpoint) => *checkpoint,
        other => panic!("{other:?}"),
    }
}

fn open(folder: &Path) -> Trees {
    Trees::open(folder, LIMIT, Some(on_disk(folder))).unwrap()
}

/// How many of a hundred answers that were never put are known not to be there.
fn denied(trees: &Trees) -> usize {
    let denies = |n: &u64| trees.denies(Shelf::Answers, samples::key(*n).as_bytes());
    (1_000_000..1_000_100).filter(denies).count()
}

fn close(trees: Trees) {
    let mut checkpoint = checkpoint();
    trees.sync(&mut checkpoint).unwrap();
    trees.mark(&checkpoint).unwrap();
    trees.close(checkpoint).unwrap();
}

#[test]
fn what_was_never_put_is_known_without_asking_also_after_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 300, true);
    for more in [300, 500, 700] {
        let trees = open(folder.path());
        assert!(denied(&trees) > 95, "{}", denied(&trees));
        for n in more..more + 200 {
            assert!(trees.denies(Shelf::Answers, samples::key(n).as_bytes()) || get(&trees, n).is_none());
            fill(&trees, &written(n, samples::answer(n)));
            fill(&trees, &written(n, samples::source(n)));
        }
        close(trees);
        let trees = open(folder.path());
        assert!((0..more + 200).all(|n| get(&trees, n) == Some(samples::answer(n))));
        let source = |n| {
            trees
                .get(Shelf::Sources, samples::source_id(n).as_bytes())
                .unwrap()
        };
        assert!((300..more + 200).all(|n| source(n).is_some()));
        assert!(trees.denies(Shelf::Notes, b"persona-1"), "no note was ever put");
        assert!(
            !trees.denies(Shelf::Calls, b"persona-1"),
            "nobody looks for single calls"
        );
    }
}

#[test]
fn an_unclean_end_makes_the_filter_anew() {
    let folder = tempfile::tempdir().unwrap();
    let unclean = filled(folder.path(), 300, false);
    for _ in 0..2 {
        let trees = Trees::open(folder.path(), LIMIT, Some(unclean.clone())).unwrap();
        assert!(denied(&trees) > 95, "{}", denied(&trees));
        assert!((0..300).all(|n| get(&trees, n) == Some(samples::answer(n))));
    }
}

#[test]
fn trees_whose_filter_is_not_to_be_believed_go_without() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 50, true);
    let (before, keys) = (on_disk(folder.path()), keys::path(folder.path()));
    let filter = fs::read(&keys).unwrap();
    // A septet that knows nothing of it goes on, and ends cleanly.
    let trees = open(folder.path());
    (50..60).for_each(|n| fill(&trees, &written(n, samples::answer(n))));
    close(trees);
    let after = on_disk(folder.path());
    let unnamed = Checkpoint {
        keys: None,
        ..after.clone()
    };
    // The last: also the checkpoint of then, with which it agrees; the trees have another seal.
    for checkpoint in [&unnamed, &after, &before] {
        fs::write(&keys, &filter).unwrap();
        let trees = Trees::open(folder.path(), LIMIT, Some(checkpoint.clone())).unwrap();
        assert_eq!(denied(&trees), 0);
        assert!(
            (0..60).all(|n| get(&trees, n) == Some(samples::answer(n))),
            "{checkpoint:?}"
        );
        drop(trees);
        // And it is not taken for one that knows all keys when they are closed.
        let trees = Trees::open(folder.path(), LIMIT, Some(checkpoint.clone())).unwrap();
        fill(&trees, &written(70, samples::answer(70)));
        let mut synced = checkpoint.clone();
        synced.seal = trees.seal.load(Ordering::Relaxed);
        trees.close(synced).unwrap();
        let trees = open(folder.path());
        assert!(
            (0..60)
                .chain([70])
                .all(|n| get(&trees, n) == Some(samples::answer(n)))
        );
    }
}

#[test]
fn a_filter_that_cannot_be_written_is_none_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(keys::path(folder.path())).unwrap();
    filled(folder.path(), 50, true);
    assert_eq!(on_disk(folder.path()).keys, None);
    let trees = open(folder.path());
    assert_eq!((denied(&trees), trees.count(Shelf::Answers)), (0, 50));
}

#[test]
fn a_lock_that_is_not_freed_is_no_reason_to_build_new_trees() {
    let folder = tempfile::tempdir().unwrap();
    let trees = fresh(folder.path());
    // As the trees are opened, but without patience.
    let again = sled_file::config(folder.path()).open();
    let Err(sled::Error::Io(error)) = again else {
        panic!("{again:?}");
    };
    assert!(sled_file::is_lock(&error), "{error}");
    let failure = trees.settled::<()>(Ok(Err(sled::Error::Io(error)))).unwrap_err();
    assert!(failure.to_string().contains("lock"), "{failure}");
    assert!(trees.failure().is_some() && !trees.are_distrusted());
}
