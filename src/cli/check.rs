//! `septet check`: reads everything and renders every prompt; with `--ping` makes one small call.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::call::{Answer, Delivery, Message, Money, Request, Role};
use crate::cli::args::Check;
use crate::cli::failed::FailedPersonas;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::print::outln;
use crate::cli::project::Loaded;
use crate::cli::{cache, clock, provider, runtime, sharing};
use crate::config::{Node, ProviderKind};
use crate::events::Failure;
use crate::graph::Graph;
use crate::hours::Moment;
use crate::plan::sharing::Survey;
use crate::printable::one_line;
use crate::report::figures::{count, dollars, number};
use crate::run::{Project, Requests};
use crate::wording::nearest;

/// A ping's answer need not be long; less than 16 some servers refuse (OpenAI Responses, 2026-11).
const PING_TOKENS: u64 = 16;

/// Checks the whole project.
pub fn check(directory: Option<&Path>, args: &Check) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let folder = project.folder();
    let personas = project.personas()?;
    project.demand_own_transcripts(&personas)?;
    let mut failed = 0;
    let mut alike = FailedPersonas::default();
    let mut tokens = 0;
    let mut survey = Survey::new(project.prices());
    for persona in &personas {
        let rendered = folder.open(persona).and_then(|requests| {
            let root = |node| Ok((node, requests.request(node, &[])?));
            let roots: Vec<_> = project.graph.roots().map(root).collect::<Result<_, Failure>>()?;
            survey.persona(&roots, &rehearsed(&project.graph, &*requests));
            Ok(roots
                .iter()
                .map(|(_, request)| request.estimated_input_tokens())
                .sum::<u64>())
        });
        match rendered {
            Ok(input) => tokens += input,
            Err(failure) => {
                failed += 1;
                if let Some(line) = alike.line(persona, &failure) {
                    outln!("{line}");
                }
            }
        }
    }
    alike.others().for_each(|line| outln!("{line}"));
    let good = personas.len() - failed;
    let mark = if failed == 0 { "✓" } else { "!" };
    outln!(
        "{mark} {} with {} each; {} of {} can be rendered, about {} input tokens before the nodes that need others",
        count(personas.len() as u64, "persona"),
        count(project.graph.len() as u64, "node"),
        number(good as u64),
        number(personas.len() as u64),
        number(tokens),
    );
    check_prices(&project);
    tell_hours(&project);
    sharing::tell(&survey.findings());
    check_key(&project)?;
    cache::warn_of_network(&project.root);
    if args.ping {
        ping(&project)?;
    }
    if failed > 0 {
        outln!(
            "✗ {} of {} cannot be rendered",
            number(failed as u64),
            count(personas.len() as u64, "persona")
        );
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The requests of the nodes that need others, as far as they can be rendered without answers.
fn rehearsed(graph: &Graph, requests: &dyn Requests) -> Vec<(usize, Request)> {
    let others = graph.order().filter(|&node| !graph.needs(node).is_empty());
    let request = |node| {
        let needs: Vec<_> = graph
            .needs(node)
            .iter()
            .map(|&need| (graph.id(need), "…"))
            .collect();
        Some((node, requests.request(node, &needs).ok()?))
    };
    others.filter_map(request).collect()
}

/// Without a price the cost of every call is unknown.
fn check_prices(project: &Loaded) {
    let mut models: Vec<&str> = project
        .config
        .nodes
        .iter()
        .map(|node| &*node.model.name)
        .collect();
    models.sort_unstable();
    models.dedup();
    for model in models
        .into_iter()
        .filter(|model| !project.config.prices.contains_key(*model))
    {
        let add = match nearest(model, project.config.prices.keys().map(String::as_str)) {
            Some(known) => format!("there is `[prices.{known:?}]`: did you mean this model?"),
            None => format!("add `[prices.{model:?}]`"),
        };
        outln!(
            "! no price for `{}`: its cost will be unknown ({})",
            one_line(model),
            one_line(&add)
        );
    }
}

/// Says which price holds now, where that depends on the time: so hours that were written for the
/// wrong zone are seen.
fn tell_hours(project: &Loaded) {
    let (now, zone) = (clock::now(), TimeZone::system());
    for (model, tariff) in project
        .config
        .prices
        .iter()
        .filter(|(_, tariff)| tariff.changes())
    {
        let then = tariff.next(now).map(|(at, rate)| {
            let at = Moment::of(at, now, &zone).clock;
            format!(", from {at} local time on {}", rate.in_words())
        });
        outln!(
            "✓ prices of `{}` go by the hour: now {}{}",
            one_line(model),
            tariff.at(now).in_words(),
            then.unwrap_or_default()
        );
    }
}

/// Builds the provider, which looks at the key and the address.
fn check_key(project: &Loaded) -> Result<(), CliError> {
    provider::connect(&project.config.provider)?;
    match &project.config.provider.kind {
        ProviderKind::Simulator(_) => outln!("✓ the built-in model: offline and free"),
        ProviderKind::OpenAi {
            base_url,
            api_key_env,
            ..
        } => {
            let key = match api_key_env {
                Some(name) => format!("the key of `{name}`"),
                None => "no key".to_owned(),
            };
            outln!("✓ {} with {key}", one_line(base_url.as_str()));
        }
    }
    Ok(())
}

/// One small call for each model and its parameters would cost little, but the first node's says
/// most of it: key, address, model, parameters.
fn ping(project: &Loaded) -> Result<(), CliError> {
    let provider = provider::connect(&project.config.provider)?;
    let node = &project.config.nodes[0];
    let request = hello(node, &project.config.provider.name);
    let started = tokio::time::Instant::now();
    let answer = runtime()?.block_on(provider.call(&request, 1)).map_err(|fault| {
        CliError::stopped(
            Complaint::new(format!("the call failed: {fault}")).at(format!("node `{}`", node.id)),
        )
    })?;
    let price = project.prices().swap_remove(0);
    say_answer(
        &answer,
        started.elapsed(),
        price.map(|price| price.cost(&answer.usage)),
    );
    Ok(())
}

fn hello(node: &Node, provider: &Arc<str>) -> Request {
    Request {
        provider: provider.clone(),
        model: node.model.name.clone(),
        messages: vec![Message {
            role: Role::User,
            content: "Say hello.".to_owned(),
        }],
        parameters: node.model.parameters.clone(),
        variant: None,
        delivery: Delivery {
            max_output_tokens: Some(PING_TOKENS),
            service_tier: node.model.service_tier.clone(),
            ..Delivery::default()
        },
    }
}

fn say_answer(answer: &Answer, time: std::time::Duration, cost: Option<Money>) {
    outln!(
        "✓ `{}` answered in {} ms: {} input, {} output tokens, cost {}",
        one_line(&answer.model),
        time.as_millis(),
        number(answer.usage.input),
        number(answer.usage.output),
        dollars(cost),
    );
}
