//! The parts of a template's syntax tree that every look at it needs. It does not judge.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

/// The statements within a statement.
pub(super) fn bodies<'a>(stmt: &'a Stmt<'a>) -> Vec<&'a [Stmt<'a>]> {
    match stmt {
        Stmt::Template(s) => vec![&s.children],
        Stmt::ForLoop(s) => vec![&s.body, &s.else_body],
        Stmt::IfCond(s) => vec![&s.true_body, &s.false_body],
        Stmt::WithBlock(s) => vec![&s.body],
        Stmt::SetBlock(s) => vec![&s.body],
        Stmt::AutoEscape(s) => vec![&s.body],
        Stmt::FilterBlock(s) => vec![&s.body],
        Stmt::Block(s) => vec![&s.body],
        Stmt::Macro(s) => vec![&s.body],
        Stmt::CallBlock(s) => vec![&s.macro_decl.body],
        Stmt::EmitExpr(_)
        | Stmt::EmitRaw(_)
        | Stmt::Set(_)
        | Stmt::Import(_)
        | Stmt::FromImport(_)
        | Stmt::Extends(_)
        | Stmt::Include(_)
        | Stmt::Do(_) => Vec::new(),
    }
}

/// Adds every name that a statement, or one within it, gives a value to; [`each_need`] apart.
pub(super) fn assigned<'a>(stmt: &'a Stmt<'a>, names: &mut BTreeSet<&'a str>) {
    match stmt {
        Stmt::ForLoop(s) if each_need(stmt).is_none() => target(&s.target, names),
        Stmt::WithBlock(s) => s.assignments.iter().for_each(|(name, _)| target(name, names)),
        Stmt::Set(s) => target(&s.target, names),
        Stmt::SetBlock(s) => target(&s.target, names),
        Stmt::Import(s) => target(&s.name, names),
        Stmt::FromImport(s) => {
            let local = s.names.iter().map(|(name, alias)| alias.as_ref().unwrap_or(name));
            local.for_each(|name| target(name, names));
        }
        Stmt::Macro(s) => {
            names.insert(s.name);
            s.args.iter().for_each(|name| target(name, names));
        }
        Stmt::CallBlock(s) => s.macro_decl.args.iter().for_each(|name| target(name, names)),
        _ => {}
    }
    bodies(stmt)
        .into_iter()
        .flatten()
        .for_each(|stmt| assigned(stmt, names));
}

/// Adds every name that stands for one need after the other, in a statement or within it.
pub(super) fn each_needs<'a>(stmt: &'a Stmt<'a>, names: &mut BTreeSet<&'a str>) {
    names.extend(each_need(stmt));
    let inner = bodies(stmt).into_iter().flatten();
    inner.for_each(|stmt| each_needs(stmt, names));
}

/// The `need` of `{% for need in needs %}`.
fn each_need<'a>(stmt: &Stmt<'a>) -> Option<&'a str> {
    let Stmt::ForLoop(s) = stmt else {
        return None;
    };
    match (&s.iter, &s.target) {
        (Expr::Var(over), Expr::Var(name)) if over.id == "needs" => Some(name.id),
        _ => None,
    }
}

fn target<'a>(expr: &Expr<'a>, names: &mut BTreeSet<&'a str>) {
    match expr {
        Expr::Var(var) => {
            names.insert(var.id);
        }
        Expr::List(list) => list.items.iter().for_each(|item| target(item, names)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| target(item, names)),
        _ => {}
    }
}

/// The expression of an argument.
pub(super) fn argument<'e, 'a>(argument: &'e CallArg<'a>) -> &'e Expr<'a> {
    match argument {
        CallArg::Pos(expr)
        | CallArg::Kwarg(_, expr)
        | CallArg::PosSplat(expr)
        | CallArg::KwargSplat(expr) => expr,
    }
}
