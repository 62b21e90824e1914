//! What a template sees beside the persona: the answers that its node needs, and for a rehearsal
//! before there is a persona, one of which nothing is known. It does not render.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

use crate::names::NodeId;

/// `needs`: a list in the order of the pipeline that can also be asked for a node by its id.
#[derive(Debug)]
pub(super) struct Needs(Vec<Arc<Need>>);

/// One of [`Needs`]: has `id` and `text`, and is its text where it is printed.
#[derive(Debug)]
pub(super) struct Need {
    id: NodeId,
    text: Arc<str>,
}

impl Needs {
    /// From ids and texts in the order of the pipeline.
    pub(super) fn new<'a>(needs: impl IntoIterator<Item = (&'a NodeId, &'a str)>) -> Self {
        let need = |(id, text): (&NodeId, &str)| {
            Arc::new(Need {
                id: id.clone(),
                text: text.into(),
            })
        };
        Self(needs.into_iter().map(need).collect())
    }

    /// The names of the nodes in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|need| need.id.as_str())
    }
}

impl Object for Needs {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let need = match key.as_str() {
            Some(id) => self.0.iter().find(|need| need.id.as_str() == id),
            None => self.0.get(key.as_usize()?),
        };
        need.map(|need| Value::from_dyn_object(need.clone()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

impl Object for Need {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "id" => Some(Value::from(self.id.as_str())),
            "text" => Some(Value::from(self.text.clone())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["id", "text"])
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A persona, or something in one, of which nothing is known: it has every name, can be looped
/// over and printed. In a rehearsal it stands for all personas; what goes wrong only because of
/// it says nothing.
#[derive(Debug)]
pub(super) struct Anything {
    /// How many steps lead to it: at some depth there is nothing more, so that a template that
    /// follows a tree comes to an end.
    depth: usize,
}

impl Anything {
    const DEEPEST: usize = 6;

    pub(super) fn new() -> Self {
        Self { depth: 0 }
    }

    fn inner(&self) -> Option<Value> {
        let depth = self.depth + 1;
        (depth <= Self::DEEPEST).then(|| Value::from_object(Self { depth }))
    }
}

impl Object for Anything {
    fn get_value(self: &Arc<Self>, _: &Value) -> Option<Value> {
        // Even the deepest one has names: only loops end there.
        self.inner()
            .or_else(|| Some(Value::from_dyn_object(self.clone())))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.inner().into_iter().collect())
    }

    fn call(
        self: &Arc<Self>,
        _: &mut minijinja::State<'_, '_>,
        _: &[Value],
    ) -> Result<Value, minijinja::Error> {
        Ok(Value::from_dyn_object(self.clone()))
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
