//! `septet graph`: draws the pipeline, or what `plan` sees of one persona.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::args::{Graph, GraphFormat};
use crate::cli::cache;
use crate::cli::failure::{CliError, Complaint};
use crate::cli::plan::Lookup;
use crate::cli::print::whole;
use crate::cli::project::Loaded;
use crate::cli::receipts::Known;
use crate::cli::refresh::Refresh;
use crate::graph::draw::{Drawing, Persona, Seen, State};
use crate::names::PersonaId;
use crate::plan::{Outlook, Planner, Reason};
use crate::printable::lines as printable;
use crate::wording::nearest;

/// Prints the drawing.
pub fn graph(directory: Option<&Path>, args: &Graph) -> Result<ExitCode, CliError> {
    let project = Loaded::open(directory)?;
    let format = args
        .format
        .unwrap_or_else(|| match std::io::stdout().is_terminal() {
            true => GraphFormat::Text,
            false => GraphFormat::Dot,
        });
    let Some(name) = &args.persona else {
        print(
            &Drawing {
                graph: &project.graph,
                persona: None,
            },
            format,
        );
        return Ok(ExitCode::SUCCESS);
    };
    let persona = find(&project, name)?;
    let nodes = seen(&project, &persona)?;
    let drawing = Drawing {
        graph: &project.graph,
        persona: Some(Persona {
            name: persona.as_str(),
            nodes: &nodes,
        }),
    };
    print(&drawing, format);
    Ok(ExitCode::SUCCESS)
}

fn print(drawing: &Drawing<'_>, format: GraphFormat) {
    match format {
        GraphFormat::Text => whole(printable(&drawing.text()).as_bytes()),
        GraphFormat::Dot => whole(drawing.dot().as_bytes()),
        GraphFormat::Mermaid => whole(drawing.mermaid().as_bytes()),
        GraphFormat::Svg => whole(drawing.svg().as_bytes()),
    }
}

fn find(project: &Loaded, name: &str) -> Result<PersonaId, CliError> {
    let all = project.personas()?;
    if let Some(found) = all.iter().find(|persona| persona.as_str() == name) {
        return Ok(found.clone());
    }
    let complaint = Complaint::new(format!("there is no persona `{name}`"));
    Err(match nearest(name, all.iter().map(PersonaId::as_str)) {
        Some(name) => complaint.hint(format!("did you mean `{name}`?")),
        None => complaint.hint(format!("each folder in `{}` is one", project.config.personas)),
    }
    .into())
}

/// What `plan` sees of the persona's nodes.
fn seen(project: &Loaded, persona: &PersonaId) -> Result<Vec<Seen>, CliError> {
    let refresh = Refresh::new(&[], &project.graph, &[])?;
    let store = cache::open_to_read(&project.root)?;
    let mut planner = Planner::new(&project.graph);
    let lookup = Lookup {
        project,
        folder: project.folder(),
        store: &store,
        refresh: &refresh,
        known: Known::default(),
    };
    let outlooks = lookup.outlooks(&mut planner, persona)?;
    store.close();
    let outlooks = outlooks.map_err(|failure| {
        Complaint::new(format!("{persona}: {}", failure.message)).hint("`septet check` looks at all of them")
    })?;
    Ok(outlooks.into_iter().map(state).collect())
}

fn state(outlook: Outlook) -> Seen {
    let (state, note) = match outlook {
        Outlook::Hit => (State::Cached, None),
        Outlook::Call(_, Reason::Rejected(rejection)) => (State::Rejected, Some(rejection.to_string())),
        Outlook::Call(_, Reason::New) => (State::Call, None),
        Outlook::Call(_, reason) => (State::Call, Some(reason.to_string())),
        Outlook::Twin => (State::Call, Some("once for another node too".to_owned())),
        Outlook::Depends(_) => (State::Depends, None),
        Outlook::CutOff(cut) => (State::Failed, Some(cut.to_string())),
        Outlook::Skipped => (State::Skipped, None),
    };
    Seen { state, note }
}
