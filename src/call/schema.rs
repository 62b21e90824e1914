//! JSON Schema, compiled: whether a text is JSON that fits. It reads nothing: what a schema refers
//! to has to stand in it.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use boon::{CompileError, Compiler, ErrorKind, SchemaIndex, Schemas, UrlLoader, ValidationError};
use serde_json::Value;

/// The name of the schema inside the compiler. Nobody is asked for it: `.invalid` never exists.
const URL: &str = "https://septet.invalid/schema.json";

/// So many alternatives are told that all do not fit.
const MOST_ALTERNATIVES: usize = 3;

/// A schema that answers are held against.
#[derive(Clone)]
pub struct Schema {
    value: Arc<Value>,
    compiled: Arc<(Schemas, SchemaIndex)>,
}

/// Nothing is loaded from anywhere.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, _: &str) -> Result<Value, Box<dyn Error>> {
        Err("nothing is loaded".into())
    }
}

impl Schema {
    /// Compiles a schema, by default as draft 2020-12.
    ///
    /// # Errors
    /// In words, why it is no schema.
    pub fn compile(value: Value) -> Result<Self, String> {
        let mut compiler = Compiler::new();
        compiler.use_loader(Box::new(Nothing));
        let mut schemas = Schemas::new();
        let added = compiler.add_resource(URL, value.clone());
        added.map_err(|error| words(&error))?;
        let index = compiler.compile(URL, &mut schemas);
        let index = index.map_err(|error| words(&error))?;
        Ok(Self {
            value: Arc::new(value),
            compiled: Arc::new((schemas, index)),
        })
    }

    /// Says whether a text is JSON that fits.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence about it.
    pub(super) fn judge(&self, text: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(text.trim()).map_err(|error| {
            let fence = if text.trim_start().starts_with("```") {
                "; it begins with a code fence"
            } else {
                ""
            };
            format!("is no JSON, which `json_schema` asks for: {error}{fence}")
        })?;
        let (schemas, index) = &*self.compiled;
        let validate = || {
            schemas.validate(&value, *index).map_err(|error| {
                let (place, what) = first(&error);
                format!("does not fit `json_schema`{place}: {what}")
            })
        };
        // The text was paid for and is not stored yet: a flaw in the library must not lose it.
        catch_unwind(AssertUnwindSafe(validate))
            .unwrap_or_else(|_| Err("could not be held against `json_schema`: that panicked".to_owned()))
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Schema {}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.value).finish()
    }
}

/// The first thing that is wrong, where it is: ` at \`/title\``, and what.
fn first(error: &ValidationError<'_, '_>) -> (String, String) {
    let alternatives = matches!(error.kind, ErrorKind::AnyOf | ErrorKind::OneOf(None));
    if let (false, Some(cause)) = (alternatives, error.causes.first()) {
        return first(cause);
    }
    let place = match error.instance_location.to_string() {
        place if place.is_empty() => place,
        place => format!(" at `{place}`"),
    };
    if error.causes.is_empty() {
        let what = error.kind.to_string();
        // What follows points into the pattern, on lines of its own.
        return match what.split_once(": regex parse error") {
            Some((what, _)) => (place, what.to_owned()),
            None => (place, what),
        };
    }
    // Nobody knows which of the alternatives was meant.
    let causes = error.causes.iter().take(MOST_ALTERNATIVES);
    let what: Vec<String> = causes.map(|cause| first(cause).1).collect();
    (place, what.join(", or "))
}

fn words(error: &CompileError) -> String {
    match error {
        CompileError::ValidationError { src, .. } => {
            let (place, what) = first(src);
            format!("it is no JSON Schema{place}: {what}")
        }
        CompileError::LoadUrlError { url, .. } | CompileError::UnsupportedUrlScheme { url } => {
            format!("it refers to `{url}`, and nothing is loaded: put that under `$defs`")
        }
        CompileError::InvalidRegex { regex, .. } => {
            format!("the pattern `{regex}` in it cannot be used")
        }
        other => other.to_string().replace(URL, ""),
    }
}
