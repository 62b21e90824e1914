//! A page of conversation as text: turns and sentences go on at its end, and it can be brought to
//! a length without losing its form. Knows nothing of what is said.

use super::scene::ADVISER;

/// The longest quotation from a prompt, in characters.
const LONGEST_QUOTE: usize = 120;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speaker {
    /// The adviser.
    Adviser,
    /// Anyone else.
    Client,
}

/// A page in the making.
#[derive(Debug)]
pub struct Page {
    text: String,
    characters: usize,
    /// Where sentences end: bytes and characters.
    ends: Vec<(usize, usize)>,
    /// Where turns begin, in bytes, and whose they are.
    turns: Vec<(usize, Speaker)>,
}

impl Page {
    /// An empty page with room for so many characters.
    pub fn new(characters: usize) -> Self {
        Self {
            text: String::with_capacity(characters + characters / 8 + 512),
            characters: 0,
            ends: Vec::with_capacity(characters / 48 + 8),
            turns: Vec::with_capacity(characters / 128 + 4),
        }
    }

    /// The page as text.
    pub fn into_text(self) -> String {
        self.text
    }

    /// Its length in characters.
    pub fn characters(&self) -> usize {
        self.characters
    }

    /// How many turns there are.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// Whose turn it is.
    pub fn last_speaker(&self) -> Option<Speaker> {
        self.turns.last().map(|(_, speaker)| *speaker)
    }

    /// Adds a text as it is.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.characters += text.chars().count();
    }

    /// Adds a heading such as `## Arriving`; `marks` is `##`.
    pub fn heading(&mut self, marks: &str, text: &str) {
        if !self.text.is_empty() {
            self.push("\n\n");
        }
        self.push(marks);
        self.push(" ");
        self.push(text);
    }

    /// Begins a turn, unless it is that speaker's already and nothing stands between.
    pub fn turn(&mut self, name: &str) {
        let speaker = if name == ADVISER {
            Speaker::Adviser
        } else {
            Speaker::Client
        };
        let goes_on =
            |(begun, last): &(usize, Speaker)| *last == speaker && !self.text[*begun..].contains("\n\n");
        if self.turns.last().is_some_and(goes_on) {
            return;
        }
        if !self.text.is_empty() {
            self.push("\n\n");
        }
        self.turns.push((self.text.len(), speaker));
        self.push("**");
        self.push(name);
        self.push(":**");
    }

    /// Notes that a sentence ends here.
    pub fn end_sentence(&mut self) {
        self.ends.push((self.text.len(), self.characters));
    }

    /// Quotes from the prompt: on one line, without its full stop, and shortened where long.
    pub fn quote(&mut self, text: &str) {
        let text = text.trim().trim_end_matches('.').trim_matches(['“', '”', '"']);
        let mut room = LONGEST_QUOTE;
        for (i, word) in text.split_whitespace().enumerate() {
            let length = word.chars().count() + 1;
            if length > room {
                self.push(if i == 0 { "…" } else { " …" });
                return;
            }
            if i > 0 {
                self.push(" ");
            }
            self.push(word);
            room -= length;
        }
    }

    /// Takes the last turn back.
    pub fn take_back_turn(&mut self) {
        if let Some((begun, _)) = self.turns.pop() {
            self.ends.retain(|(bytes, _)| *bytes < begun);
            let (bytes, characters) = self.ends.last().copied().unwrap_or_default();
            self.text.truncate(bytes);
            self.characters = characters;
        }
    }

    /// Brings the page to a length: at the end of a sentence if one is near, else where a word
    /// ends, trailing off.
    pub fn cut(&mut self, target: usize) {
        let nearest = self
            .ends
            .iter()
            .min_by_key(|(_, characters)| characters.abs_diff(target));
        match nearest {
            Some(&(bytes, characters)) if characters.abs_diff(target) * 20 <= target => {
                self.text.truncate(bytes)
            }
            _ => self.trail_off(target),
        }
        self.characters = self.text.chars().count();
        let length = self.text.len();
        self.turns.retain(|(begun, _)| *begun < length);
        self.ends.retain(|(bytes, _)| *bytes <= length);
    }

    fn trail_off(&mut self, target: usize) {
        let Some((edge, _)) = self.text.char_indices().nth(target) else {
            return;
        };
        let floor = self
            .ends
            .iter()
            .rev()
            .find(|(bytes, _)| *bytes <= edge)
            .map_or(0, |(bytes, _)| *bytes);
        let begun = self
            .turns
            .iter()
            .rev()
            .find(|(begun, _)| *begun <= edge)
            .map_or(0, |(begun, _)| *begun);
        let words = self.text[begun..]
            .find(":** ")
            .map_or(0, |label| begun + label + 4)
            .max(floor);
        let last = self.text[..edge].rfind(' ').filter(|space| *space > words + 8);
        match last {
            Some(space) => self.trail_off_after(words, space),
            None => self.begin_a_sentence(words, edge, floor),
        }
    }

    /// What is left at `edge` when less than two words of the sentence that begins at `words` fit:
    /// the first words nevertheless, or nothing of it and of the headings before it, whichever is
    /// nearer; `floor` is where the sentence before ends.
    fn begin_a_sentence(&mut self, words: usize, edge: usize, floor: usize) {
        let space = self
            .text
            .char_indices()
            .find(|(at, letter)| *at > words + 8 && *letter == ' ')
            .map(|(at, _)| at);
        let end = self
            .ends
            .iter()
            .map(|(bytes, _)| *bytes)
            .find(|bytes| *bytes > words);
        match (space, end) {
            (Some(space), end)
                if space - edge.min(space) < edge - floor && end.is_none_or(|end| space < end) =>
            {
                self.trail_off_after(words, space);
            }
            (_, Some(end)) if end - edge.min(end) < edge - floor => self.text.truncate(end),
            _ if floor > 0 => self.text.truncate(floor),
            _ => self.text.truncate(edge),
        }
    }

    /// Ends the sentence that begins at `from` with an ellipsis at `at`, a quotation in it too.
    fn trail_off_after(&mut self, from: usize, at: usize) {
        let sentence = &self.text[from..at];
        let open = sentence.matches('“').count() > sentence.matches('”').count();
        let kept = self.text[..at]
            .trim_end_matches([',', ';', ':', '“', ' ', '.', '…'])
            .len();
        self.text.truncate(kept);
        self.text.push_str(if open { " …”" } else { " …" });
    }
}
