use super::*;
use crate::call::Checks;
use crate::store::samples;

/// Decides over an answer with 700 tokens that was asked for under a limit of 4000, stored as
/// entry 10, and answers that were cut off: as entry and limit.
fn looked(mark: Option<u64>, limit: Option<u64>, answer: bool, cut_offs: &[(u64, Option<u64>)]) -> Looked {
    let answer = answer.then(|| (10, samples::record(1, "whole")));
    let cut_offs = cut_offs.iter();
    let bad = cut_offs.map(|&(seq, limit)| (seq, (cut_off_record(limit), Rejection::Truncated)));
    decided(answer, mark, &samples::bounds(limit), bad.collect())
}

fn decided(
    answer: Option<Numbered<Record>>,
    mark: Option<u64>,
    bounds: &Delivery,
    bad: Vec<Numbered<(Record, Rejection)>>,
) -> Looked {
    decide(answer, mark, bounds, &Shelf(bad, Vec::new())).unwrap()
}

/// What lies in a store: bad answers, and those that were replaced.
struct Shelf(Vec<Numbered<(Record, Rejection)>>, Vec<Numbered<Record>>);

impl Older<()> for Shelf {
    fn rejected(&self) -> Result<Vec<Numbered<(Record, Rejection)>>, ()> {
        Ok(self.0.clone())
    }

    fn replaced(&self) -> Result<Vec<Numbered<Record>>, ()> {
        Ok(self.1.clone())
    }
}

fn cut_off_record(limit: Option<u64>) -> Record {
    let mut record = samples::record(1, "cut o");
    record.max_output_tokens = limit;
    record
}

fn cut_off(limit: Option<u64>) -> Rejected {
    Rejected::new(&cut_off_record(limit), Rejection::Truncated)
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
    let decide = |limit| {
        let answer = Some((10, record.clone()));
        decided(answer, None, &samples::bounds(Some(limit)), vec![])
    };
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
    struct Never;
    impl Older<()> for Never {
        fn rejected(&self) -> Result<Vec<Numbered<(Record, Rejection)>>, ()> {
            panic!("asked")
        }

        fn replaced(&self) -> Result<Vec<Numbered<Record>>, ()> {
            panic!("asked")
        }
    }
    let answer = Some((10, samples::record(1, "whole")));
    assert_eq!(
        decide(answer, None, &samples::bounds(Some(4000)), &Never),
        Ok(hit())
    );
}

#[test]
fn other_bad_answers_are_a_reason_and_say_nothing_of_the_limit() {
    let bad = |rejection| (samples::record(1, ""), rejection);
    let limit = samples::bounds(Some(4000));
    for rejection in [
        Rejection::Empty,
        Rejection::Filtered,
        Rejection::Refused,
        Rejection::ToolCall,
    ] {
        let expected = Rejected::new(&samples::record(1, ""), rejection);
        let newest = vec![(5, bad(Rejection::Empty)), (6, bad(rejection))];
        assert_eq!(
            decided(None, None, &limit, newest.clone()),
            Looked::Miss(Miss::Rejected(expected))
        );
        assert_eq!(decided(None, Some(9), &limit, newest), REFRESHED);
    }
    let cut_off_before = vec![
        (5, (cut_off_record(Some(4000)), Rejection::Truncated)),
        (6, bad(Rejection::Empty)),
    ];
    assert_eq!(decided(None, None, &limit, cut_off_before), refused(Some(4000)));
}

/// What is asked of an answer now: so many characters at least and at most.
fn chars(least: u64, most: u64) -> Delivery {
    Delivery {
        checks: std::sync::Arc::new(Checks {
            min_chars: Some(least),
            max_chars: Some(most),
            ..Checks::default()
        }),
        ..samples::bounds(Some(4000))
    }
}

/// An answer of so many characters.
fn of(length: usize) -> Record {
    samples::record(1, &"x".repeat(length))
}

fn served(length: usize) -> Looked {
    Looked::Hit(Box::new(of(length)))
}

