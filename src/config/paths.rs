//! The paths of the pipeline: that they are paths at all, and that no transcript is written where
//! septet reads or outside the project. It does not look at a disk.

use globset::GlobBuilder;
use toml::Spanned;

use super::file::File;
use super::source::Source;

/// What stands for the name of a persona in `pipeline.output`.
pub(super) const PERSONA: &str = "{persona}";

/// The store's folder.
const CACHE: &str = "cache";

/// The paths of `[pipeline]` with their defaults.
pub(super) struct Paths {
    pub(super) personas: String,
    pub(super) output: String,
}

/// Checks every path of the file; what is wrong is noted in `source`.
pub(super) fn check(source: &Source<'_>, file: &File<'_>) -> Paths {
    let written = |path: &Option<Spanned<String>>, default: &str| match path {
        Some(path) => path.get_ref().clone(),
        None => default.to_owned(),
    };
    let paths = Paths {
        personas: written(&file.pipeline.personas, "personas"),
        output: written(&file.pipeline.output, "transcripts/{persona}.md"),
    };
    if let Some(folder) = &file.pipeline.personas {
        plain(source, "`pipeline.personas`", folder);
    }
    if let Some(output) = &file.pipeline.output {
        check_output(source, file, output, &paths.personas);
    }
    templates(source, file);
    paths
}

/// Checks the templates of `[prompts]` and of the nodes.
fn templates(source: &Source<'_>, file: &File<'_>) {
    for (key, path) in [("system", &file.system), ("context", &file.context)] {
        if let Some(path) = path.as_ref().filter(|path| !path.get_ref().is_empty()) {
            plain(source, &format!("`prompts.{key}`"), path);
        }
    }
    for node in &file.nodes {
        for (key, path) in [("system", &node.system), ("context", &node.context)] {
            if let Some(path) = path.as_ref().filter(|path| !path.get_ref().is_empty()) {
                plain(source, &node.section.label(key), path);
            }
        }
        match &node.prompt {
            Some(path) => plain(source, &node.section.label("prompt"), path),
            None if node.section.has("prompt") || node.section.misspells("prompt") => {}
            None => {
                let message = format!("node `{}` has no `prompt`", node.id.get_ref());
                let hint = "name its template: `prompt = \"prompts/chunk.md\"`".to_owned();
                source.error(node.section.at, message, Some(hint));
            }
        }
    }
}

/// Checks that a text can be a path.
fn plain(source: &Source<'_>, label: &str, path: &Spanned<String>) {
    let text = path.get_ref();
    if text.trim().is_empty() {
        source.error(path.span().start, format!("{label} is empty"), None);
    } else if text.chars().any(char::is_control) {
        let message = format!("{label} has a control character: `{}`", text);
        source.error(path.span().start, message, None);
    }
}

/// Checks `pipeline.output`: what it must have, and where it may not lead.
fn check_output(source: &Source<'_>, file: &File<'_>, output: &Spanned<String>, personas: &str) {
    let text = output.get_ref();
    let wrong = wrong_output(text).or_else(|| harmful_output(file, source.file(), text, personas));
    if let Some(what) = wrong {
        let message = format!("`pipeline.output` {what}: `{}`", text);
        let hint = "write it like `transcripts/{persona}.md`".to_owned();
        source.error(output.span().start, message, Some(hint));
    }
}

fn wrong_output(text: &str) -> Option<String> {
    let rest = text.replace(PERSONA, "");
    let fixed = |what: &str| Some(what.to_owned());
    if text.chars().any(char::is_control) {
        fixed("has a control character")
    } else if text.contains('\\') {
        fixed("has a backslash, and `/` parts folders on every system")
    } else if text.starts_with('/') || text.split('/').next().is_some_and(|first| first.contains(':')) {
        fixed("is absolute, and transcripts stay in the project")
    } else if text.split('/').any(|part| part == "..") {
        fixed("leaves the project with `..`")
    } else if let Some(start) = rest.find(['{', '}']) {
        let end = rest[start..].find('}').map_or(rest.len(), |end| start + end + 1);
        Some(format!(
            "has `{}`, but `{PERSONA}` is all that is filled in",
            &rest[start..end]
        ))
    } else if !text.contains(PERSONA) {
        fixed("has no `{persona}`, so all transcripts would be one file")
    } else if matches!(text.rsplit('/').next(), Some("" | ".")) {
        fixed("names a folder, not a file")
    } else {
        None
    }
}

/// What a transcript there would destroy or feed back, if anything.
fn harmful_output(file: &File<'_>, pipeline: &str, text: &str, personas: &str) -> Option<String> {
    let output = parts(text);
    if output.first().is_some_and(|first| first == CACHE) {
        return Some("is in `cache`, which holds the store".to_owned());
    }
    let folder = parts(personas);
    let relative =
        !personas.starts_with('/') && !folder.iter().any(|part| part == ".." || part.contains(':'));
    if relative && output.starts_with(&folder) {
        return Some("is among the personas, so a transcript would become an input".to_owned());
    }
    let pattern = output
        .join("/")
        .split(PERSONA)
        .map(globset::escape)
        .collect::<Vec<_>>()
        .join("*");
    let matcher = GlobBuilder::new(&pattern)
        .literal_separator(true)
        .build()
        .ok()?
        .compile_matcher();
    let own = pipeline.rsplit(['/', '\\']).next().unwrap_or(pipeline);
    read_files(file)
        .chain([own])
        .find(|path| matcher.is_match(parts(path).join("/")))
        .map(|path| format!("could replace `{path}`"))
}

/// The templates that septet reads.
fn read_files<'f>(file: &'f File<'_>) -> impl Iterator<Item = &'f str> {
    let nodes = file
        .nodes
        .iter()
        .flat_map(|node| [&node.system, &node.context, &node.prompt]);
    let all = [&file.system, &file.context].into_iter().chain(nodes);
    all.filter_map(|path| path.as_ref().map(|path| path.get_ref().as_str()))
}

/// The parts of a path in lower case (not every disk tells cases apart), without empty ones and `.`.
fn parts(path: &str) -> Vec<String> {
    path.split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_lowercase)
        .collect()
}
