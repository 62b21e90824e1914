//! What templates become, and what every mistake in one reads like.

use proptest::prelude::*;

use super::*;
use crate::config;
use crate::persona::PersonaFile;

/// A project in memory.
struct Project {
    pipeline: String,
    templates: BTreeMap<String, String>,
}

impl Project {
    /// A chain of three nodes, of which the second has `extra` in its table.
    fn new(extra: &str) -> Self {
        Self {
            pipeline: format!(
                r#"
[model]
name = "m"
[[node]]
id = "chunk-1"
prompt = "one.md"
vars = {{ part = 1, title = "Arriving" }}
[[node]]
id = "chunk-2"
prompt = "two.md"
{extra}
[[node]]
id = "combine"
needs = ["chunk-*"]
prompt = "combine.md"
"#
            ),
            templates: [("one.md", "1"), ("two.md", "2"), ("combine.md", "3")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into(),
        }
    }

    /// With another template in place of `one.md`, which has `vars.part` and `vars.title`.
    fn one(text: &str) -> Self {
        Self::new("").with("one.md", text)
    }

    fn with(mut self, name: &str, text: &str) -> Self {
        self.templates.insert(name.to_owned(), text.to_owned());
        self
    }

    fn compile(&self) -> Result<Prompts, Vec<PromptError>> {
        let config =
            config::load(&self.pipeline, "pipeline.toml").unwrap_or_else(|errors| panic!("{errors}"));
        Prompts::compile(&config, &self.templates)
    }

    /// All errors before anything is sent.
    fn errors(&self) -> String {
        match self.compile() {
            Ok(_) => "no error".to_owned(),
            Err(errors) => {
                assert!(errors.iter().all(|error| error.scope == PromptScope::Template));
                errors
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n\n")
            }
        }
    }

    /// What a node is asked for Ann.
    fn request(&self, node: usize) -> Result<Request, PromptError> {
        let prompts = self.compile().unwrap_or_else(|errors| panic!("{}", errors[0]));
        let (one, two) = (NodeId::from("chunk-1"), NodeId::from("chunk-2"));
        prompts.request(node, &ann(), &[(&two, "second"), (&one, "first")])
    }

    fn user(&self, node: usize) -> String {
        let request = self.request(node).unwrap_or_else(|error| panic!("{error}"));
        request.messages.last().unwrap().content.clone()
    }

    /// What goes wrong for Ann alone.
    fn failure(&self) -> String {
        match self.request(0) {
            Ok(request) => format!("no error: {:?}", request.messages),
            Err(error) => {
                assert_eq!(error.scope, PromptScope::Persona, "{error}");
                error.to_string()
            }
        }
    }
}

fn ann() -> Persona {
    let file = |name: &str, text: &str| PersonaFile {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let files = [
        file("profile.md", "Ann is old.\n"),
        file(
            "facts.toml",
            "name = \"Ann\"\nage = 81\nlist = [1, 2]\n[deep]\nkey = \"value\"\n",
        ),
        file("a-b.txt", "odd"),
    ];
    Persona::build(&"ann".into(), "personas/ann", &files).unwrap()
}

mod fuzz;
mod keys;
mod rejected;
mod rendered;
mod shipped;
