//! What sharing prefixes brings and what it costs: the real driver against the built-in model and
//! its prompt cache, under paused time, so that every figure is exact.

use super::*;
use crate::call::prompt_cache::shared_tokens;
use crate::call::{CacheHint, prompt_cache};
use crate::config;
use crate::provider::Simulator;

/// Tokens that the calls of one persona share.
const SHARED: u64 = 2_000;

/// 102 personas whose nodes share 2,000 tokens.
struct Cast {
    model: &'static str,
}

struct Part(PersonaId, &'static str);

impl Requests for Part {
    fn request(&self, node: usize, needs: &[(&NodeId, &str)]) -> Result<Request, Failure> {
        let system = "Write down what is said. ".repeat(64);
        let context = format!("# {}\n\n{}", self.0, "She counts the days. ".repeat(400));
        let context = &context[..(SHARED as usize * 4) - system.len()];
        let needs: Vec<&str> = needs.iter().map(|(_, text)| *text).collect();
        let mark = |message, bytes| Mark { message, bytes };
        let message = |role, content: String| Message { role, content };
        Ok(Request {
            provider: "world".into(),
            model: self.1.into(),
            delivery: Delivery {
                shared: vec![mark(0, system.len()), mark(1, context.len())],
                cache: if prompt_cache::takes_breakpoints(self.1) {
                    CacheHint::Breakpoints
                } else {
                    CacheHint::Nothing
                },
                ..Delivery::default()
            },
            messages: vec![
                message(Role::System, system),
                message(
                    Role::User,
                    format!("{context}\n\nPart {node}\n\n{}", needs.join("\n\n")),
                ),
            ],
            parameters: Arc::default(),
            variant: None,
        })
    }
}

impl Project for Cast {
    fn open(&self, persona: &PersonaId) -> Result<Box<dyn Requests>, Failure> {
        let part = Part(persona.clone(), self.model);
        assert_eq!(shared_tokens(&part.request(3, &[])?), SHARED);
        Ok(Box::new(part))
    }

    fn transcript(&self, _: &PersonaId) -> Result<Option<Vec<u8>>, Failure> {
        Ok(None)
    }

    fn write(&self, persona: &PersonaId, _: &str, _: bool) -> Result<String, Failure> {
        Ok(format!("{persona}.md"))
    }
}

/// What a run read from the cache and wrote to it, and how long it took.
struct Figures {
    /// Of the shared tokens of the chunks' calls.
    read: f64,
    written: u64,
    took: Duration,
}

fn figures(model: &'static str, prefix: PrefixOrder, concurrency: usize, jitter: f64) -> Figures {
    paused(async {
        let night = Night {
            personas: 102,
            concurrency: Some(concurrency),
            rpm: None,
            tpm: None,
            prefix,
            seed: 1,
            ..Night::default()
        };
        let settings = config::Simulator {
            latency: Duration::from_secs(10),
            jitter,
            reply_tokens: 20,
            seed: 1,
            faults: config::SimulatorFaults::default(),
        };
        let (sender, mut events) = unbounded_channel();
        let (_ask, asked) = unbounded_channel();
        let services = Services {
            provider: Arc::new(Simulator::new(settings, Duration::from_secs(600))),
            store: Arc::new(MemoryStore::new()),
            project: Arc::new(Cast { model }),
            unix_ms: || 0,
            jobs: Jobs::Inline,
        };
        assert_eq!(
            run(night.task(), services, sender, asked).await,
            Outcome::Complete
        );
        let (mut read, mut chunks, mut written, mut took) = (0, 0, 0, Duration::ZERO);
        while let Ok(told) = events.try_recv() {
            took = told.at;
            if let Event::CallEnded {
                instance,
                outcome: CallOutcome::Ok { usage, .. },
                ..
            } = told.event
            {
                written += usage.cache_write.unwrap();
                if instance.node.as_str() != "combine" {
                    chunks += SHARED;
                    read += usage.cached_input.unwrap().min(SHARED);
                }
            }
        }
        assert_eq!(chunks, 102 * 7 * SHARED);
        Figures {
            read: read as f64 / chunks as f64,
            written,
            took,
        }
    })
}

#[test]
fn six_of_seven_read_what_the_first_one_left() {
    let share = figures("gpt-6-luna", PrefixOrder::Auto, 64, 0.3);
    assert!(
        share.read >= 6.0 / 7.0,
        "{} of the shared tokens were read",
        share.read
    );
    assert_eq!(share.written, 102 * SHARED, "each persona is written once");
    let eager = figures("gpt-6-luna", PrefixOrder::Eager, 64, 0.3);
    assert!(eager.read < 0.2, "{} of the shared tokens were read", eager.read);
    assert!(eager.written > 102 * 5 * SHARED, "{} were written", eager.written);
    // Where it is found in whole blocks, 2,000 tokens are 1,920.
    let blocks = figures("gpt-4.1", PrefixOrder::Auto, 64, 0.3);
    let whole = 1_920.0 / SHARED as f64;
    assert!(blocks.read >= 6.0 / 7.0 * whole, "{}", blocks.read);
    assert_eq!(blocks.written, 0);
}

#[test]
fn sharing_takes_hardly_any_longer() {
    for (concurrency, jitter) in [(64, 0.0), (64, 0.3), (64, 1.0), (100, 0.3), (7, 1.0)] {
        let took = |prefix| {
            figures("gpt-6-luna", prefix, concurrency, jitter)
                .took
                .as_secs_f64()
        };
        let (share, eager) = (took(PrefixOrder::Auto), took(PrefixOrder::Eager));
        assert!(
            share <= 1.05 * eager,
            "{concurrency} in flight, latencies astray by {jitter}: {share} s, eager {eager} s"
        );
    }
}
