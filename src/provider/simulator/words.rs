//! Writes a reply for a scene: a conversation between an adviser and the persona, or the
//! conversations of earlier nodes joined. Fast, seeded, of a given length; knows nothing of
//! requests or time.

use fastrand::Rng;

use super::lines::sentences;
use super::page::{Page, Speaker};
use super::phrases::{self, Table};
use super::scene::{ADVISER, Fact, Part, Scene, Speech};

/// How far a reply's length strays from the mean before it is brought to the end of a sentence.
const STRAY: f64 = 0.2;
/// Characters that a token stands for.
pub const CHARACTERS_PER_TOKEN: u64 = 4;
/// Shorter replies, in characters, get no heading.
const HEADING_FROM: usize = 240;
/// Shorter replies get no closing words.
const CLOSING_FROM: usize = 700;
/// What closing words take up, about.
const CLOSING: usize = 150;
/// Where a part's share of a joined page is shorter, in characters, it holds one line; every
/// other one is the client's.
const BRIEF_SHARE: usize = 260;

/// Writes a reply of about `tokens` tokens (never more than 30 % off, for more than a handful).
pub fn reply(scene: &Scene<'_>, tokens: u64, mut rng: Rng) -> String {
    let mean = (tokens * CHARACTERS_PER_TOKEN) as f64;
    let target = (mean * (1.0 - STRAY + 2.0 * STRAY * rng.f64())).round().max(1.0) as usize;
    let mut writer = Writer::new(scene, rng, target);
    if scene.parts.is_empty() {
        writer.converse(target);
    } else {
        writer.join(target);
    }
    writer.page.into_text()
}

struct Writer<'a> {
    scene: &'a Scene<'a>,
    client: &'a str,
    rng: Rng,
    page: Page,
    /// A bit for each row of each table that was used.
    used: [u64; Table::COUNT],
    /// The fact that is talked about.
    fact: Option<Fact<'a>>,
    facts_used: usize,
    first_fact: usize,
}

impl<'a> Writer<'a> {
    fn new(scene: &'a Scene<'a>, mut rng: Rng, target: usize) -> Self {
        Self {
            scene,
            client: client(scene),
            page: Page::new(target),
            used: [0; Table::COUNT],
            fact: None,
            facts_used: 0,
            first_fact: rng.usize(..scene.facts.len().max(1)),
            rng,
        }
    }

    /// A conversation of its own.
    fn converse(&mut self, target: usize) {
        let closing = if target >= CLOSING_FROM { CLOSING } else { 0 };
        if target >= HEADING_FROM {
            self.heading();
        }
        self.open();
        self.go_on(target - closing);
        self.page.cut(target - closing);
        if closing > 0 {
            self.close();
        }
    }

    /// `## Part 3: Money`, as much of it as is known.
    fn heading(&mut self) {
        let Scene { number, title, .. } = *self.scene;
        match (number, title) {
            (Some(number), None) => self.page.heading("## Part", &number.to_string()),
            (Some(number), Some(title)) => {
                self.page.heading("## Part", &number.to_string());
                self.page.push(": ");
                self.page.quote(title);
            }
            (None, Some(title)) => {
                self.page.heading("##", "");
                self.page.quote(title);
            }
            (None, None) => self.page.heading("##", "A first conversation"),
        }
    }

    fn open(&mut self) {
        self.turn(Speaker::Adviser);
        match self.scene.title {
            Some(_) => self.say(Table::OpeningTitled),
            None => self.say(Table::OpeningPlain),
        }
        if self.scene.brief.is_some() {
            self.say(Table::Brief);
        }
        self.say(Table::Question);
    }

    /// Adds turns until the page has at least so many characters.
    fn go_on(&mut self, characters: usize) {
        while self.page.characters() < characters {
            if self.page.last_speaker() == Some(Speaker::Adviser) {
                self.answer();
            } else {
                self.turn(Speaker::Adviser);
                if self.rng.bool() {
                    self.say(Table::Nod);
                }
                self.ask();
            }
        }
    }

    fn answer(&mut self) {
        self.turn(Speaker::Client);
        let on_fact = self.fact.take().is_some();
        self.say(if on_fact { Table::ReplyOnFact } else { Table::Reply });
        for _ in 0..self.rng.usize(..3) {
            self.say(Table::More);
        }
    }

