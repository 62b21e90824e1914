//! The template engine as septet uses it: strict, bounded, without a way out of its templates. It
//! does not know which templates there are.

use minijinja::value::{Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, State, UndefinedBehavior, Value, escape_formatter, filters};

use super::references::clean;

/// Steps that one template may take: about a second, and some 64 bytes of memory each (minijinja
/// 3.1, `Environment::set_fuel`). The longest prompt that is allowed takes a tenth of it.
const FUEL: u64 = 4_000_000;

/// How deep templates may include and call each other: far from the end of a thread's stack.
const DEEPEST: usize = 150;

/// Returns an engine without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Errors say which name is undefined only in this mode.
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEEPEST);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_path_join_callback(|name, _| clean(name).into());
    // It would print the engine's insides into a prompt.
    environment.remove_global("debug");
    // Strictness ends inside lists: there an undefined value is printed, joined to nothing or
    // becomes `null`, and a model is paid to read that.
    environment.set_formatter(|out, state, value| {
        refuse_undefined_items(state, value)?;
        escape_formatter(out, state, value)
    });
    environment.add_filter("join", strict_join);
    environment.add_filter("tojson", strict_tojson);
    environment
}

fn strict_join(state: &mut State<'_, '_>, value: Value, rest: Rest<Value>) -> Result<Value, Error> {
    let value = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => Value::from(value.try_iter()?.collect::<Vec<_>>()),
        _ => value,
    };
    refuse_undefined_items(state, &value)?;
    Value::from_function(filters::join).call(state, &arguments(value, rest))
}

fn strict_tojson(state: &mut State<'_, '_>, value: Value, rest: Rest<Value>) -> Result<Value, Error> {
    refuse_undefined_items(state, &value)?;
    Value::from_function(filters::tojson).call(state, &arguments(value, rest))
}

fn arguments(value: Value, rest: Rest<Value>) -> Vec<Value> {
    std::iter::once(value).chain(rest.0).collect()
}

/// Fails on a value that is undefined or holds one that is.
fn refuse_undefined_items(state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        // Any strict filter makes the engine's own error, which knows where the value came from.
        ValueKind::Undefined => state.apply_filter("upper", std::slice::from_ref(value)).map(drop),
        ValueKind::Seq => value
            .try_iter()?
            .try_for_each(|item| refuse_undefined_items(state, &item)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            let item = value.get_item(&key)?;
            refuse_undefined_items(state, &item)
        }),
        _ => Ok(()),
    }
}
