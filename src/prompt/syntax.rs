//! A template's text → its syntax tree. It does not know what the names in it stand for.

use minijinja::Value;
use minijinja::machinery::ast::Stmt;
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::error::{Finding, explain};

/// The most operators in one tag, and the most `elif` after one `if`. Each may be a level of the tree, and everything that looks
/// through a tree goes down level by level: a thousand would leave a thread's stack.
const MOST_OPERATORS: usize = 250;

/// Returns the syntax tree of the template `name`.
pub(super) fn tree<'a>(source: &'a str, name: &'a str) -> Result<Stmt<'a>, Finding> {
    if let Some((line, what)) = overlong(source) {
        let message = format!("more than {MOST_OPERATORS} {what}");
        return Err(Finding::template(
            name,
            Some(line),
            message,
            Some("split it up".to_owned()),
        ));
    }
    parse(source, name, SyntaxConfig::default()).map_err(|error| explain(&error, &Value::UNDEFINED, name))
}

/// The first line at which there is too much of something, and of what.
fn overlong(source: &str) -> Option<(usize, &'static str)> {
    let (mut operators, mut branches) = (0, 0);
    // After an error there is nothing more to count: the parser will say what is wrong.
    for (token, span) in tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok) {
        match token {
            Token::VariableStart | Token::BlockStart => operators = 0,
            Token::Ident("elif") => branches += 1,
            Token::Ident("endif") => branches = 0,
            token if is_operator(&token) => operators += 1,
            _ => {}
        }
        let line = usize::from(span.start_line);
        if operators > MOST_OPERATORS {
            return Some((line, "operators in one tag"));
        }
        if branches > MOST_OPERATORS {
            return Some((line, "`elif` after one `if`"));
        }
    }
    None
}

/// True for what leads to another level of the tree.
fn is_operator(token: &Token<'_>) -> bool {
    match token {
        Token::Ident(word) => matches!(*word, "and" | "or" | "not" | "is" | "in" | "if" | "else"),
        Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::FloorDiv | Token::Pow | Token::Mod => {
            true
        }
        Token::Eq | Token::Ne | Token::Gt | Token::Gte | Token::Lt | Token::Lte => true,
        Token::Dot | Token::Tilde | Token::Pipe => true,
        Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => true,
        _ => false,
    }
}
