//! The text of a pipeline, the places in it, and the errors found so far. It does not know what
//! the text says.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use super::error::ConfigError;
use crate::printable::one_line;

/// The document and the errors found in it so far.
pub(super) struct Source<'a> {
    file: Arc<str>,
    text: &'a str,
    /// The byte that each line but the first begins with.
    line_starts: Vec<usize>,
    errors: RefCell<Vec<ConfigError>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, file: &str) -> Self {
        Self {
            file: file.into(),
            text,
            line_starts: text.match_indices('\n').map(|(at, _)| at + 1).collect(),
            errors: RefCell::default(),
        }
    }

    /// Notes an error at a byte of the text.
    pub(super) fn error(&self, at: usize, message: String, hint: Option<String>) {
        let line = self.line(at);
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.clone(),
            line,
            message: one_line(&message),
            hint: hint.as_deref().map(one_line),
        });
    }

    /// Notes an error of TOML itself. Of the line only the key is shown: a secret may follow.
    pub(super) fn syntax_error(&self, error: &toml::de::Error) {
        let at = error.span().map_or(0, |span| span.start).min(self.text.len());
        let line = self
            .text
            .lines()
            .nth(self.line(at) - 1)
            .unwrap_or_default()
            .trim();
        let shown = match line.split_once('=') {
            Some((key, _)) => format!(" in `{} = …`", key.trim()),
            None if line.starts_with('[') => format!(" in `{line}`"),
            None => String::new(),
        };
        self.error(at, format!("not valid TOML{shown}: {}", error.message()), None);
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.line_starts.partition_point(|start| *start <= at)
    }

    /// What stands at `span`.
    pub(super) fn slice(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    /// What stands at `span`, in backticks: its first line, cut where it is long.
    pub(super) fn shown(&self, span: Range<usize>) -> String {
        let text = self.slice(span);
        let first = text.lines().next().unwrap_or_default();
        let cut: String = first.chars().take(60).collect();
        let rest = if cut.len() < text.len() { "…" } else { "" };
        format!("`{cut}{rest}`")
    }

    pub(super) fn file(&self) -> &Arc<str> {
        &self.file
    }

    pub(super) fn has_errors(&self) -> bool {
        self.count_errors() > 0
    }

    pub(super) fn count_errors(&self) -> usize {
        self.errors.borrow().len()
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors.into_inner()
    }
}
