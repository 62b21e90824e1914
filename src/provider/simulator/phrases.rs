//! The sentences that the built-in model speaks with. Only tables: how they are put together is
//! the business of `words`.
//!
//! Slots: `{name}` the client; `{title}`, `{brief}` of the part; `{label}` and `{value}` of an
//! entry, `{sentence}` of a text about the persona; `{when}`, `{where}`, `{thing}` from the lists
//! below. A table has at most 64 rows, since a bit each says which of them were used.

/// A table of sentences for one purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The adviser opens a part that has a title.
    OpeningTitled,
    /// The adviser opens a part without one.
    OpeningPlain,
    /// The adviser reads out the part's brief.
    Brief,
    /// The adviser takes up an answer.
    Nod,
    /// The adviser asks about nothing in particular.
    Question,
    /// The adviser asks about an entry of the persona.
    QuestionOnEntry,
    /// The adviser asks about a sentence of the persona.
    QuestionOnSentence,
    /// The adviser ends the part.
    AdviserClosing,
    /// The client answers.
    Reply,
    /// The client answers a question about themselves.
    ReplyOnFact,
    /// The client goes on.
    More,
    /// The client ends the part.
    ClientClosing,
}

impl Table {
    /// How many tables there are.
    pub const COUNT: usize = Table::ClientClosing as usize + 1;

    /// The sentences of the table.
    pub fn rows(self) -> &'static [&'static str] {
        match self {
            Table::OpeningTitled => OPENING_TITLED,
            Table::OpeningPlain => OPENING_PLAIN,
            Table::Brief => BRIEF,
            Table::Nod => NOD,
            Table::Question => QUESTION,
            Table::QuestionOnEntry => QUESTION_ON_ENTRY,
            Table::QuestionOnSentence => QUESTION_ON_SENTENCE,
            Table::AdviserClosing => ADVISER_CLOSING,
            Table::Reply => REPLY,
            Table::ReplyOnFact => REPLY_ON_FACT,
            Table::More => MORE,
            Table::ClientClosing => CLIENT_CLOSING,
        }
    }
}

const OPENING_TITLED: &[&str] = &[
    "Thank you for coming, {name}. We have reached “{title}”.",
    "Let us take our time with “{title}”, {name}.",
    "Come in, {name}, and sit where you like. The page in front of me is headed “{title}”.",
    "I have put “{title}” at the top of a clean sheet, {name}.",
    "Shall we turn to “{title}” now, {name}?",
    "Before we go on, {name}, a few minutes for “{title}”.",
    "The kettle is on, {name}, and the next thing on my list is “{title}”.",
    "Good. “{title}” is where I would like to stay for a while, {name}.",
    "If you are ready, {name}, I would open “{title}”.",
];

const OPENING_PLAIN: &[&str] = &[
    "Thank you for coming, {name}.",
    "Come in, {name}, and sit where you like.",
    "I have a clean sheet in front of me, {name}, and no hurry.",
    "The kettle is on, {name}. Let us begin where it is easiest.",
    "Good to see you, {name}. We have time.",
];

const BRIEF: &[&str] = &[
    "My note for it says: “{brief}”.",
    "What I wrote down for this part is: “{brief}”.",
    "The plan has one line for it: “{brief}”.",
    "I promised to keep to this: “{brief}”.",
    "So that we do not lose the thread, the task reads: “{brief}”.",
];

const NOD: &[&str] = &[
    "That helps.",
    "Thank you for saying it so plainly.",
    "Let me write that down.",
    "I had not expected that.",
    "That is more than most people can say at a first meeting.",
    "I can see why.",
    "Then we are closer than I thought.",
    "You said that very quietly.",
    "I will come back to it.",
    "That sounds like a beginning.",
    "Fair enough.",
    "You need not have an answer to everything.",
    "I hear two things in that.",
    "Take your time.",
];

