//! Reads a project: `pipeline.toml` and the templates, with everything that is wrong with them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::call::Price;
use crate::cli::args::Selection;
use crate::cli::cache;
use crate::cli::failure::{CliError, Complaint};
use crate::config::{self, Config, ConfigError};
use crate::files::{self, FileError};
use crate::graph::Graph;
use crate::names::PersonaId;
use crate::prompt::{PromptError, Prompts, recipes};
use crate::run::{Folder, Snapshot};
use crate::store::{Basis, Digest};
use crate::tariff::Tariff;

pub const PIPELINE: &str = "pipeline.toml";

/// A project whose pipeline and templates are good.
pub struct Loaded {
    /// The folder of `pipeline.toml`.
    pub root: PathBuf,
    pub files: files::Project,
    pub config: Arc<Config>,
    pub graph: Arc<Graph>,
    pub prompts: Arc<Prompts>,
    /// Sources of the templates by path.
    pub templates: BTreeMap<String, String>,
    /// What it was read from.
    pub snapshot: Arc<Snapshot>,
    /// What receipts rest on besides the personas.
    pub basis: Basis,
}

impl Loaded {
    /// Reads the project in a folder; `None`: the current one.
    pub fn open(directory: Option<&Path>) -> Result<Self, CliError> {
        let root = root(directory);
        if !root.join(PIPELINE).exists() {
            return Err(no_pipeline(directory).into());
        }
        let files = files::Project::open(&root).map_err(|error| about_file(&error))?;
        let text = files.text(PIPELINE).map_err(|error| about_file(&error))?;
        let mut config = config::load(&text, PIPELINE)
            .map_err(|errors| CliError::refused(errors.iter().map(about_config)))?;
        files
            .schemas(&mut config)
            .map_err(|errors| CliError::refused(errors.iter().map(about_file)))?;
        let templates = files
            .templates(&config)
            .map_err(|errors| CliError::refused(errors.iter().map(about_file)))?;
        let prompts = Prompts::compile(&config, &templates)
            .map_err(|errors| CliError::refused(errors.iter().map(about_prompt)))?;
        let graph = Graph::new(&config.nodes, &config.result);
        let snapshot = Snapshot::pipeline(&text, &templates);
        Ok(Self {
            basis: basis(&config, &templates),
            root,
            files,
            config: config.into(),
            graph: graph.into(),
            prompts: prompts.into(),
            snapshot: snapshot.into(),
            templates,
        })
    }

    /// All personas by name.
    pub fn personas(&self) -> Result<Vec<PersonaId>, CliError> {
        let listed = self
            .files
            .personas(&self.config)
            .map_err(|error| about_file(&error))?;
        // One that cannot be a persona fails when it is opened, alone and with its reason.
        Ok(listed.into_iter().map(|listed| listed.id).collect())
    }

    /// The personas that the command line chooses.
    pub fn select(&self, selection: &Selection) -> Result<Vec<PersonaId>, CliError> {
        let all = self.personas()?;
        self.demand_own_transcripts(&all)?;
        selection.choose(all, &self.config.personas)
    }

    /// Refuses names that differ only in case: where a file system takes them for one (macOS, Windows),
    /// so it takes their transcripts, and each run would write one over the other.
    pub fn demand_own_transcripts(&self, personas: &[PersonaId]) -> Result<(), CliError> {
        let mut seen: HashMap<String, &PersonaId> = HashMap::with_capacity(personas.len());
        let twins = personas.iter().filter_map(|persona| {
            let twin = seen.insert(persona.as_str().to_lowercase(), persona)?;
            let message = format!("the personas `{twin}` and `{persona}` differ only in case");
            let hint = "rename one of the folders: on macOS and Windows they would share one transcript";
            Some(Complaint {
                message,
                place: Some(self.config.personas.clone()),
                hint: Some(hint.to_owned()),
            })
        });
        let twins: Vec<Complaint> = twins.collect();
        match twins.is_empty() {
            true => Ok(()),
            false => Err(CliError::refused(twins)),
        }
    }

