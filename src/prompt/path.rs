//! Names in templates such as `persona.facts["a b"][0]`, taken out of the syntax tree. It does not
//! know what is there to be named.

use minijinja::Value;
use minijinja::machinery::ast::Expr;

/// A name with the steps that lead on from it.
pub(super) struct Path<'a> {
    /// The name it begins with.
    pub(super) root: &'a str,
    /// What follows it.
    pub(super) steps: Vec<Step<'a>>,
    /// From 1.
    pub(super) line: usize,
}

/// One step into a value.
pub(super) enum Step<'a> {
    /// `.name` or `["name"]`.
    Name(&'a str),
    /// `[0]`.
    Index(i64),
    /// `[…]` with something that is known only when it is rendered.
    Dynamic,
}

impl<'a> Path<'a> {
    /// The path that an expression is, if it is one.
    pub(super) fn of(expr: &'a Expr<'a>) -> Option<Self> {
        let mut steps = Vec::new();
        let mut at = expr;
        loop {
            match at {
                Expr::Var(var) => {
                    steps.reverse();
                    return Some(Self {
                        root: var.id,
                        steps,
                        line: usize::from(expr.span().start_line),
                    });
                }
                Expr::GetAttr(get) => {
                    steps.push(Step::Name(get.name));
                    at = &get.expr;
                }
                Expr::GetItem(get) => {
                    steps.push(Step::subscript(&get.subscript_expr));
                    at = &get.expr;
                }
                _ => return None,
            }
        }
    }

    /// The path as it would be typed.
    pub(super) fn text(&self) -> String {
        let mut text = self.root.to_owned();
        self.steps.iter().for_each(|step| step.append_to(&mut text));
        text
    }
}

impl<'a> Step<'a> {
    fn subscript(expr: &'a Expr<'a>) -> Self {
        if let Expr::Const(constant) = expr {
            if let Some(name) = constant.value.as_str() {
                return Step::Name(name);
            }
            if let Some(index) = constant.value.as_i64() {
                return Step::Index(index);
            }
        }
        Step::Dynamic
    }

    /// What the step leads to; `None` where that is not known.
    pub(super) fn of(&self, value: &Value) -> Option<Value> {
        let key = match self {
            Step::Name(name) => Value::from(*name),
            Step::Index(index) => Value::from(*index),
            Step::Dynamic => return None,
        };
        Some(value.get_item(&key).unwrap_or(Value::UNDEFINED))
    }

    /// Writes the step as it would be typed.
    pub(super) fn append_to(&self, text: &mut String) {
        match self {
            Step::Name(name) if is_word(name) => {
                text.push('.');
                text.push_str(name);
            }
            Step::Name(name) => text.push_str(&format!("[{name:?}]")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Dynamic => text.push_str("[…]"),
        }
    }
}

/// True for what may follow a dot.
fn is_word(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(word) && !name.starts_with(|c: char| c.is_ascii_digit())
}
