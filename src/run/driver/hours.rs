//! The hours of a run: waits outside of them, ends at the deadline.

use std::time::Duration;

use jiff::Timestamp;

use super::Driver;
use crate::events::{Event, Failure, Outcome};
use crate::hours::time_over;
use crate::run::times::Now;
use crate::schedule::Input;

impl Driver {
    /// Looks at the wall clock: waits outside the hours, ends at the deadline.
    pub(super) fn may_send(&mut self) -> bool {
        let wall = (self.services.unix_ms)();
        match self.task.times.look(wall) {
            Now::Open => {
                if std::mem::take(&mut self.waiting) {
                    self.teller.tell(Event::WaitingEnded);
                    self.turn([Input::Reopened]);
                }
                return true;
            }
            Now::Over(deadline) => self.end_at(deadline, None, wall),
            // Without a call that waits there is nothing to wait for.
            Now::Closed(_) if self.schedule.candidate(self.teller.now()).is_none() => {}
            Now::Closed(opens) => match self.task.times.until {
                // What is looked up meanwhile is not left: it may be there.
                Some(deadline) if deadline <= opens && self.schedule.is_looking() => {}
                Some(deadline) if deadline <= opens => self.end_at(deadline, Some(opens), wall),
                _ if self.waiting => {}
                _ => {
                    self.waiting = true;
                    let (until, wait) = self.task.times.tell(opens, wall);
                    self.teller.tell(Event::Waiting { until, wait });
                }
            },
        }
        false
    }

    /// Sends nothing more because of the deadline.
    fn end_at(&mut self, deadline: Timestamp, opens: Option<Timestamp>, wall: u64) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let tell = |moment| self.task.times.tell(moment, wall).0;
        let (until, opens) = (tell(deadline), opens.map(tell));
        let cause = Failure {
            kind: Failure::DEADLINE,
            message: time_over(&until, opens.as_ref()),
            http_status: None,
        };
        self.teller.tell(Event::DeadlineReached { until, opens });
        let outcome = Outcome::Deadline;
        self.turn([Input::Enough { outcome, cause }]);
    }

    /// When the wall clock is to be looked at again, by the time of the run.
    pub(super) fn look_again(&self) -> Option<Duration> {
        let again = self.task.times.look_again((self.services.unix_ms)());
        again.map(|wait| self.teller.now() + wait)
    }
}