const QUESTION: &[&str] = &[
    "What made you decide to come just now?",
    "What would have to be different in a year for you to call this time well spent?",
    "Who else has an opinion about it, and whose do you trust?",
    "When did you last feel that things were going the right way?",
    "What have you tried already, and what did it cost you?",
    "If we could settle only one question today, which would you pick?",
    "What do you do when nobody asks anything of you?",
    "How would somebody who likes you describe the matter?",
    "What is the smallest step that would still count?",
    "Which part of it keeps you awake?",
    "What would you not give up, whatever we find?",
    "How do you usually decide: with a list, with a walk, or with a night's sleep?",
    "Where does the day go wrong, when it goes wrong?",
    "What do you already know that you would rather not know?",
    "What would you tell a friend who sat in your chair?",
    "How much of this is about {thing}?",
    "What did you hope I would ask?",
    "What is going well enough that we should leave it alone?",
    "Who would notice first if it got better?",
    "What is the question behind that one?",
    "Is there a date by which it has to be settled?",
    "What would you like me to remember from today?",
    "What has surprised you so far?",
    "Can you give me an example from last week?",
    "Where would you start, if it were up to you alone?",
    "And what does {thing} have to do with it?",
];

const QUESTION_ON_ENTRY: &[&str] = &[
    "Under “{label}” you wrote “{value}”. How much does that shape your days?",
    "Your sheet says “{value}” where it asks for {label}. Is that still how you would put it?",
    "I underlined one line, {label}: “{value}”. Why did you put it there?",
    "Let me ask about {label}, because “{value}” made me curious. What should I know about it?",
    "If I read only your {label}, “{value}”, what would I get wrong?",
    "You filled in “{value}” for {label} without hesitating, I think. Am I right?",
    "For {label} I have “{value}” here. Would you have written the same five years ago?",
];

const QUESTION_ON_SENTENCE: &[&str] = &[
    "In your papers I read: “{sentence}”. What is missing from that sentence?",
    "Somebody wrote about you: “{sentence}”. Do you recognise yourself?",
    "There is a line that I read twice: “{sentence}”. Tell me how it came about.",
    "I copied this from your file: “{sentence}”. Would you still sign it?",
    "One sentence stayed with me: “{sentence}”. What do you hear in it?",
    "“{sentence}”. That is how I know you so far. Where should I look next?",
];

const ADVISER_CLOSING: &[&str] = &[
    "Let us leave it there for this part. You have given me enough to think about.",
    "I will write up what we said, and you tell me where I misheard.",
    "Then that is settled as far as it can be today.",
    "We stop here, before we talk it to pieces.",
    "Good. The next part will be easier for having had this one.",
    "I would rather end on that than add a word to it.",
];

const REPLY: &[&str] = &[
    "I noticed it {when}, {where}, and have not been able to stop noticing since.",
    "To be honest, I made a list {when} and lost it {where}.",
    "It is less about {thing} than I used to say.",
    "My first thought was {thing}; my second was to keep quiet about it.",
    "If you had asked me {when}, I would have said no.",
    "I talked about it {where}, with somebody who mostly listened.",
    "There was a morning, {when}, when it all seemed quite simple.",
    "Most days I would say it is {thing}, and on the others I do not say anything.",
    "I would have to think about that, and the last time I sat down to think was {when}.",
    "People expect me to mention {thing} first, so I usually do.",
    "I keep a small notebook for such questions, and that page is empty.",
    "It began {where}, with a remark that was not even meant for me.",
    "I can only tell you what I did: I waited, and it did not go away.",
    "I like the question better than any answer I have.",
    "Ask me about {thing} and I can talk for an hour; ask me about this and I look out of the window.",
    "Half of it is habit, and the other half started {when}.",
    "I have an answer for my family and one for myself, and they are getting closer.",
    "Small things, mainly: a door left open, a letter answered on the same day.",
    "I would start with {thing}, and I would start before lunch.",
    "You would laugh, but I decided it {where}.",
    "What I miss is not {thing} itself but how sure I was of it.",
    "I was more afraid of the question than I am of the answer.",
    "I tried to explain it {when}, and it came out as a story about somebody else.",
    "I do it the way I do everything: late, and then thoroughly.",
    "The last time somebody asked me that was {when}.",
    "It would be easier if it were only about {thing}.",
];

