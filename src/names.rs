//! The names that everything else uses: personas, nodes, instances and runs. They are cheap to
//! clone, because an event carries them by value.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a persona: the name of its directory.
    PersonaId
}
name! {
    /// The `id` of a `[[node]]` in `pipeline.toml`.
    NodeId
}
name! {
    /// One `septet run`. Sorts by time: `20261123-223015-4f2a`.
    RunId
}

/// One node of one persona, written `PERSONA/NODE`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// Whose node it is.
    pub persona: PersonaId,
    /// Which node of the pipeline.
    pub node: NodeId,
}

impl Instance {
    /// Names one node of one persona.
    pub fn new(persona: impl Into<PersonaId>, node: impl Into<NodeId>) -> Self {
        Self {
            persona: persona.into(),
            node: node.into(),
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.persona, self.node)
    }
}

/// How strongly a run was asked to stop. Only a stronger one replaces a weaker one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stop {
    /// What it works on was edited (`--watch`): like the next one, and then it is run again.
    Restart,
    /// First Ctrl+C or SIGTERM: nothing new is sent, what is in flight is waited for and stored.
    Drain,
    /// Second Ctrl+C: what is in flight is given up as well.
    Abort,
}
