use super::*;
use crate::store::samples;

/// Decides over an answer with 700 tokens that was asked for under a limit of 4000, stored as
/// entry 10, and answers that were cut off: as entry and limit.
fn looked(mark: Option<u64>, limit: Option<u64>, answer: bool, cut_offs: &[(u64, Option<u64>)]) -> Looked {
    let answer = answer.then(|| (10, samples::record(1, "whole")));
    let cut_offs = cut_offs.iter().map(|&(seq, limit)| (seq, cut_off(limit)));
    decide(answer, mark, limit, || Ok::<_, ()>(cut_offs.collect())).unwrap()
}

fn cut_off(limit: Option<u64>) -> Rejected {
    let mut record = samples::record(1, "cut o");
    record.max_output_tokens = limit;
    Rejected::new(&record, Rejection::Truncated)
}

fn hit() -> Looked {
    Looked::Hit(Box::new(samples::record(1, "whole")))
}

fn again(limit: u64) -> Looked {
    Looked::Miss(Miss::CutOff(cut_off(Some(limit))))
}

fn refused(limit: Option<u64>) -> Looked {
    Looked::CutOff(cut_off(limit))
}

const TOO_LONG: Looked = Looked::Miss(Miss::TooLong { output: 700 });
const ABSENT: Looked = Looked::Miss(Miss::Absent);
const REFRESHED: Looked = Looked::Miss(Miss::Refreshed);

#[test]
fn a_finished_answer_serves_every_limit_of_at_least_its_own_length() {
    for (limit, expected) in [
        (None, hit()),
        (Some(8000), hit()),
        (Some(4000), hit()),
        (Some(700), hit()),
        (Some(699), TOO_LONG),
        (Some(1), TOO_LONG),
    ] {
        assert_eq!(looked(None, limit, true, &[]), expected, "{limit:?}");
    }
}

#[test]
fn an_answer_that_ended_under_a_limit_ends_under_it_whatever_was_counted() {
    let mut record = samples::record(1, "whole");
    record.max_output_tokens = Some(500);
    let decide = |limit| decide::<()>(Some((10, record.clone())), None, Some(limit), || Ok(vec![])).unwrap();
    assert!(matches!(decide(500), Looked::Hit(_)));
    assert_eq!(decide(499), TOO_LONG);
}

#[test]
fn a_truncated_answer_is_asked_for_again_only_under_a_larger_limit() {
    let once: &[_] = &[(5, Some(4000))];
    let rising: &[_] = &[(5, Some(4000)), (6, Some(8000)), (7, Some(2000))];
    let without: &[_] = &[(5, None), (6, Some(4000))];
    for (name, cut_offs, limit, expected) in [
        ("the same", once, Some(4000), refused(Some(4000))),
        ("smaller", once, Some(3999), refused(Some(4000))),
        ("larger", once, Some(4001), again(4000)),
        ("none", once, None, again(4000)),
        ("the largest counts", rising, Some(8000), refused(Some(8000))),
        (
            "smaller than the largest",
            rising,
            Some(5000),
            refused(Some(8000)),
        ),
        ("larger than all", rising, Some(9000), again(8000)),
        ("never limited", without, None, refused(None)),
        ("limited now", without, Some(9000), refused(None)),
    ] {
        assert_eq!(looked(None, limit, false, cut_offs), expected, "{name}");
    }
}

#[test]
fn a_finished_answer_is_served_whatever_was_cut_off() {
    let cut_offs: &[_] = &[(5, Some(4000)), (20, Some(600))];
    for (limit, expected) in [
        (Some(4000), hit()),
        (Some(700), hit()),
        (Some(650), refused(Some(4000))),
        (Some(600), refused(Some(4000))),
    ] {
        assert_eq!(looked(None, limit, true, cut_offs), expected, "{limit:?}");
    }
    assert_eq!(
        looked(None, Some(600), true, &[(20, Some(600))]),
        refused(Some(600))
    );
    assert_eq!(looked(None, Some(650), true, &[(20, Some(600))]), TOO_LONG);
}

#[test]
fn a_refresh_asks_again_once() {
    let limit = Some(4000);
    let before: &[_] = &[(5, limit)];
    let after: &[_] = &[(5, limit), (20, limit)];
    for (name, answer, cut_offs, expected) in [
        ("nothing there", false, &[][..], ABSENT),
        ("an answer", true, &[], REFRESHED),
        ("cut off before", false, before, REFRESHED),
        ("both", true, before, REFRESHED),
        ("cut off again", false, after, refused(limit)),
        ("cut off instead of a new answer", true, after, refused(limit)),
        (
            "cut off again at a smaller limit",
            false,
            &[(5, limit), (20, Some(9))],
            again(9),
        ),
    ] {
        assert_eq!(looked(Some(15), limit, answer, cut_offs), expected, "{name}");
    }
    assert_eq!(looked(Some(9), limit, true, &[]), hit(), "newer than the mark");
}

#[test]
fn bad_answers_are_asked_for_only_when_nothing_serves() {
    let answer = Some((10, samples::record(1, "whole")));
    let never = || -> Result<Vec<Numbered<Rejected>>, ()> { panic!("asked") };
    assert_eq!(decide(answer, None, Some(4000), never), Ok(hit()));
}

#[test]
fn other_bad_answers_are_a_reason_and_say_nothing_of_the_limit() {
    let bad = |rejection| Rejected::new(&samples::record(1, ""), rejection);
    let limit = Some(4000);
    for rejection in [
        Rejection::Empty,
        Rejection::Filtered,
        Rejection::Refused,
        Rejection::ToolCall,
    ] {
        let expected = Looked::Miss(Miss::Rejected(bad(rejection)));
        let newest = vec![(5, bad(Rejection::Empty)), (6, bad(rejection))];
        assert_eq!(
            decide::<()>(None, None, limit, || Ok(newest.clone())),
            Ok(expected)
        );
        assert_eq!(decide::<()>(None, Some(9), limit, || Ok(newest)), Ok(REFRESHED));
    }
    let cut_off_before = vec![(5, cut_off(limit)), (6, bad(Rejection::Empty))];
    assert_eq!(
        decide::<()>(None, None, limit, || Ok(cut_off_before)),
        Ok(refused(limit))
    );
}

#[test]
fn it_says_why_it_is_not_called() {
    let said = cut_off(Some(700)).refusal(&samples::instance(1));
    insta::assert_snapshot!(said, @"not called: answer cut off at `max_output_tokens` = 700 in run 20261123-223015-4f2a; raise it, or ask again with `--refresh persona-1/chunk-1`");
}
