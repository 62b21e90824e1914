//! What a server has seen: how requests ended, tokens, peaks, and whether anything was asked and
//! paid for twice. Pure bookkeeping; `now` is handed in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::call::Usage;

/// Everything that a server reports of itself: at `GET /stats` as JSON, and when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Requests for a completion that arrived.
    pub requests: u64,
    /// Of these, not yet ended.
    pub in_flight: u64,
    /// The most at one time.
    pub most_in_flight: u64,
    /// How the others ended.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// The HTTP statuses that were sent.
    pub statuses: BTreeMap<u16, u64>,
    /// The most requests that arrived within a time, refused ones too.
    pub most_started: Peaks,
    /// The most requests within a time that were not refused.
    pub most_admitted: Peaks,
    /// The most tokens (input and output as used) of requests that were admitted within a time.
    pub most_tokens: Peaks,
    /// Tokens of the answers that were delivered, bad ones too.
    pub tokens: Tokens,
    /// Tokens of answers that broke on the way: a provider bills them, a client never sees them.
    pub lost_tokens: Tokens,
    /// Bodies, each counted once however often it was sent.
    pub bodies: Bodies,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// 200 with a whole answer.
    Answered,
    /// 200, cut off.
    Truncated,
    /// 200, withheld by a filter.
    Filtered,
    /// 200 without text.
    Empty,
    /// 200 with a body that is no JSON.
    Malformed,
    /// The connection was reset in the middle of the answer.
    ConnectionReset,
    /// Never answered: the client gave up, or the server was stopped.
    Hung,
    /// An injected 429.
    RateLimited,
    /// An injected 500.
    ServerError,
    /// 429: more requests than the limit.
    OverRequestsLimit,
    /// 429: more tokens than the limit.
    OverTokensLimit,
    /// 429 or 503: more in flight than allowed.
    OverConcurrency,
    /// It met an outage.
    Outage,
    /// 401.
    Unauthorized,
    /// 404: a model that is not served.
    ModelNotFound,
    /// 400.
    BadRequest,
    /// 413.
    BodyTooLarge,
    /// The client left before there was an answer, or the server was stopped.
    Abandoned,
}

/// The most within any so long time; of two exactly that far apart only one is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Peaks {
    /// Any second.
    pub in_1_s: u64,
    /// Any 60 seconds.
    pub in_60_s: u64,
}

/// Tokens by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// All input.
    pub input: u64,
    /// Of the input, read from the prompt cache.
    pub cached_input: u64,
    /// All output.
    pub output: u64,
    /// Input and output.
    pub total: u64,
}

/// What became of the bodies that were admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bodies {
    /// How many different ones.
    pub distinct: u64,
    /// Of these, given a whole answer.
    pub answered: u64,
    /// Whole answers given again for a body that had one.
    pub paid_twice: u64,
    /// The most requests with one body.
    pub most_requests: u64,
}

/// The counters and what it takes to keep them: of each body its hash and two numbers (some 40
/// bytes), and the times of the last minute.
#[derive(Debug)]
pub struct Book {
    counters: Counters,
    started: Windows,
    admitted: Windows,
    tokens: Windows,
    bodies: HashMap<[u8; 16], Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    requests: u32,
    answered: bool,
}

/// The name of a body in the book: the beginning of its blake3.
pub type BodyHash = [u8; 16];

impl Book {
    /// An empty book.
    pub fn new() -> Self {
        Self {
            counters: Counters::default(),
            started: Windows::new(),
            admitted: Windows::new(),
            tokens: Windows::new(),
            bodies: HashMap::new(),
        }
    }

    /// Forgets everything but what is in flight.
    pub fn reset(&mut self) {
        let in_flight = self.counters.in_flight;
        *self = Self::new();
        self.counters.in_flight = in_flight;
        self.counters.most_in_flight = in_flight;
    }

