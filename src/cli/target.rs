//! `PERSONA[/NODE]` as a command takes it.

use crate::cli::failure::{CliError, Complaint};
use crate::cli::project::Loaded;
use crate::names::{NodeId, PersonaId};
use crate::wording::{nearest, suggest};

/// A persona of the project, or one of its nodes.
pub struct Target {
    pub persona: PersonaId,
    /// Its place in the pipeline.
    pub node: Option<usize>,
}

/// Finds what was named.
pub fn read(project: &Loaded, text: &str) -> Result<Target, CliError> {
    let (persona, node) = match text.split_once('/') {
        // As a shell completes the name of a folder.
        Some((persona, "")) => (persona, None),
        Some((persona, node)) => (persona, Some(node)),
        None => (text, None),
    };
    let all = project.personas()?;
    let Some(persona) = all.iter().find(|known| known.as_str() == persona) else {
        let complaint = Complaint::new(format!(
            "there is no persona `{persona}` in `{}`",
            project.config.personas
        ));
        let names = all.iter().map(PersonaId::as_str);
        return Err(match nearest(persona, names) {
            Some(name) => complaint.hint(format!("did you mean `{name}`?")).into(),
            None => complaint
                .hint(format!(
                    "if its folder was removed, its answers are still listed: `septet cache ls '{persona}/*'`"
                ))
                .into(),
        });
    };
    let node = node.map(|node| {
        let found = project.graph.ids().iter().position(|id| id.as_str() == node);
        found.ok_or_else(|| {
            let complaint = Complaint::new(format!("the pipeline has no node `{node}`"));
            let names = project.graph.ids().iter().map(NodeId::as_str);
            match suggest(node, "the nodes are", names) {
                Some(hint) => complaint.hint(hint),
                None => complaint,
            }
        })
    });
    Ok(Target {
        persona: persona.clone(),
        node: node.transpose()?,
    })
}