    /// Asks about the persona first and every other time, as long as there is something to ask.
    fn ask(&mut self) {
        let facts = &self.scene.facts;
        let due = self.facts_used == 0 || self.rng.bool();
        if !due || self.facts_used == facts.len() {
            return self.say(Table::Question);
        }
        let fact = facts[(self.first_fact + self.facts_used) % facts.len()];
        self.facts_used += 1;
        self.fact = Some(fact);
        self.say(match fact {
            Fact::Entry { .. } => Table::QuestionOnEntry,
            Fact::Sentence(_) => Table::QuestionOnSentence,
        });
    }

    /// Ends the conversation: who did not speak last begins.
    fn close(&mut self) {
        if self.page.last_speaker() == Some(Speaker::Client) {
            self.turn(Speaker::Adviser);
            self.say(Table::AdviserClosing);
            self.turn(Speaker::Client);
            self.say(Table::ClientClosing);
        } else {
            self.turn(Speaker::Client);
            self.say(Table::More);
            self.turn(Speaker::Adviser);
            self.say(Table::AdviserClosing);
        }
    }

    /// The conversations of the scene as one: of each as much as its share of the length holds,
    /// and at the end the last word of the last.
    fn join(&mut self, target: usize) {
        let parts = &self.scene.parts;
        let last = parts.last().and_then(|part| part.speeches.last());
        let farewell = last.filter(|speech| target >= CLOSING_FROM && speech.text.len() < target / 5);
        let room = target - farewell.map_or(0, |s| s.text.chars().count() + s.speaker.chars().count() + 8);
        if target >= HEADING_FROM {
            self.title(parts.len());
        }
        let begun = self.page.characters();
        let share = room.saturating_sub(begun) / parts.len();
        for (i, part) in parts.iter().enumerate() {
            let from = match i {
                0 => Beginning::Greeting,
                _ if share < BRIEF_SHARE && i % 2 == 1 => Beginning::Reply,
                _ => Beginning::Question,
            };
            let limit = if i + 1 == parts.len() {
                usize::MAX
            } else {
                begun + share * (i + 1)
            };
            let title = part.title.filter(|_| target >= HEADING_FROM);
            self.recite_all(excerpt(part, from), title, limit, room);
        }
        self.go_on(room);
        self.page.cut(room);
        if let Some(speech) = farewell {
            self.page.turn(speech.speaker);
            self.page.push(" ");
            self.page.push(speech.text);
        }
    }

    fn title(&mut self, parts: usize) {
        const NUMBERS: [&str; 13] = [
            "No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven",
            "Twelve",
        ];
        let page = &mut self.page;
        page.heading("#", self.scene.name.unwrap_or(self.client));
        page.push(": a first conversation\n\n*");
        match NUMBERS.get(parts) {
            Some(word) => page.push(word),
            None => page.push(&parts.to_string()),
        }
        page.push(if parts == 1 { " part.*" } else { " parts, joined.*" });
        page.end_sentence();
    }

