//! A template's text → its syntax tree. It does not know what the names in it stand for.

use minijinja::Value;
use minijinja::machinery::ast::{Expr, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::error::{Finding, explain};
use super::walk::bodies;

/// The most operators in one tag, and the most `elif` after one `if`. Each may be a level of the tree, and everything that looks
/// through a tree goes down level by level: a thousand would leave a thread's stack.
const MOST_OPERATORS: usize = 250;

/// The most brackets within each other. Each is a dozen levels of the parser, which has the 2 MB of any
/// thread to go down in: the debug build needs 1.6 MB for two hundred.
const DEEPEST_BRACKETS: usize = 60;

/// The most characters of a line before the end of a tag in it. The engine counts columns in 16 bits, and
/// a mistake in the last one is a panic of a debug build (minijinja 3.1).
const LAST_COLUMN: usize = 65_000;

/// Returns the syntax tree of the template `name`.
pub(super) fn tree<'a>(source: &'a str, name: &'a str) -> Result<Stmt<'a>, Finding> {
    if let Some(line) = far_out(source) {
        return Err(Finding::template(
            name,
            Some(line),
            format!("a tag behind more than {LAST_COLUMN} characters of one line"),
            Some("break the line before the tag".to_owned()),
        ));
    }
    if let Some((line, most, what)) = overlong(source) {
        let message = format!("more than {most} {what}");
        return Err(Finding::template(
            name,
            Some(line),
            message,
            Some("split it up".to_owned()),
        ));
    }
    let tree = parse(source, name, SyntaxConfig::default())
        .map_err(|error| explain(&error, &Value::UNDEFINED, name))?;
    match nameless_import(&tree) {
        Some(line) => Err(Finding::template(
            name,
            Some(line),
            "what stands behind `as` is no name".to_owned(),
            Some("write `{% import \"FILE\" as NAME %}`".to_owned()),
        )),
        None => Ok(tree),
    }
}

/// The line of an import under something that is no name. The parser takes it, and the engine
/// panics at it (minijinja 3.1).
fn nameless_import(stmt: &Stmt<'_>) -> Option<usize> {
    match stmt {
        Stmt::Import(import) if !matches!(import.name, Expr::Var(_)) => {
            Some(usize::from(import.span().start_line))
        }
        _ => bodies(stmt).into_iter().flatten().find_map(nameless_import),
    }
}

/// The first line with a tag, or a part of one, beyond [`LAST_COLUMN`]; text may be as long as it likes.
/// The engine's own lexer says which is which, on pieces in which it meets no far column.
fn far_out(source: &str) -> Option<usize> {
    // Up to here the source is looked through, and ends in text.
    let (mut known, mut start) = (0, 0);
    for (line, number) in source.split('\n').zip(1..) {
        // Most lines have not even so many bytes.
        let letters = (line.len() > LAST_COLUMN).then(|| line.char_indices());
        if let Some((far, _)) = letters.and_then(|mut letters| letters.nth(LAST_COLUMN)) {
            match end_of(&source[known..start + far]) {
                End::Text => {}
                End::Tag => return Some(number),
                // Where it is wrong before the line, the lexer stops there, and says what it is.
                End::Wrong => return (end_of(&source[known..start]) != End::Wrong).then_some(number),
            }
            // A tag may begin with the last character before.
            let rest = if line[..far].ends_with('{') { far - 1 } else { far };
            if ["{{", "{%", "{#"].iter().any(|tag| line[rest..].contains(tag)) {
                return Some(number);
            }
            known = start + line.len();
        }
        start += line.len() + 1;
    }
    None
}

/// What a piece of a template that begins with text ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Text,
    /// Also a comment, or a `raw` block.
    Tag,
    /// There is a mistake before.
    Wrong,
}

fn end_of(piece: &str) -> End {
    let mut end = End::Text;
    for token in tokenize(piece, false, SyntaxConfig::default()) {
        end = match token {
            Ok((Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd, _)) => End::Text,
            Ok(_) => End::Tag,
            Err(error)
                if error
                    .detail()
                    .is_some_and(|what| what.starts_with("unexpected end of")) =>
            {
                return End::Tag;
            }
            Err(_) => return End::Wrong,
        };
    }
    end
}

/// The first line at which there is too much of something, how much there may be, and of what.
fn overlong(source: &str) -> Option<(usize, usize, &'static str)> {
    let (mut operators, mut branches, mut depth) = (0, 0, 0_usize);
    // After an error there is nothing more to count: the parser will say what is wrong.
    for (token, span) in tokenize(source, false, SyntaxConfig::default()).map_while(Result::ok) {
        match token {
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => depth += 1,
            Token::BracketClose | Token::ParenClose | Token::BraceClose => depth = depth.saturating_sub(1),
            _ => {}
        }
        match token {
            Token::VariableStart | Token::BlockStart => (operators, depth) = (0, 0),
            Token::Ident("elif") => branches += 1,
            Token::Ident("endif") => branches = 0,
            token if is_operator(&token) => operators += 1,
            _ => {}
        }
        let line = usize::from(span.start_line);
        if operators > MOST_OPERATORS {
            return Some((line, MOST_OPERATORS, "operators in one tag"));
        }
        if branches > MOST_OPERATORS {
            return Some((line, MOST_OPERATORS, "`elif` after one `if`"));
        }
        if depth > DEEPEST_BRACKETS {
            return Some((line, DEEPEST_BRACKETS, "brackets within each other"));
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
