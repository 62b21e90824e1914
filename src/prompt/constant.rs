//! What is known of an expression without a persona: `vars` and which nodes are needed do not
//! change from one persona to the next. So a branch that a node never takes is found out before
//! anything is rendered. It does not judge names.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, CompareOpKind, Expr, Filter, Test, UnaryOpKind};
use minijinja::{Environment, Value};

use super::builtins::IMPLICIT;
use super::path::Path;

/// What a template sees that is the same for every persona.
pub(super) struct Known<'a> {
    /// `vars` and `needs`; the texts in `needs` are placeholders.
    pub(super) seen: &'a Value,
    /// Names that the template gives a value itself: nothing is known of them.
    pub(super) assigned: BTreeSet<&'a str>,
    /// For filters and tests.
    pub(super) environment: &'a Environment<'static>,
}

/// What is known of one expression.
pub(super) enum Constant {
    /// It is this value.
    Value(Value),
    /// It is undefined.
    Undefined,
    /// It depends on the persona, or on what an earlier node answers.
    Unknown,
}

impl Constant {
    /// Whether it counts as true, where that is known. Undefined does not: that is an error.
    pub(super) fn truth(&self) -> Option<bool> {
        match self {
            Constant::Value(value) => Some(value.is_true()),
            Constant::Undefined | Constant::Unknown => None,
        }
    }
}

impl From<Option<Value>> for Constant {
    fn from(value: Option<Value>) -> Self {
        value.map_or(Constant::Unknown, Constant::Value)
    }
}