    /// Quotes speeches under a title: sentence by sentence while they end within `limit`
    /// characters of the page, or until it has `enough`. A question whose answer does not fit is
    /// left out again; if not even the first sentence fits, another one stands for all.
    fn recite_all<'s>(
        &mut self,
        speeches: impl Iterator<Item = Speech<'s>> + Clone,
        mut title: Option<&str>,
        limit: usize,
        enough: usize,
    ) {
        let first = self.page.turns();
        for speech in speeches.clone() {
            if !self.recite(speech, &mut title, limit, enough) {
                break;
            }
        }
        if self.page.turns() == first {
            let mut alone = speeches.flat_map(|speech| {
                sentences(speech.text)
                    .filter(|text| text.len() > 20)
                    .map(move |text| Speech { text, ..speech })
            });
            alone.any(|speech| self.recite(speech, &mut title, limit, enough));
        }
        let more_than_a_question = self.page.turns() > first + 1;
        if limit < usize::MAX && more_than_a_question && self.page.last_speaker() == Some(Speaker::Adviser) {
            self.page.take_back_turn();
        }
    }

    /// Quotes a speech; returns false if not all of it went in. The title goes in with the
    /// first sentence.
    fn recite(&mut self, speech: Speech<'_>, title: &mut Option<&str>, limit: usize, enough: usize) -> bool {
        for (i, sentence) in sentences(speech.text).enumerate() {
            let head = if i > 0 {
                1
            } else {
                speech.speaker.chars().count() + 8
            };
            let above = title.map_or(0, |title| title.chars().count() + 5);
            let length = sentence.chars().count() + head + above;
            let characters = self.page.characters();
            if characters >= enough || characters.saturating_add(length) > limit {
                return false;
            }
            if let Some(title) = title.take() {
                self.page.heading("##", title);
            }
            if i == 0 {
                self.page.turn(speech.speaker);
            }
            self.page.push(" ");
            self.page.push(sentence);
            self.page.end_sentence();
        }
        true
    }

    fn turn(&mut self, speaker: Speaker) {
        match speaker {
            Speaker::Adviser => self.page.turn(ADVISER),
            Speaker::Client => self.page.turn(self.client),
        }
    }

    /// Says one row of a table, none twice before all were said.
    fn say(&mut self, table: Table) {
        let rows = table.rows();
        let used = &mut self.used[table as usize];
        if used.count_ones() as usize == rows.len() {
            *used = 0;
        }
        let mut row = self.rng.usize(..rows.len());
        while *used & (1 << row) != 0 {
            row = (row + 1) % rows.len();
        }
        *used |= 1 << row;
        self.page.push(" ");
        self.expand(rows[row]);
        self.page.end_sentence();
    }

    fn expand(&mut self, template: &str) {
        let mut rest = template;
        while let Some((before, opened)) = rest.split_once('{') {
            let (name, after) = opened.split_once('}').expect("BUG: a slot is closed");
            self.page.push(before);
            self.fill(name);
            rest = after;
        }
        self.page.push(rest);
    }

    fn fill(&mut self, slot: &str) {
        let scene = self.scene;
        match (slot, self.fact) {
            ("name", _) => self.page.push(self.client),
            ("title", _) => self.page.quote(scene.title.unwrap_or_default()),
            ("brief", _) => self.page.quote(scene.brief.unwrap_or_default()),
            ("label", Some(Fact::Entry { label, .. })) => self.page.quote(label),
            ("value", Some(Fact::Entry { value, .. })) => self.page.quote(value),
            ("sentence", Some(Fact::Sentence(sentence))) => self.page.quote(sentence),
            ("when", _) => self.push_one_of(phrases::WHEN),
            ("where", _) => self.push_one_of(phrases::WHERE),
            ("thing", _) => self.push_one_of(phrases::THING),
            (slot, _) => unreachable!("BUG: no slot `{slot}` here"),
        }
    }

    fn push_one_of(&mut self, list: &[&str]) {
        self.page.push(list[self.rng.usize(..list.len())]);
    }
}

/// Where an excerpt begins.
#[derive(Clone, Copy, PartialEq)]
enum Beginning {
    /// With the first word.
    Greeting,
    /// With the question that the first speech ends in: a second greeting would be out of place.
    Question,
    /// With the first answer.
    Reply,
}

fn excerpt<'a>(part: &Part<'a>, from: Beginning) -> impl Iterator<Item = Speech<'a>> + Clone {
    let skipped = usize::from(from == Beginning::Reply && part.speeches.len() > 1);
    part.speeches
        .iter()
        .skip(skipped)
        .enumerate()
        .map(move |(i, speech)| {
            let question = sentences(speech.text)
                .last()
                .filter(|_| i == 0 && from == Beginning::Question);
            Speech {
                text: question.unwrap_or(speech.text),
                ..*speech
            }
        })
}

/// The client's name in the conversation: the first name, except after a title.
fn client<'a>(scene: &Scene<'a>) -> &'a str {
    let mut speakers = scene
        .parts
        .iter()
        .flat_map(|part| &part.speeches)
        .map(|speech| speech.speaker);
    if let Some(other) = speakers.find(|speaker| *speaker != ADVISER) {
        return other;
    }
    let Some(name) = scene.name else { return "Client" };
    match name.split_whitespace().next() {
        Some(first) if !first.ends_with('.') && !matches!(first, "Mr" | "Mrs" | "Ms" | "Dr" | "Prof") => {
            first
        }
        _ => name,
    }
}