    /// The counters as they are now.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.most_started = self.started.peaks();
        counters.most_admitted = self.admitted.peaks();
        counters.most_tokens = self.tokens.peaks();
        counters.bodies.distinct = self.bodies.len() as u64;
        counters
    }

    /// A request arrived.
    pub fn arrived(&mut self, now: Instant) {
        self.started.add(now, 1);
        let counters = &mut self.counters;
        counters.requests += 1;
        counters.in_flight += 1;
        counters.most_in_flight = counters.most_in_flight.max(counters.in_flight);
    }

    /// A request was let start; returns which of its body it is, from 1.
    pub fn admitted(&mut self, body: BodyHash, now: Instant) -> u32 {
        self.admitted.add(now, 1);
        let seen = self.bodies.entry(body).or_default();
        seen.requests = seen.requests.saturating_add(1);
        let most = &mut self.counters.bodies.most_requests;
        *most = (*most).max(u64::from(seen.requests));
        seen.requests
    }

    /// The tokens of a request that was just admitted.
    pub fn will_use(&mut self, usage: &Usage, now: Instant) {
        self.tokens.add(now, usage.input + usage.output);
    }

    /// An answer is on its way for this body.
    pub fn answering(&mut self, body: BodyHash, outcome: Outcome, usage: &Usage) {
        let counters = &mut self.counters;
        match outcome {
            Outcome::ConnectionReset | Outcome::Malformed => counters.lost_tokens.add(usage),
            _ => counters.tokens.add(usage),
        }
        if outcome == Outcome::Answered {
            let seen = self.bodies.entry(body).or_default();
            counters.bodies.answered += u64::from(!seen.answered);
            counters.bodies.paid_twice += u64::from(seen.answered);
            seen.answered = true;
        }
    }

    /// A request ended; without a status where nothing whole was sent.
    pub fn ended(&mut self, outcome: Outcome, status: Option<u16>) {
        let counters = &mut self.counters;
        counters.in_flight = counters.in_flight.saturating_sub(1);
        *counters.outcomes.entry(outcome).or_default() += 1;
        if let Some(status) = status {
            *counters.statuses.entry(status).or_default() += 1;
        }
    }
}

impl Tokens {
    fn add(&mut self, usage: &Usage) {
        self.input += usage.input;
        self.cached_input += usage.cached_input.unwrap_or(0);
        self.output += usage.output;
        self.total += usage.input + usage.output;
    }
}

/// Two sliding windows over the same happenings.
#[derive(Debug)]
struct Windows {
    second: Window,
    minute: Window,
}

impl Windows {
    fn new() -> Self {
        Self {
            second: Window::new(Duration::from_secs(1)),
            minute: Window::new(Duration::from_secs(60)),
        }
    }

    fn add(&mut self, now: Instant, amount: u64) {
        self.second.add(now, amount);
        self.minute.add(now, amount);
    }

    fn peaks(&self) -> Peaks {
        Peaks {
            in_1_s: self.second.most,
            in_60_s: self.minute.most,
        }
    }
}

#[derive(Debug)]
struct Window {
    length: Duration,
    happened: VecDeque<(Instant, u64)>,
    sum: u64,
    most: u64,
}

impl Window {
    fn new(length: Duration) -> Self {
        Self {
            length,
            happened: VecDeque::new(),
            sum: 0,
            most: 0,
        }
    }

    fn add(&mut self, now: Instant, amount: u64) {
        while let Some(&(at, old)) = self.happened.front() {
            if now.saturating_duration_since(at) < self.length {
                break;
            }
            self.happened.pop_front();
            self.sum -= old;
        }
        self.happened.push_back((now, amount));
        self.sum += amount;
        self.most = self.most.max(self.sum);
    }
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Truncated => "truncated",
            Outcome::Filtered => "filtered",
            Outcome::Empty => "empty",
            Outcome::Malformed => "malformed",
            Outcome::ConnectionReset => "reset",
            Outcome::Hung => "hung",
            Outcome::RateLimited => "rate limited",
            Outcome::ServerError => "server errors",
            Outcome::OverRequestsLimit => "over the requests limit",
            Outcome::OverTokensLimit => "over the tokens limit",
            Outcome::OverConcurrency => "too many at once",
            Outcome::Outage => "in an outage",
            Outcome::Unauthorized => "unauthorized",
            Outcome::ModelNotFound => "unknown model",
            Outcome::BadRequest => "bad requests",
            Outcome::BodyTooLarge => "too large",
            Outcome::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for Counters {
    /// A few lines for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "requests    {}", self.requests)?;
        for (i, (outcome, count)) in self.outcomes.iter().enumerate() {
            write!(
                f,
                "{}{count} {}",
                if i == 0 { ": " } else { ", " },
                outcome.words()
            )?;
        }
        let Tokens {
            input,
            cached_input,
            output,
            ..
        } = self.tokens;
        write!(
            f,
            "\ntokens      {input} input ({cached_input} cached), {output} output"
        )?;
        if self.lost_tokens.total > 0 {
            write!(f, ", {} lost on the way", self.lost_tokens.total)?;
        }
        let Peaks { in_1_s, in_60_s } = self.most_started;
        write!(
            f,
            "\nmost        {} in flight, {in_1_s} started in 1 s, {in_60_s} in 60 s",
            self.most_in_flight
        )?;
        let Bodies {
            distinct, paid_twice, ..
        } = self.bodies;
        write!(
            f,
            "\nbodies      {distinct} different, {paid_twice} paid for twice"
        )
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage {
            input,
            output,
            cached_input: Some(input / 2),
            ..Usage::default()
        }
    }