fn readmitted(length: usize) -> Looked {
    Looked::Readmitted(Box::new(of(length)))
}

#[test]
fn a_stored_answer_is_judged_by_the_checks_of_today() {
    let looked = |length, least, most| decided(Some((10, of(length))), None, &chars(least, most), vec![]);
    assert_eq!(looked(12, 1, 12), served(12));
    let Looked::Miss(miss @ Miss::Unfit(_)) = looked(12, 200, 900) else {
        panic!("served");
    };
    let Miss::Unfit(misfit) = miss else { unreachable!() };
    insta::assert_snapshot!(misfit.of_stored(), @"the stored answer has 12 characters, `min_chars` is 200");
    let Looked::Miss(Miss::Unfit(misfit)) = looked(12, 1, 5) else {
        panic!("served");
    };
    insta::assert_snapshot!(misfit.of_stored(), @"the stored answer has 12 characters, `max_chars` is 5");
}

#[test]
fn what_only_a_check_refused_is_served_once_the_check_allows_it() {
    let short = |seq, length| (seq, (of(length), Rejection::MinChars));
    let bad = vec![short(5, 10), short(6, 20), short(7, 15)];
    let looked = |mark, least, most| decided(None, mark, &chars(least, most), bad.clone());
    assert_eq!(looked(None, 5, 99), readmitted(15), "the newest that fits");
    assert_eq!(looked(None, 16, 99), readmitted(20), "the only one that fits");
    assert_eq!(looked(None, 1, 12), readmitted(10), "by another check too");
    let refused = Rejected::new(&of(15), Rejection::MinChars);
    let refused = Looked::Miss(Miss::Rejected(refused));
    assert_eq!(looked(None, 21, 99), refused, "none fits");
    assert_eq!(looked(Some(6), 16, 99), refused, "asked for again after it came");
    assert_eq!(looked(Some(9), 5, 99), REFRESHED);
    for rejection in [Rejection::Filtered, Rejection::Refused, Rejection::Empty] {
        let bad = vec![(5, (of(10), rejection))];
        let looked = decided(None, None, &chars(5, 99), bad);
        assert!(matches!(looked, Looked::Miss(Miss::Rejected(_))), "{rejection:?}");
    }
}

#[test]
fn an_accepted_answer_goes_before_one_that_was_refused() {
    let bad = vec![(12, (of(30), Rejection::MaxChars))];
    let looked = |least, most| decided(Some((10, of(20))), None, &chars(least, most), bad.clone());
    assert_eq!(looked(1, 99), served(20));
    assert_eq!(looked(25, 99), readmitted(30));
    assert!(matches!(looked(35, 99), Looked::Miss(Miss::Unfit(_))));
}

#[test]
fn a_check_that_is_taken_back_finds_the_answer_of_before() {
    let answer = || Some((12, of(30)));
    let shelf = Shelf(vec![], vec![(10, of(20)), (11, of(22)), (12, of(30))]);
    let looked = |mark, most| decide(answer(), mark, &chars(1, most), &shelf).unwrap();
    assert_eq!(looked(None, 99), served(30));
    assert_eq!(looked(None, 25), served(22));
    assert!(matches!(looked(None, 9), Looked::Miss(Miss::Unfit(_))));
    assert_eq!(looked(Some(11), 30), served(30));
    assert!(matches!(looked(Some(11), 25), Looked::Miss(Miss::Unfit(_))));
}

#[test]
fn the_limit_speaks_before_the_checks() {
    let mut long = of(12);
    long.max_output_tokens = None;
    let bounds = Delivery {
        max_output_tokens: Some(600),
        ..chars(200, 900)
    };
    assert_eq!(decided(Some((10, long)), None, &bounds, vec![]), TOO_LONG);
}

#[test]
fn it_says_why_it_is_not_called() {
    let said = cut_off(Some(700)).refusal(&samples::instance(1));
    insta::assert_snapshot!(said, @"not called: answer cut off at `max_output_tokens` = 700 in run 20261123-223015-4f2a; raise it, or ask again with `--refresh persona-1/chunk-1`");
}
