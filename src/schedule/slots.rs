//! How many calls may be in flight: a fixed number, or one that is found. The found one starts at
//! 4, doubles while all goes well, is halved once for each episode of refusals, and grows by one
//! for each full round of answers after that, as TCP does with its window.

/// Where the search begins (design, `limits.concurrency`).
const START: usize = 4;
/// Where it ends at the latest: more connections than this help nobody, and files run out.
pub const MOST: usize = 512;

/// The number of calls in flight that are allowed.
#[derive(Clone, Debug)]
pub struct Slots {
    allowed: usize,
    most: usize,
    growth: Option<Growth>,
}

#[derive(Clone, Debug)]
struct Growth {
    /// True until the first refusal: grow by one for each answer.
    searching: bool,
    /// Answers since the last growth.
    answers: usize,
    /// The number of the first call sent after the last cut: refusals of earlier ones belong to
    /// the episode that has been dealt with.
    cut_at: u64,
}

impl Slots {
    /// `None`: not known, to be found, up to `most`.
    pub fn new(fixed: Option<usize>, most: usize) -> Self {
        match fixed {
            Some(allowed) => Self {
                allowed,
                most,
                growth: None,
            },
            None => Self {
                allowed: START.min(most),
                most,
                growth: Some(Growth {
                    searching: true,
                    answers: 0,
                    cut_at: 0,
                }),
            },
        }
    }

    /// The number now.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// A call was answered while `in_flight` calls (with this one) were in flight.
    pub fn answered(&mut self, in_flight: usize) {
        let Some(growth) = &mut self.growth else { return };
        // Only slots that were in use say anything about more of them.
        if in_flight < self.allowed {
            return;
        }
        growth.answers += 1;
        if growth.searching || growth.answers >= self.allowed {
            growth.answers = 0;
            self.allowed = (self.allowed + 1).min(self.most);
        }
    }

    /// A call was refused for want of room. `sent_as` is its number, `sent` the number of calls
    /// sent so far.
    pub fn refused(&mut self, sent_as: u64, sent: u64) {
        let Some(growth) = &mut self.growth else { return };
        if sent_as >= growth.cut_at {
            *growth = Growth {
                searching: false,
                answers: 0,
                cut_at: sent + 1,
            };
            self.allowed = (self.allowed / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_number_stays() {
        let mut slots = Slots::new(Some(64), MOST);
        slots.answered(64);
        slots.refused(10, 20);
        assert_eq!(slots.allowed(), 64);
    }

    #[test]
    fn the_search_doubles_with_each_round_and_ends_at_the_first_refusal() {
        let mut slots = Slots::new(None, MOST);
        for _ in 0..4 {
            slots.answered(slots.allowed());
        }
        assert_eq!(slots.allowed(), 8);
        slots.refused(11, 12);
        assert_eq!(slots.allowed(), 4);
        for _ in 0..4 {
            slots.answered(4);
        }
        assert_eq!(slots.allowed(), 5, "one more for a whole round of answers");
    }

    #[test]
    fn late_refusals_of_one_episode_cut_once() {
        let mut slots = Slots::new(None, MOST);
        (0..12).for_each(|_| slots.answered(slots.allowed()));
        assert_eq!(slots.allowed(), 16);
        slots.refused(20, 30);
        slots.refused(21, 30);
        slots.refused(29, 31);
        assert_eq!(slots.allowed(), 8);
        slots.refused(30, 31);
        assert_eq!(slots.allowed(), 8, "sent before the cut");
        slots.refused(31, 32);
        assert_eq!(slots.allowed(), 4, "sent after the cut: an episode of its own");
    }

    #[test]
    fn the_search_ends_where_files_run_out() {
        let mut slots = Slots::new(None, 6);
        (0..100).for_each(|_| slots.answered(slots.allowed()));
        assert_eq!(slots.allowed(), 6);
        assert_eq!(Slots::new(None, 1).allowed(), 1);
    }

    #[test]
    fn idle_slots_prove_nothing() {
        let mut slots = Slots::new(None, MOST);
        (0..100).for_each(|_| slots.answered(2));
        assert_eq!(slots.allowed(), 4);
    }
}