const REPLY_ON_FACT: &[&str] = &[
    "Yes, that is me, though it sounds tidier than it was.",
    "I wrote that {when}, and I would write it again.",
    "It is true, but it leaves out {thing}.",
    "When I hear it read aloud I would change one word, and I will not tell you which.",
    "That was the easy line on the form; the next one took me an evening.",
    "I am glad that you begin there, because most people skip it.",
    "It was true {where}, at least, and it has been true since.",
    "You read that better than I wrote it.",
    "There is a longer version, and {thing} is in it.",
];

const MORE: &[&str] = &[
    "I have never said that aloud before.",
    "That is the part I would like help with.",
    "Perhaps that is already an answer.",
    "You may write that down.",
    "I had it all in order {when}, and then the order went.",
    "It helps that you do not look shocked.",
    "The rest is details, and I brought them in a folder.",
    "I thought I would be more nervous.",
    "And yet I would do it again.",
    "My neighbour says the same about {thing}.",
    "I would like to be surprised by the outcome, but not by the bill.",
    "For once I do not want to hurry.",
    "It is not a secret; it only never came up.",
    "I should have begun with that.",
    "Somewhere in it there is a decision.",
    "I counted once: three good reasons and one real one.",
];

const CLIENT_CLOSING: &[&str] = &[
    "Then I will bring the rest next time.",
    "That is more than I had when I came in.",
    "I will sleep on it, and I think I will sleep.",
    "Agreed. I feel a little lighter.",
    "Thank you. I will tell them at home that it did not hurt.",
    "Good. I had been afraid that we would only talk about {thing}.",
];

/// Times, for `{when}`.
pub const WHEN: &[&str] = &[
    "last autumn",
    "on the way here",
    "the week before last",
    "one evening in March",
    "at breakfast",
    "while I was waiting for the bus",
    "around my last birthday",
    "on a Sunday",
    "between two telephone calls",
    "the day the rain stopped",
    "before the holidays",
];

/// Places, for `{where}`.
pub const WHERE: &[&str] = &[
    "at the kitchen table",
    "in the car park",
    "on the stairs",
    "at my desk",
    "in the queue at the baker's",
    "by the window",
    "in the garden",
    "on platform two",
    "in the laundry room",
    "at my sister's",
    "on the bench behind the library",
];

/// What things are about, for `{thing}`.
pub const THING: &[&str] = &[
    "the money",
    "the time",
    "the quiet",
    "the order of things",
    "the long evenings",
    "other people's plans",
    "the old promise",
    "the next ten years",
    "the telephone",
    "being asked",
    "starting over",
    "the unopened letters",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_said() {
        let everywhere = ["name", "when", "where", "thing"];
        let tables: [(Table, &[&str]); Table::COUNT] = [
            (Table::OpeningTitled, &["title"]),
            (Table::OpeningPlain, &[]),
            (Table::Brief, &["brief"]),
            (Table::Nod, &[]),
            (Table::Question, &[]),
            (Table::QuestionOnEntry, &["label", "value"]),
            (Table::QuestionOnSentence, &["sentence"]),
            (Table::AdviserClosing, &[]),
            (Table::Reply, &[]),
            (Table::ReplyOnFact, &[]),
            (Table::More, &[]),
            (Table::ClientClosing, &[]),
        ];
        for (table, needed) in tables {
            let rows = table.rows();
            assert!((1..=64).contains(&rows.len()), "{table:?}");
            for (i, row) in rows.iter().enumerate() {
                assert!(!rows[..i].contains(row), "twice: {row}");
                assert!(row.ends_with(['.', '?', '!']), "{row}");
                let slots: Vec<&str> = row
                    .split('{')
                    .skip(1)
                    .map(|open| open.split_once('}').expect(row).0)
                    .collect();
                assert!(
                    slots
                        .iter()
                        .all(|slot| everywhere.contains(slot) || needed.contains(slot)),
                    "{row}"
                );
                // A label alone tells nothing, the value does.
                let telling = needed.last().is_none_or(|slot| slots.contains(slot));
                assert!(telling, "{row}");
            }
        }
    }
}