impl Known<'_> {
    /// Whether a name stands for something; `None` where that depends on the persona.
    pub(super) fn is_defined(&self, path: &Path<'_>) -> Option<bool> {
        if self.assigned.contains(path.root) || IMPLICIT.contains(&path.root) {
            return None;
        }
        match path.root {
            "persona" => path.steps.is_empty().then_some(true),
            "vars" | "needs" => self.resolve(path).map(|value| !value.is_undefined()),
            root => Some(self.is_global(root)),
        }
    }

    /// True for functions that every template has.
    pub(super) fn is_global(&self, name: &str) -> bool {
        self.environment.globals().any(|(global, _)| global == name)
    }

    /// The value of a path into `vars` or `needs`; `None` where a step is not known.
    fn resolve(&self, path: &Path<'_>) -> Option<Value> {
        let mut at = self.seen.get_attr(path.root).ok()?;
        for step in &path.steps {
            at = step.of(&at)?;
        }
        Some(at)
    }

    /// What is known of an expression.
    pub(super) fn constant(&self, expr: &Expr<'_>) -> Constant {
        if let Some(path) = Path::of(expr) {
            return self.constant_path(&path);
        }
        match expr {
            Expr::UnaryOp(op) => match op.op {
                UnaryOpKind::Not => self
                    .constant(&op.expr)
                    .truth()
                    .map(|truth| Value::from(!truth))
                    .into(),
                UnaryOpKind::Neg => expr.as_const().into(),
            },
            Expr::BinOp(op) => self.binary(op.op, &op.left, &op.right),
            Expr::Compare(compare) => match &compare.ops[..] {
                [op] => {
                    let left = self.constant(&compare.expr);
                    self.compare(binary_of(op.op), left, &op.expr).into()
                }
                _ => Constant::Unknown,
            },
            Expr::IfExpr(branch) => match self.constant(&branch.test_expr).truth() {
                Some(true) => self.constant(&branch.true_expr),
                Some(false) => branch
                    .false_expr
                    .as_ref()
                    .map_or(Constant::Undefined, |expr| self.constant(expr)),
                None => Constant::Unknown,
            },
            Expr::Filter(filter) => self.filter(filter),
            Expr::Test(test) => self.test(test).map(Value::from).into(),
            other => other.as_const().into(),
        }
    }

    fn constant_path(&self, path: &Path<'_>) -> Constant {
        match self.is_defined(path) {
            Some(false) => Constant::Undefined,
            Some(true) if path.root == "vars" => self.resolve(path).into(),
            // Of a list of answers only that there are none is known.
            Some(true) if path.root == "needs" && path.steps.is_empty() => {
                self.resolve(path).filter(|needs| !needs.is_true()).into()
            }
            _ => Constant::Unknown,
        }
    }

    fn binary(&self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Constant {
        let left = self.constant(left);
        match (op, left.truth()) {
            (BinOpKind::ScAnd, Some(false)) | (BinOpKind::ScOr, Some(true)) => left,
            (BinOpKind::ScAnd, Some(true)) | (BinOpKind::ScOr, Some(false)) => self.constant(right),
            (BinOpKind::ScAnd | BinOpKind::ScOr, None) => Constant::Unknown,
            _ => self.compare(Some(op), left, right).into(),
        }
    }

    fn compare(&self, op: Option<BinOpKind>, left: Constant, right: &Expr<'_>) -> Option<Value> {
        let Constant::Value(left) = left else {
            return None;
        };
        let Constant::Value(right) = self.constant(right) else {
            return None;
        };
        let ordering = left.partial_cmp(&right);
        let truth = match op? {
            BinOpKind::Eq => left == right,
            BinOpKind::Ne => left != right,
            BinOpKind::Lt => ordering == Some(Ordering::Less),
            BinOpKind::Gt => ordering == Some(Ordering::Greater),
            BinOpKind::Lte => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            BinOpKind::Gte => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
            BinOpKind::In => self.perform("in", &[left, right])?,
            _ => return None,
        };
        Some(Value::from(truth))
    }

    fn filter(&self, filter: &Filter<'_>) -> Constant {
        let Some(input) = &filter.expr else {
            return Constant::Unknown;
        };
        let input = self.constant(input);
        if is_default(filter.name) {
            return match (input, filter.args.first()) {
                (Constant::Undefined, Some(CallArg::Pos(other))) => self.constant(other),
                (Constant::Value(value), _) if filter.args.len() < 2 => Constant::Value(value),
                _ => Constant::Unknown,
            };
        }
        let Constant::Value(input) = input else {
            return Constant::Unknown;
        };
        let arguments = self.arguments(input, &filter.args);
        arguments
            .and_then(|arguments| {
                self.environment
                    .empty_state()
                    .apply_filter(filter.name, &arguments)
                    .ok()
            })
            .into()
    }

    fn test(&self, test: &Test<'_>) -> Option<bool> {
        if let Some(defined) = is_guard(test.name) {
            return Some(self.is_defined(&Path::of(&test.expr)?)? == defined);
        }
        let Constant::Value(input) = self.constant(&test.expr) else {
            return None;
        };
        self.perform(test.name, &self.arguments(input, &test.args)?)
    }

    fn perform(&self, test: &str, arguments: &[Value]) -> Option<bool> {
        self.environment.empty_state().perform_test(test, arguments).ok()
    }

    /// The input with the arguments, where all are known.
    fn arguments(&self, input: Value, arguments: &[CallArg<'_>]) -> Option<Vec<Value>> {
        let argument = |argument: &CallArg<'_>| match argument {
            CallArg::Pos(expr) => match self.constant(expr) {
                Constant::Value(value) => Some(value),
                Constant::Undefined | Constant::Unknown => None,
            },
            _ => None,
        };
        std::iter::once(Some(input))
            .chain(arguments.iter().map(argument))
            .collect()
    }
}

/// True for the filter that an undefined value may go through.
pub(super) fn is_default(filter: &str) -> bool {
    matches!(filter, "default" | "d")
}

/// For a test that an undefined value may go through: the answer it gives for a defined one.
pub(super) fn is_guard(test: &str) -> Option<bool> {
    match test {
        "defined" => Some(true),
        "undefined" => Some(false),
        _ => None,
    }
}

fn binary_of(op: CompareOpKind) -> Option<BinOpKind> {
    Some(match op {
        CompareOpKind::Eq => BinOpKind::Eq,
        CompareOpKind::Ne => BinOpKind::Ne,
        CompareOpKind::Lt => BinOpKind::Lt,
        CompareOpKind::Lte => BinOpKind::Lte,
        CompareOpKind::Gt => BinOpKind::Gt,
        CompareOpKind::Gte => BinOpKind::Gte,
        CompareOpKind::In => BinOpKind::In,
        CompareOpKind::NotIn => return None,
    })
}
