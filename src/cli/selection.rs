//! The options that `run` and `plan` share, put over what `pipeline.toml` says.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::cli::args::Selection;
use crate::cli::failure::{CliError, Complaint};
use crate::config::Limits;
use crate::names::PersonaId;
use crate::wording::nearest;

impl Selection {
    /// The limits of the file with those of the command line over them.
    pub fn limits(&self, file: &Limits) -> Limits {
        Limits {
            concurrency: self.workers.map(|n| n as usize).or(file.concurrency),
            requests_per_minute: self.rpm.or(file.requests_per_minute),
            tokens_per_minute: self.tpm.or(file.tokens_per_minute),
            hours: file.hours.clone(),
            budget_usd: self.budget.or(file.budget_usd),
            budget_usd_month: file.budget_usd_month,
            budget_usd_total: file.budget_usd_total,
        }
    }

    /// The chosen ones of all personas, which are sorted by name: those that match `--persona`,
    /// then the first `--max` of them.
    pub fn choose(&self, all: Vec<PersonaId>, folder: &str) -> Result<Vec<PersonaId>, CliError> {
        let mut chosen = all.clone();
        if !self.persona.is_empty() {
            let set = Self::globs("--persona", &self.persona)?;
            chosen.retain(|persona| set.is_match(persona.as_str()));
        }
        if chosen.is_empty() {
            return Err(self.nobody(&all, folder));
        }
        chosen.truncate(self.max.map_or(usize::MAX, |max| max as usize));
        Ok(chosen)
    }

    fn nobody(&self, all: &[PersonaId], folder: &str) -> CliError {
        if all.is_empty() {
            return Complaint::new(format!("`{folder}` has no personas"))
                .hint(format!("make a folder for each one: `{folder}/anna/profile.md`"))
                .into();
        }
        let asked = self.persona.join("`, `--persona ");
        let complaint = Complaint::new(format!("no persona matches `--persona {asked}`"));
        let names = all.iter().map(PersonaId::as_str);
        match self.persona.iter().find_map(|glob| nearest(glob, names.clone())) {
            Some(name) => complaint.hint(format!("did you mean `{name}`?")).into(),
            None => complaint
                .hint(format!(
                    "`{folder}` has {} others, such as `{}`",
                    all.len(),
                    all[0]
                ))
                .into(),
        }
    }

    /// Compiles patterns. `*` stops at a slash, as in a shell.
    pub fn globs(option: &str, globs: &[String]) -> Result<GlobSet, CliError> {
        let wrong = |glob: &str, error: globset::Error| {
            Complaint::new(format!("`{option} {glob}` is no pattern: {}", error.kind()))
        };
        let mut set = GlobSetBuilder::new();
        for glob in globs {
            let compiled = GlobBuilder::new(glob).literal_separator(true).build();
            set.add(compiled.map_err(|error| wrong(glob, error))?);
        }
        set.build().map_err(|error| wrong(&globs.join(" "), error).into())
    }
}
