use std::path::Path;

use super::*;
use crate::call::Usage;
use crate::store::samples;

const RUN: &str = "20261123-223015-4f2a";

fn open(cache: &Path) -> LocalStore {
    LocalStore::open(cache, |_| {}).unwrap().0
}

async fn note(store: &LocalStore, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        store.note(entry).await.unwrap();
    }
}

fn start() -> Entry {
    Entry::Start {
        run: RUN.into(),
        at_ms: 1_795_473_000_000,
        about: json!({"event": "run_started", "personas": 3, "nodes": ["chunk-1"], "models": ["gpt-6-luna"]}),
    }
}

/// An attempt that is known to cost at most a cent.
fn attempt(n: u64) -> Entry {
    let mut sent = samples::sent(n);
    sent.input = Some(1_800);
    sent.most_cost = Some(Money::from_usd(0.01));
    Entry::Attempt(sent)
}

fn answer(n: u64) -> Entry {
    let mut record = samples::record(n, "yes");
    record.cost = Some(Money::from_usd(0.002));
    Entry::Answer(record)
}

fn rejected(n: u64) -> Entry {
    let Entry::Rejected {
        mut record,
        rejection,
    } = samples::rejected(n)
    else {
        panic!("not rejected")
    };
    record.cost = Some(Money::from_usd(0.001));
    Entry::Rejected { record, rejection }
}

/// One call that ended in each way, and two that did not.
async fn die(store: &LocalStore) {
    note(store, [start()]).await;
    note(store, (1..=5).map(attempt)).await;
    note(
        store,
        [
            answer(1),
            rejected(2),
            samples::fault(3),
            samples::transcript(1, "aa"),
        ],
    )
    .await;
}

fn summary(store: &LocalStore) -> (Value, Account) {
    let runs = store.runs().unwrap();
    match &runs[..] {
        [Entry::Run { summary, account, .. }] => (summary.clone(), *account.clone().unwrap()),
        other => panic!("{} runs", other.len()),
    }
}

fn died() -> Died {
    Died {
        fetchable: 0,
        run: RUN.into(),
        open: PossiblyBilled {
            calls: 2,
            most: Some(Money::from_usd(0.02)),
        },
    }
}

