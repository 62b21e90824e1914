//! Looks through a node's template, and those that it includes, for names that can never exist:
//! also where the first persona would not come by. It does not render.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CallType, Expr, Stmt};
use minijinja::value::ValueKind;
use minijinja::{Environment, Value};

use super::builtins::{FILTERS, IMPLICIT, TESTS};
use super::constant::{Constant, Known, is_default, is_guard};
use super::error::{Finding, hint_for_path};
use super::path::{Path, Step};
use super::references;
use super::walk::{argument, assigned, bodies, each_needs};
use crate::wording::{nearest, suggest};

/// What every template sees.
const ROOTS: [&str; 3] = ["persona", "vars", "needs"];

/// What a need has.
const NEED: [&str; 2] = ["id", "text"];

/// The templates of a project: name → syntax tree.
pub(super) type Trees<'a> = BTreeMap<&'a str, &'a Stmt<'a>>;

/// Returns what is wrong with a node's template `name`. `seen` holds the node's `vars` and `needs`.
pub(super) fn check<'a>(
    name: &'a str,
    trees: &Trees<'a>,
    seen: &'a Value,
    environment: &'a Environment<'static>,
) -> Vec<Finding> {
    let reachable = reachable(name, trees);
    let (mut others, mut each) = (BTreeSet::new(), BTreeSet::new());
    for tree in reachable.iter().filter_map(|name| trees.get(name)) {
        assigned(tree, &mut others);
        each_needs(tree, &mut each);
    }
    let all = others.union(&each).copied().collect();
    each.retain(|name| !others.contains(name) && !others.contains("needs"));
    let mut checker = Checker {
        known: Known {
            seen,
            assigned: all,
            environment,
        },
        each_need: each,
        template: name,
        found: Vec::new(),
    };
    for name in reachable {
        if let Some(tree) = trees.get(name) {
            checker.template = name;
            checker.stmt(tree);
        }
    }
    checker.found
}

/// A template and all that it can come to include, each once.
pub(super) fn reachable<'a>(name: &'a str, trees: &Trees<'a>) -> Vec<&'a str> {
    let mut found = vec![name];
    let mut next = 0;
    while let Some(name) = found.get(next) {
        next += 1;
        let references = trees
            .get(name)
            .map(|tree| references::of(tree))
            .unwrap_or_default();
        for name in references
            .into_iter()
            .flat_map(|reference| reference.names.unwrap_or_default())
        {
            if let Some((name, _)) = trees
                .get_key_value(name.as_str())
                .filter(|(name, _)| !found.contains(name))
            {
                found.push(name);
            }
        }
    }
    found
}

struct Checker<'a> {
    known: Known<'a>,
    /// Names that stand for a need and for nothing else.
    each_need: BTreeSet<&'a str>,
    template: &'a str,
    found: Vec<Finding>,
}

impl<'a> Checker<'a> {
    fn report(&mut self, line: usize, message: String, hint: Option<String>) {
        self.found
            .push(Finding::template(self.template, Some(line), message, hint));
    }

