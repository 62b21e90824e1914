//! The command line as it is typed.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::call::Money;
use crate::hours::When;

/// Where the help has what all commands take: behind what each alone takes.
const EVERYWHERE: usize = 100;

/// Turns a folder of personas into a folder of transcripts with a paid LLM API: nothing is paid
/// twice, nothing paid is lost.
#[derive(Debug, Parser)]
#[command(
    name = "septet",
    version,
    disable_help_subcommand = true,
    args_override_self = true
)]
pub struct Cli {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true, value_hint = ValueHint::DirPath, display_order = EVERYWHERE)]
    pub directory: Option<PathBuf>,

    /// When to use colours
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, display_order = EVERYWHERE)]
    pub color: Color,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring every transcript up to date
    Run(Run),
    /// Say what `run` would do, with tokens, dollars and minutes; calls nothing
    Plan(Plan),
    /// Rehearse a run in virtual time: when it ends, what it costs, which limit holds it up; calls
    /// nothing
    Rehearse(Rehearse),
    /// Draw the pipeline, or one persona's nodes by their state
    Graph(Graph),
    /// Say why a node would be called, or what its answer rests on
    Why(Why),
    /// Show what was sent for a node, what came back, and every attempt
    Show(Show),
    /// List earlier runs and what they cost
    Runs(Runs),
    /// Read everything and render every prompt; calls nothing
    Check(Check),
    /// Look after what was paid for
    #[command(subcommand)]
    Cache(crate::cli::cache::args::Cache),
    /// Make a new project that runs as it is
    Init(Init),
    /// Serve the built-in model as an OpenAI-compatible server on loopback
    Simulate(Simulate),
    /// Print shell completions
    Completions(Completions),
}

/// Which personas, and within which limits.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Only personas that match GLOB; may be given again
    #[arg(long, value_name = "GLOB")]
    pub persona: Vec<String>,

    /// Only the first N by name, up to date or not
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub max: Option<u32>,

    /// Calls in flight, instead of `limits.concurrency`
    #[arg(long, value_name = "N", value_parser = workers, allow_negative_numbers = true)]
    pub workers: Option<u32>,

    /// Requests per minute, instead of `limits.requests_per_minute`
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub rpm: Option<u32>,

    /// Tokens per minute, instead of `limits.tokens_per_minute`
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tpm: Option<u32>,

    /// What the run may spend, instead of `limits.budget_usd`
    #[arg(long, value_name = "USD", value_parser = usd, allow_negative_numbers = true)]
    pub budget: Option<Money>,

    /// Wait until TIME (`23:00`, or `2h` from now), then begin
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub start_at: Option<When>,

    /// Send nothing more from TIME on (`07:00`, or `8h` after the start)
    #[arg(long, value_name = "TIME", value_parser = When::parse)]
    pub until: Option<When>,

    /// Call again although cached: nodes that match PERSONA/NODE, or all of PERSONA; may be given
    /// again
    #[arg(long, value_name = "GLOB")]
    pub refresh: Vec<String>,

    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub selection: Selection,

    /// End at the first node that fails
    #[arg(long)]
    pub fail_fast: bool,

    /// Write over transcripts that were edited by hand
    #[arg(long)]
    pub overwrite: bool,

    /// Look at every node, also of personas whose files are as they were when they were up to date
    #[arg(long)]
    pub verify: bool,

    /// Run again after each saved edit of the pipeline, a prompt or a persona, and show how the
    /// transcripts change
    #[arg(long, conflicts_with_all = ["start_at", "until"])]
    pub watch: bool,

    /// Print errors and warnings only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub selection: Selection,

    /// Name every node that would be called
    #[arg(short, long)]
    pub verbose: bool,

    /// Print the totals only: no reasons, and not what the figures rest on
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Look at every node, also of personas whose files are as they were when they were up to date
    #[arg(long)]
    pub verify: bool,

    // `run` and `plan` take the same options, so that one can be put for the other.
    #[arg(long, hide = true)]
    pub fail_fast: bool,
}

#[derive(Debug, Args)]
pub struct Rehearse {
    #[command(flatten)]
    pub selection: Selection,

    /// Rehearse it N times, each with other chances
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = seeds, allow_negative_numbers = true)]
    pub seeds: u32,

    /// Draw how it passes into FILE, as SVG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,

    /// Look at every node, also of personas whose files are as they were when they were up to date
    #[arg(long)]
    pub verify: bool,

    /// End at the first node that fails
    #[arg(long)]
    pub fail_fast: bool,
}