#[tokio::test]
async fn a_run_that_died_gets_its_end_from_what_it_left_and_is_told_of_once() {
    for lose_trees in [false, true] {
        let cache = tempfile::tempdir().unwrap();
        let store = open(cache.path());
        // What others did before is none of its doing.
        note(&store, [samples::answer(9), samples::transcript(9, "aa")]).await;
        let mut other = samples::record(8, "theirs");
        other.run = "earlier".into();
        note(&store, [Entry::Answer(other)]).await;
        die(&store).await;
        assert_eq!(store.bury().await.unwrap(), [], "as of the open");
        drop(store);
        if lose_trees {
            std::fs::remove_dir_all(cache.path().join("store")).unwrap();
        }
        let store = open(cache.path());
        assert_eq!(store.bury().await.unwrap(), [died()]);
        let (run, account) = summary(&store);
        insta::allow_duplicates! {
            insta::assert_snapshot!(run, @r#"{"calls":{"abandoned":2,"faulted":1,"ok":1,"rejected":1,"sent":5},"cost_usd":0.003,"elapsed_s":20.0,"event":"run_finished","failures":[],"nodes":{"cached":0,"called":1,"failed":0,"pending":2,"skipped":0,"total":3},"open":{"calls":2,"most":20000000000},"outcome":"died","personas":{"failed":0,"kept":0,"pending":2,"total":3,"unchanged":0,"written":1},"prompt_cache":{"read_share":0.0,"write_share":0.0},"run":"20261123-223015-4f2a","saved_usd":null,"tokens":{"cache_write":0,"cached_input":0,"input":4000,"output":1400,"reasoning":0,"total":5400}}"#);
        }
        assert_eq!(account.possibly_billed, died().open);
        assert_eq!(
            (account.models[0].model.as_str(), account.models[0].answers),
            ("gpt-6-luna", 2)
        );
        let node = &account.nodes[0];
        assert_eq!((node.answers, node.rejected, node.estimated_input), (1, 1, 1_800));
        assert_eq!(
            store.history().unwrap().input_ratio("gpt-6-luna"),
            Some(2_000.0 / 1_800.0)
        );
        let calls = store.calls(&samples::instance(4)).unwrap();
        assert!(matches!(&calls[1].what, Entry::Fault { kind: None, message, .. } if message == WAITING));
        store.close().unwrap();
        let store = open(cache.path());
        assert_eq!(store.bury().await.unwrap(), []);
        assert_eq!(store.unfinished(), []);
        assert_eq!(summary(&store).0, run);
        // Whoever runs next is told, and whoever comes after that is not.
        assert_eq!(store.died_last().unwrap(), Some(died()));
        note(&store, [samples::run(3)]).await;
        assert_eq!(store.died_last().unwrap(), None);
    }
}

#[tokio::test]
async fn the_open_calls_of_a_run_that_ended_are_its_own() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    die(&store).await;
    let end = Entry::Run {
        run: RUN.into(),
        at_ms: 7,
        summary: json!({"outcome": "fatal"}),
        account: None,
        about: Value::Null,
    };
    note(&store, [end]).await;
    drop(store);
    let store = open(cache.path());
    assert_eq!(store.unfinished().len(), 2);
    assert_eq!(store.bury().await.unwrap(), []);
    assert!(matches!(
        &store.runs().unwrap()[..],
        [Entry::Run { at_ms: 7, .. }]
    ));
    drop(store);
    assert_eq!(open(cache.path()).unfinished(), []);
}

#[tokio::test]
async fn what_an_older_septet_left_is_found_without_its_start() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    note(&store, [samples::attempt(1), samples::attempt(2), answer(1)]).await;
    drop(store);
    let store = open(cache.path());
    let told = store.bury().await.unwrap();
    assert_eq!(
        (told.len(), told[0].open),
        (1, PossiblyBilled { calls: 1, most: None })
    );
    let (run, account) = summary(&store);
    assert_eq!(run["calls"]["sent"], 2);
    assert_eq!(account.models[0].model, "gpt-6-luna-2026-09-01");
    let counted: Usage = samples::record(1, "").answer.usage;
    assert_eq!(account.models[0].tokens, TokenCounts::from(&counted));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_to_damage_is_not_told_of_as_one_that_was_waited_for() {
    let cache = tempfile::tempdir().unwrap();
    let store = open(cache.path());
    let run = Entry::Run {
        run: RUN.into(),
        at_ms: 1_795_473_030_000,
        summary: json!({"event": "run_finished"}),
        account: None,
        about: serde_json::Value::Null,
    };
    note(&store, [start(), attempt(1), answer(1), run]).await;
    store.close().unwrap();
    let journal = cache.path().join("journal/00000001.log");
    let mut bytes = std::fs::read(&journal).unwrap();
    // In the answer: the last frame but one.
    let mark = |window: &[u8]| window == *b"\xF7sep";
    let frames: Vec<_> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, w)| mark(w))
        .map(|(at, _)| at)
        .collect();
    bytes[frames[2] + 80] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    std::fs::remove_dir_all(cache.path().join("store")).unwrap();
    let store = open(cache.path());
    assert_eq!(store.bury().await.unwrap(), [], "its run has its end");
    let [.., last] = &store.calls(&samples::instance(1)).unwrap()[..] else {
        panic!("no call")
    };
    let Entry::Fault {
        message,
        may_be_billed,
        ..
    } = &last.what
    else {
        panic!("{last:?}")
    };
    assert_eq!((message.as_str(), *may_be_billed), (DAMAGED, true));
}