    /// The model that each node asks.
    pub fn models(&self) -> Vec<Arc<str>> {
        let nodes = self.config.nodes.iter();
        nodes.map(|node| node.model.name.clone()).collect()
    }

    /// What each node's model costs, and when.
    pub fn tariffs(&self) -> Vec<Option<Arc<Tariff>>> {
        let tariff = |node: &config::Node| self.config.prices.get(&*node.model.name);
        let nodes = self.config.nodes.iter();
        nodes.map(|node| tariff(node).cloned().map(Arc::new)).collect()
    }

    /// The usual price of each node's model.
    pub fn prices(&self) -> Vec<Option<Price>> {
        let usual = |tariff: Option<Arc<Tariff>>| tariff.map(|tariff| tariff.usual());
        self.tariffs().into_iter().map(usual).collect()
    }

    /// The project as a run sees it, for whoever only looks.
    pub fn folder(&self) -> Folder {
        Folder::new(
            self.files.clone(),
            self.config.clone(),
            self.graph.clone(),
            self.prompts.clone(),
        )
    }

    /// The project as a run sees it, which notes in the cache who is up to date.
    pub fn kept_folder(&self) -> Folder {
        self.folder()
            .with_receipts(cache::folder(&self.root), self.basis.clone())
    }
}

/// How requests are rendered and answers judged: another number, and no receipt of before holds.
const RULES: u32 = 3;

fn basis(config: &Config, templates: &BTreeMap<String, String>) -> Basis {
    let digest = |what: String| *blake3::hash(what.as_bytes()).as_bytes();
    let version = env!("CARGO_PKG_VERSION");
    let recipes = recipes(config, templates);
    let rests_on = |recipe| Digest(half(digest(format!("{RULES} {version} {recipe:?}"))));
    let ids = config.nodes.iter().map(|node| node.id.clone());
    let nodes: BTreeMap<_, _> = ids.zip(recipes.into_iter().map(rests_on)).collect();
    // Which text goes where, and which folders are personas.
    let places = (&config.personas, &config.output, &config.result);
    let whole = blake3::Hash::from(digest(format!("{places:?} {nodes:?}"))).to_hex();
    Basis {
        whole: format!("{RULES} {version} {whole}"),
        nodes,
    }
}

fn half(digest: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// The folder of the project: `-C`, or the current one.
pub fn root(directory: Option<&Path>) -> PathBuf {
    directory.unwrap_or(Path::new(".")).to_owned()
}

/// Says that a folder is no project.
pub fn no_pipeline(directory: Option<&Path>) -> Complaint {
    const HINT: &str = "`septet init DIR` makes a project, `septet -C DIR …` works in another folder";
    match directory {
        None => Complaint::new(format!("there is no `{PIPELINE}` in this folder")).hint(HINT),
        Some(folder) if folder.is_dir() => {
            Complaint::new(format!("there is no `{PIPELINE}` in `{}`", folder.display())).hint(HINT)
        }
        Some(folder) if folder.exists() => {
            Complaint::new(format!("`-C {}` is not a folder", folder.display()))
        }
        Some(folder) => Complaint::new(format!("the folder `{}` does not exist", folder.display())),
    }
}

fn about_config(error: &ConfigError) -> Complaint {
    Complaint {
        message: error.message.clone(),
        place: Some(format!("{}:{}", error.file, error.line)),
        hint: error.hint.clone(),
    }
}

pub fn about_file(error: &FileError) -> Complaint {
    Complaint {
        message: error.message.clone(),
        place: Some(place(&error.file, error.line)),
        hint: error.hint.clone(),
    }
}

pub fn about_prompt(error: &PromptError) -> Complaint {
    let node = error
        .node
        .as_ref()
        .map(|node| format!("node `{node}`: "))
        .unwrap_or_default();
    Complaint {
        message: format!("{node}{}", error.message),
        place: Some(place(&error.file, error.line)),
        hint: error.hint.clone(),
    }
}

pub fn place(file: &str, line: Option<usize>) -> String {
    line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"))
}
