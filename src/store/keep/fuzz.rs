//! Any text as a line of an import: an entry that is stored as it stands there, or a reason.

use crate::fuzzed;
use crate::store::fuzz::comes_back;
use crate::store::keep::line::{self, Line};
use crate::store::{frame, samples};

#[test]
fn import_lines_fuzz() {
    let lines: Vec<String> = samples::one_of_each()
        .iter()
        .map(|entry| line::entry(&serde_json::to_string(entry).unwrap()))
        .chain([line::head(), line::end(7)])
        .collect();
    bolero::check!(name = "import_lines_fuzz").for_each(move |bytes: &[u8]| {
        let examples: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = fuzzed::text(bytes, &examples);
        let mut taken = vec![text.clone()];
        // And with a right checksum around what was changed.
        if let Some((_, inner)) = text.split_once("\"entry\":") {
            taken.push(line::entry(inner.strip_suffix('}').unwrap_or(inner)));
        }
        for text in &taken {
            match line::read(text) {
                Ok(Line::Entry(entry, json)) => {
                    assert!(text.contains(json));
                    frame::encode_json(&entry, json.as_bytes()).unwrap();
                    comes_back(&entry);
                    let plain = line::plain(json);
                    assert!(matches!(line::read(&line::entry(&plain)), Ok(Line::Entry(..))));
                }
                Ok(_) => {}
                Err(reason) => assert!(!reason.is_empty()),
            }
        }
    });
}