    #[test]
    fn peaks_are_of_any_window_and_not_of_the_calendar() {
        let begun = Instant::now();
        let mut windows = Windows::new();
        for ms in [0, 900, 999, 1000, 1500, 1899, 30_000, 59_999, 60_000, 60_900] {
            windows.add(begun + Duration::from_millis(ms), 1);
        }
        // 900 to 1,899 are five; 900 to 60,000 are eight, since 60,900 is 60 s after 900.
        assert_eq!(
            windows.peaks(),
            Peaks {
                in_1_s: 5,
                in_60_s: 8
            }
        );
        assert!(windows.second.happened.len() <= 5, "forgets what is past");
    }

    #[test]
    fn only_a_whole_answer_for_a_body_that_had_one_is_paid_twice() {
        let now = Instant::now();
        let mut book = Book::new();
        let sequence = [
            ([1; 16], Outcome::Truncated, 0),
            ([1; 16], Outcome::ConnectionReset, 0),
            ([1; 16], Outcome::Answered, 0),
            ([2; 16], Outcome::Answered, 0),
            ([1; 16], Outcome::Answered, 1),
            ([1; 16], Outcome::Empty, 1),
            ([1; 16], Outcome::Answered, 2),
        ];
        for (body, outcome, paid_twice) in sequence {
            book.arrived(now);
            book.admitted(body, now);
            book.answering(body, outcome, &usage(100, 10));
            book.ended(outcome, Some(200));
            assert_eq!(book.counters().bodies.paid_twice, paid_twice, "{outcome:?}");
        }
        let counters = book.counters();
        assert_eq!(
            counters.bodies,
            Bodies {
                distinct: 2,
                answered: 2,
                paid_twice: 2,
                most_requests: 6
            }
        );
        assert_eq!(counters.tokens.total, 660);
        assert_eq!(counters.lost_tokens.total, 110);
    }

    #[test]
    fn a_reset_keeps_what_is_in_flight() {
        let now = Instant::now();
        let mut book = Book::new();
        (0..3).for_each(|_| book.arrived(now));
        book.ended(Outcome::Answered, Some(200));
        book.reset();
        book.ended(Outcome::Answered, Some(200));
        let counters = book.counters();
        assert_eq!(
            (counters.requests, counters.in_flight, counters.most_in_flight),
            (0, 1, 2)
        );
        assert_eq!(counters.outcomes[&Outcome::Answered], 1);
    }

    #[test]
    fn people_and_programs_can_read_them() {
        let now = Instant::now();
        let mut book = Book::new();
        let ends = [
            (Outcome::Answered, Some(200)),
            (Outcome::Answered, Some(200)),
            (Outcome::ConnectionReset, None),
            (Outcome::OverRequestsLimit, Some(429)),
        ];
        for (outcome, status) in ends {
            book.arrived(now);
            if outcome != Outcome::OverRequestsLimit {
                book.admitted([1; 16], now);
                book.will_use(&usage(100, 10), now);
                book.answering([1; 16], outcome, &usage(100, 10));
            }
            book.ended(outcome, status);
        }
        let counters = book.counters();
        assert_snapshot!(counters, @r#"
        requests    4: 2 answered, 1 reset, 1 over the requests limit
        tokens      200 input (100 cached), 20 output, 110 lost on the way
        most        1 in flight, 4 started in 1 s, 4 in 60 s
        bodies      1 different, 1 paid for twice
        "#);
        assert_snapshot!(serde_json::to_string_pretty(&counters).unwrap(), @r#"
        {
          "requests": 4,
          "in_flight": 0,
          "most_in_flight": 1,
          "outcomes": {
            "answered": 2,
            "connection_reset": 1,
            "over_requests_limit": 1
          },
          "statuses": {
            "200": 2,
            "429": 1
          },
          "most_started": {
            "in_1_s": 4,
            "in_60_s": 4
          },
          "most_admitted": {
            "in_1_s": 3,
            "in_60_s": 3
          },
          "most_tokens": {
            "in_1_s": 330,
            "in_60_s": 330
          },
          "tokens": {
            "input": 200,
            "cached_input": 100,
            "output": 20,
            "total": 220
          },
          "lost_tokens": {
            "input": 100,
            "cached_input": 50,
            "output": 10,
            "total": 110
          },
          "bodies": {
            "distinct": 1,
            "answered": 1,
            "paid_twice": 1,
            "most_requests": 3
          }
        }
        "#);
    }
}
