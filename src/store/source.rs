//! What requests are made of, as it was read: the pipeline with its templates, and the files of a
//! persona. Kept once each and named by its content, so that a request of an earlier day can be
//! rendered again. It does not know how that is done.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The context of blake3's `derive_key`. What is hashed, and how, is another version here.
const CONTEXT: &str = "septet source v1";

/// The most bytes of a source that is kept. In JSON a byte may take six, and an entry has 64 MB at
/// the most; and what is read of a persona lies in the memory until its first call.
pub const LARGEST: usize = 8 << 20;

/// The name of a source: 16 bytes of blake3, written as 32 hexadecimal digits. Half of a key's
/// length: each attempt names two, and nothing is served by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId([u8; 16]);

/// Inputs as they were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// The pipeline.
    Pipeline {
        /// `pipeline.toml`.
        text: String,
        /// The templates that it names and those that they include, by path.
        templates: BTreeMap<String, String>,
    },
    /// One persona. Personas with the same files share it.
    Persona {
        /// Its files by name, in the persona's folder.
        files: BTreeMap<String, String>,
    },
}

impl SourceId {
    /// The name of a pipeline.
    pub fn of_pipeline(text: &str, templates: &BTreeMap<String, String>) -> Self {
        let templates = templates
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_bytes()));
        Self::of("pipeline", [("", text.as_bytes())].into_iter().chain(templates))
    }

    /// The name of a persona's files, sorted by name.
    pub fn of_persona<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        Self::of("persona", files)
    }

    fn of<'a>(kind: &str, parts: impl Iterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(kind.as_bytes());
        for (name, content) in parts {
            part(name.as_bytes());
            part(content);
        }
        let mut id = [0; 16];
        hasher.finalize_xof().fill(&mut id);
        Self(id)
    }

    /// The bytes, in the order in which they are stored and sorted.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl Source {
    /// Its name.
    pub fn id(&self) -> SourceId {
        match self {
            Source::Pipeline { text, templates } => SourceId::of_pipeline(text, templates),
            Source::Persona { files } => SourceId::of_persona(
                files
                    .iter()
                    .map(|(name, content)| (name.as_str(), content.as_bytes())),
            ),
        }
    }

    /// How much there is in it, names included.
    pub fn bytes(&self) -> usize {
        let (text, files) = match self {
            Source::Pipeline { text, templates } => (text.len(), templates),
            Source::Persona { files } => (0, files),
        };
        text + files
            .iter()
            .map(|(name, content)| name.len() + content.len())
            .sum::<usize>()
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceId({self})")
    }
}

impl FromStr for SourceId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not the name of a source (32 hexadecimal digits): {text}");
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

impl Serialize for SourceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SourceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persona(files: &[(&str, &str)]) -> Source {
        let files = files.iter().map(|(name, text)| ((*name).into(), (*text).into()));
        Source::Persona {
            files: files.collect(),
        }
    }

    fn pipeline(text: &str, templates: &[(&str, &str)]) -> Source {
        let templates = templates
            .iter()
            .map(|(name, text)| ((*name).into(), (*text).into()));
        Source::Pipeline {
            text: text.into(),
            templates: templates.collect(),
        }
    }

    #[test]
    fn no_two_sources_share_a_name_by_moving_a_boundary() {
        let sources = [
            persona(&[]),
            persona(&[("a.md", "b")]),
            persona(&[("a.mdb", "")]),
            persona(&[("a.md", ""), ("b", "")]),
            persona(&[("", "a.mdb")]),
            pipeline("", &[]),
            pipeline("", &[("a.md", "b")]),
            pipeline("a.md", &[("b", "")]),
            pipeline("a.mdb", &[]),
        ];
        let ids: std::collections::BTreeSet<_> = sources.iter().map(Source::id).collect();
        assert_eq!(ids.len(), sources.len());
    }

    #[test]
    fn a_name_is_the_same_on_every_day_and_comes_back_from_text() {
        let id = persona(&[("profile.md", "Anna is 40.\n")]).id();
        insta::assert_snapshot!(id, @"2152d177253659a75c89fd670246e67a");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "+1",
            &"g".repeat(32),
            &format!("{id}0"),
            &format!("+{}", &id.to_string()[1..]),
        ] {
            assert!(wrong.parse::<SourceId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_largest_source_fits_into_an_entry_whatever_is_in_it() {
        let source = persona(&[("profile.md", &"\u{1}".repeat(LARGEST - "profile.md".len()))]);
        assert_eq!(source.bytes(), LARGEST);
        let entry = crate::store::Entry::Source {
            id: source.id(),
            at_ms: u64::MAX,
            source,
        };
        crate::store::frame::encode(&entry).unwrap();
    }
}