#[derive(Debug, Args)]
pub struct Graph {
    /// Show which of this persona's nodes are cached and which would be called
    #[arg(value_name = "PERSONA")]
    pub persona: Option<String>,

    /// How it is drawn; default: `text` on a terminal, `dot` elsewhere
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<GraphFormat>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For a terminal
    Text,
    /// For Graphviz: `septet graph | dot -Tpng`
    Dot,
    /// For Markdown files
    Mermaid,
    /// For a browser
    Svg,
}

#[derive(Debug, Args)]
pub struct Why {
    /// A persona, or one of its nodes for all that differs, as a diff
    #[arg(value_name = "PERSONA[/NODE]")]
    pub target: String,

    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Show {
    /// A persona for the table of its nodes, or one of them in full
    #[arg(value_name = "PERSONA[/NODE]")]
    pub target: String,

    /// Print the answer and nothing else
    #[arg(long, conflicts_with_all = ["prompt", "json", "rejected"])]
    pub answer: bool,

    /// Print the messages as they were sent and nothing else
    #[arg(long, conflicts_with_all = ["json", "rejected"])]
    pub prompt: bool,

    /// Print rejected answers whole, not only their beginnings
    #[arg(long)]
    pub rejected: bool,

    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Runs {
    /// One run in full: the beginning of its name, or `last`
    #[arg(value_name = "RUN")]
    pub run: Option<String>,

    /// Add up by model or by month instead of listing
    #[arg(long, value_name = "WHAT", conflicts_with = "run")]
    pub by: Option<By>,

    /// Print one JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

/// What runs are added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The model that was asked
    Model,
    /// The calendar month in local time
    Month,
}

#[derive(Debug, Args)]
pub struct Check {
    /// Make one small call, to see that key, model and parameters are right
    #[arg(long)]
    pub ping: bool,
}

#[derive(Debug, Args)]
pub struct Init {
    /// The folder of the new project; it is made if it does not exist
    // Not `directory`: that is the name of the global `-C DIR`, and clap would take one for both.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub target: PathBuf,
}

#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Simulate {
    /// The port; 0 takes a free one
    #[arg(
        long,
        value_name = "PORT",
        default_value_t = 8787,
        allow_negative_numbers = true
    )]
    pub port: u16,

    /// Requests per minute that are let through; more get a 429
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub rpm: Option<u32>,

    /// Tokens per minute that are let through; more get a 429
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub tpm: Option<u32>,

    /// Mean time of an answer, such as `400ms`
    #[arg(long, value_name = "TIME", default_value = "400ms")]
    pub latency: String,

    /// How far a latency strays from the mean, as a share of it
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.25,
        allow_negative_numbers = true
    )]
    pub jitter: f64,

    /// Mean length of an answer
    #[arg(long, value_name = "N", default_value_t = 220, allow_negative_numbers = true)]
    pub reply_tokens: u64,

    /// Chooses other words and other faults
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,

    /// Share of calls that end in a fault, such as `server_error=0.01`; may be given again
    ///
    /// Kinds: `rate_limited` (429), `server_error` (500), `connection` (breaks off), `timeout` (no answer
    /// ever), `malformed` (no JSON), and bad answers: `truncated`, `filtered`, `empty`
    #[arg(long, value_name = "KIND=SHARE", action = ArgAction::Append)]
    pub fault: Vec<String>,

    /// Calls in flight that are let through; more get a 503
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<usize>,

    /// Demand this key; without it any key will do
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
}

fn at_least_one(text: &str) -> Result<u32, String> {
    whole(text, 1..=u32::MAX).ok_or_else(|| "expected a whole number of at least 1".to_owned())
}

/// As many as `limits.concurrency` takes.
fn workers(text: &str) -> Result<u32, String> {
    whole(text, 1..=100_000).ok_or_else(|| "expected a whole number from 1 to 100000".to_owned())
}

fn seeds(text: &str) -> Result<u32, String> {
    whole(text, 1..=100).ok_or_else(|| "expected a whole number from 1 to 100".to_owned())
}

/// As much as `limits.budget_usd` takes.
fn usd(text: &str) -> Result<Money, String> {
    let amount = text.strip_prefix('$').unwrap_or(text).parse::<f64>().ok();
    let amount = amount
        .filter(|usd| (0.0..=1e6).contains(usd))
        .map(Money::from_usd);
    amount.ok_or_else(|| "expected an amount in dollars, such as 25 or 0.50".to_owned())
}

fn whole(text: &str, range: RangeInclusive<u32>) -> Option<u32> {
    text.parse().ok().filter(|number| range.contains(number))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    Always,
    Never,
}

impl From<Color> for crate::report::style::Color {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}
