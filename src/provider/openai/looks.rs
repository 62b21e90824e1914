//! Paces the looks at all jobs of one server: one after the other, and none while the server has asked
//! for patience. Does not know what is looked at.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks, whosever they are: 50 a second tell of any number of jobs soon enough.
const GAP: Duration = Duration::from_millis(20);

/// Why nobody may look before the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooLate {
    /// The server has asked for patience, and so long it is until a turn is free.
    Held(Duration),
    /// Others look until then.
    Queue,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Held only to take a turn; never across an await.
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// When the next turn is free.
    free: Option<Instant>,
    /// The server has asked for patience until then.
    held: Option<Instant>,
}

impl Looks {
    /// Returns when one may look.
    ///
    /// # Errors
    /// At once, if that is not before the deadline.
    pub(super) async fn turn(&self, deadline: Instant) -> Result<(), TooLate> {
        loop {
            let at = self.take(deadline)?;
            tokio::time::sleep_until(at).await;
            // It may have been refused to others meanwhile.
            if self.held() <= Some(Instant::now()) {
                return Ok(());
            }
        }
    }

    /// Lets nobody look for so long.
    pub(super) fn hold(&self, wait: Duration) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + wait;
        turns.held = turns.held.max(Some(until));
        turns.free = turns.free.max(turns.held);
    }

    fn take(&self, deadline: Instant) -> Result<Instant, TooLate> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = turns.free.map_or(now, |free| free.max(now));
        if at >= deadline {
            let is_held = turns.held >= Some(deadline);
            return Err(if is_held {
                TooLate::Held(at - now)
            } else {
                TooLate::Queue
            });
        }
        turns.free = Some(at + GAP);
        Ok(at)
    }

    fn held(&self) -> Option<Instant> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).held
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn after(looks: Arc<Looks>, began: Instant) -> Duration {
        let turn = looks.turn(began + Duration::from_secs(3600)).await;
        assert_eq!(turn, Ok(()));
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_turn_that_comes_too_late() {
        let (looks, began) = (Looks::default(), Instant::now());
        let minute = Duration::from_secs(60);
        looks.hold(minute * 15);
        let late = Err(TooLate::Held(minute * 15));
        assert_eq!(looks.turn(began + minute * 10).await, late);
        assert_eq!(began.elapsed(), Duration::ZERO);
        // No turn was taken.
        assert_eq!(looks.turn(began + minute * 20).await, Ok(()));
        assert_eq!(began.elapsed(), minute * 15);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_behind_too_many_others_was_not_refused() {
        let (looks, began) = (Looks::default(), Instant::now());
        looks.hold(GAP * 3);
        for _ in 0..7 {
            assert!(looks.take(began + GAP * 10).is_ok());
        }
        assert_eq!(looks.turn(began + GAP * 10).await, Err(TooLate::Queue));
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_come_one_after_the_other() {
        let (looks, began) = (Arc::new(Looks::default()), Instant::now());
        let all: Vec<_> = (0..4)
            .map(|_| tokio::spawn(after(looks.clone(), began)))
            .collect();
        let mut times = Vec::new();
        for one in all {
            times.push(one.await.unwrap());
        }
        assert_eq!(times, [0, 1, 2, 3].map(|n| GAP * n));
        tokio::time::sleep(GAP * 10).await;
        assert_eq!(
            after(looks, Instant::now()).await,
            Duration::ZERO,
            "nobody waits for turns that passed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_while_the_server_asks_for_patience() {
        let (looks, began) = (Arc::new(Looks::default()), Instant::now());
        assert_eq!(after(looks.clone(), began).await, Duration::ZERO);
        // This one has its turn already when another is refused.
        let early = tokio::spawn(after(looks.clone(), began));
        tokio::task::yield_now().await;
        looks.hold(Duration::from_secs(7));
        looks.hold(Duration::from_secs(5));
        let late = tokio::spawn(after(looks.clone(), began));
        let mut times = [early.await.unwrap(), late.await.unwrap()];
        times.sort();
        assert_eq!(times, [Duration::from_secs(7), Duration::from_secs(7) + GAP]);
    }
}