    fn block(&mut self, block: &'a [Stmt<'a>]) {
        block.iter().for_each(|stmt| self.stmt(stmt));
    }

    fn stmt(&mut self, stmt: &'a Stmt<'a>) {
        match stmt {
            Stmt::IfCond(s) => {
                self.expr(&s.expr);
                self.branches(&s.expr, &s.true_body, &s.false_body);
                return;
            }
            Stmt::ForLoop(s) => {
                self.expr(&s.iter);
                let empty =
                    matches!(self.known.constant(&s.iter), Constant::Value(value) if value.len() == Some(0));
                if !empty {
                    s.filter_expr.iter().for_each(|expr| self.expr(expr));
                    self.block(&s.body);
                }
                self.block(&s.else_body);
                return;
            }
            Stmt::EmitExpr(s) => self.expr(&s.expr),
            Stmt::Set(s) => self.expr(&s.expr),
            Stmt::WithBlock(s) => s.assignments.iter().for_each(|(_, expr)| self.expr(expr)),
            Stmt::SetBlock(s) => s.filter.iter().for_each(|expr| self.expr(expr)),
            Stmt::FilterBlock(s) => self.expr(&s.filter),
            Stmt::AutoEscape(s) => self.expr(&s.enabled),
            Stmt::Macro(s) => s.defaults.iter().for_each(|expr| self.expr(expr)),
            Stmt::CallBlock(s) => {
                self.call(&s.call, usize::from(s.call.span().start_line));
                s.macro_decl.defaults.iter().for_each(|expr| self.expr(expr));
            }
            Stmt::Do(s) => self.call(&s.call, usize::from(s.call.span().start_line)),
            _ => {}
        }
        bodies(stmt).into_iter().for_each(|block| self.block(block));
    }

    /// Looks only into the branch that is taken, where that is the same for every persona.
    fn branches(&mut self, condition: &'a Expr<'a>, yes: &'a [Stmt<'a>], no: &'a [Stmt<'a>]) {
        let truth = self.known.constant(condition).truth();
        if truth != Some(false) {
            self.block(yes);
        }
        if truth != Some(true) {
            self.block(no);
        }
    }

    fn expr(&mut self, expr: &'a Expr<'a>) {
        if let Some(path) = Path::of(expr) {
            self.path(&path);
            return self.subscripts(expr);
        }
        match expr {
            Expr::UnaryOp(e) => self.expr(&e.expr),
            Expr::BinOp(e) => self.binary(e.op, &e.left, &e.right),
            Expr::Compare(e) => {
                self.expr(&e.expr);
                e.ops.iter().for_each(|op| self.expr(&op.expr));
            }
            Expr::IfExpr(e) => self.if_expr(&e.test_expr, &e.true_expr, e.false_expr.as_ref()),
            Expr::Filter(e) => {
                let line = usize::from(expr.span().start_line);
                self.exists("filter", e.name, &FILTERS, line);
                let guarded = is_default(e.name);
                e.expr.iter().for_each(|input| self.input(input, guarded));
                self.arguments(&e.args);
            }
            Expr::Test(e) => {
                self.exists("test", e.name, &TESTS, usize::from(expr.span().start_line));
                self.input(&e.expr, is_guard(e.name).is_some());
                self.arguments(&e.args);
            }
            Expr::GetAttr(e) => self.expr(&e.expr),
            Expr::GetItem(e) => {
                self.expr(&e.expr);
                self.expr(&e.subscript_expr);
            }
            Expr::Slice(e) => {
                self.expr(&e.expr);
                [&e.start, &e.stop, &e.step]
                    .into_iter()
                    .flatten()
                    .for_each(|expr| self.expr(expr));
            }
            Expr::Call(e) => self.call(e, usize::from(expr.span().start_line)),
            Expr::List(e) => e.items.iter().for_each(|item| self.expr(item)),
            Expr::Tuple(e) => e.items.iter().for_each(|item| self.expr(item)),
            Expr::Map(e) => e.keys.iter().chain(&e.values).for_each(|item| self.expr(item)),
            Expr::Var(_) | Expr::Const(_) => {}
        }
    }

    /// What stands in the brackets of a path.
    fn subscripts(&mut self, mut expr: &'a Expr<'a>) {
        loop {
            expr = match expr {
                Expr::GetAttr(e) => &e.expr,
                Expr::GetItem(e) => {
                    self.expr(&e.subscript_expr);
                    &e.expr
                }
                _ => return,
            };
        }
    }

    fn binary(&mut self, op: BinOpKind, left: &'a Expr<'a>, right: &'a Expr<'a>) {
        self.expr(left);
        let left = self.known.constant(left).truth();
        let skipped = matches!(
            (op, left),
            (BinOpKind::ScAnd, Some(false)) | (BinOpKind::ScOr, Some(true))
        );
        if !skipped {
            self.expr(right);
        }
    }

    fn if_expr(&mut self, condition: &'a Expr<'a>, yes: &'a Expr<'a>, no: Option<&'a Expr<'a>>) {
        self.expr(condition);
        let truth = self.known.constant(condition).truth();
        if truth != Some(false) {
            self.expr(yes);
        }
        if truth != Some(true) {
            no.into_iter().for_each(|expr| self.expr(expr));
        }
    }

    /// The input of a filter or test. A guarded one may be undefined itself, but not what it is in.
    fn input(&mut self, expr: &'a Expr<'a>, guarded: bool) {
        match Path::of(expr) {
            Some(mut path) if guarded => {
                if path.steps.pop().is_some() {
                    self.path(&path);
                }
                self.subscripts(expr);
            }
            _ => self.expr(expr),
        }
    }

    fn arguments(&mut self, arguments: &'a [CallArg<'a>]) {
        arguments.iter().for_each(|arg| self.expr(argument(arg)));
    }

    fn call(&mut self, call: &'a Call<'a>, line: usize) {
        match call.identify_call() {
            CallType::Function(name) => self.function(name, line),
            CallType::Method(base, name) => self.method(base, name, line),
            CallType::Object(expr) => self.expr(expr),
            CallType::Block(_) => {}
        }
        self.arguments(&call.args);
    }

    fn function(&mut self, name: &str, line: usize) {
        let known =
            self.known.assigned.contains(name) || IMPLICIT.contains(&name) || self.known.is_global(name);
        if !known {
            let functions = self.known.environment.globals().map(|(name, _)| name);
            let hint = match FILTERS.contains(&name) {
                true => Some(format!("`{name}` is a filter: write `{{{{ … | {name} }}}}`")),
                false => suggest(name, "the functions are", functions),
            };
            self.report(line, format!("there is no function `{name}`"), hint);
        }
    }

    /// Texts, tables and lists have no methods; modules and `loop` have.
    fn method(&mut self, base: &'a Expr<'a>, name: &str, line: usize) {
        self.expr(base);
        let Some(path) = Path::of(base) else {
            return;
        };
        if ROOTS.contains(&path.root) && !self.known.assigned.contains(path.root) {
            let text = path.text();
            let hint = match nearest(name, FILTERS) {
                Some(filter) => format!("use the filter: `{{{{ {text} | {filter} }}}}`"),
                None => format!("use a filter: `{{{{ {text} | … }}}}`"),
            };
            self.report(line, format!("`{text}` has no method `{name}`"), Some(hint));
        }
    }

    /// Reports a filter or test that there is not.
    fn exists(&mut self, kind: &str, name: &str, all: &[&str], line: usize) {
        let state = &mut self.known.environment.empty_state();
        if !state.perform_test(kind, &[Value::from(name)]).unwrap_or(true) {
            let hint = match nearest(name, all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => {
                    format!("MiniJinja's {kind}s are listed at https://docs.rs/minijinja/3/minijinja/{kind}s")
                }
            };
            self.report(line, format!("there is no {kind} `{name}`"), Some(hint));
        }
    }

    /// Reports a path that leads nowhere for any persona.
    fn path(&mut self, path: &Path<'a>) {
        if self.each_need.contains(path.root) {
            return self.path_in_need(path);
        }
        if self.known.assigned.contains(path.root) || IMPLICIT.contains(&path.root) {
            return;
        }
        match path.root {
            "persona" => {}
            "vars" | "needs" => self.path_seen(path),
            root if self.known.is_global(root) => {}
            root => {
                let hint = self.meant(root);
                self.report(path.line, format!("`{root}` is not defined"), Some(hint));
            }
        }
    }

    fn path_in_need(&mut self, path: &Path<'a>) {
        if let Some(Step::Name(name)) = path.steps.first()
            && !NEED.contains(name)
        {
            let hint = match nearest(name, NEED) {
                Some(near) => format!("did you mean `{}.{near}`?", path.root),
                None => format!("it has `{0}.id` and `{0}.text`", path.root),
            };
            self.report(path.line, format!("`{}` is not defined", path.text()), Some(hint));
        }
    }

    fn path_seen(&mut self, path: &Path<'a>) {
        // The first step that leads nowhere, not the whole path, is what is wrong.
        let hint = hint_for_path(path, self.known.seen);
        if hint.is_some() {
            self.report(path.line, format!("`{}` is not defined", path.text()), hint);
        }
    }

    /// What an unknown name was probably meant to be.
    fn meant(&self, name: &str) -> String {
        let vars = self.known.seen.get_attr("vars").unwrap_or_default();
        let is_var = vars.kind() == ValueKind::Map && !vars.get_attr(name).unwrap_or_default().is_undefined();
        let functions = self.known.environment.globals().map(|(name, _)| name);
        let names: Vec<&str> = ROOTS.into_iter().chain(functions).collect();
        if is_var {
            format!("did you mean `vars.{name}`?")
        } else if let Some(near) = nearest(name, names) {
            format!("did you mean `{near}`?")
        } else {
            "a template sees `persona`, `vars` and `needs`".to_owned()
        }
    }
}
