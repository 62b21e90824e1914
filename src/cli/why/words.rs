//! An explanation as a person reads it, and as `--json` has it.

use console::{Style, style};
use serde_json::{Value, json};
use similar::TextDiff;

use super::{Explained, Transcript};
use crate::call::{Message, Request, Role};
use crate::cli::failure::CliError;
use crate::cli::print::outln;
use crate::config::Node;
use crate::names::PersonaId;
use crate::plan::{Outlook, Reason};
use crate::printable::{lines, one_line};
use crate::report::figures::{count, dollars, number};
use crate::report::json::escape;
use crate::report::style::pad;
use crate::run::{Origin, Unanswered};
use crate::store::{Record, Sent};

/// Lines around a difference.
const CONTEXT: usize = 3;

/// Needs that are named one by one.
const MOST_NAMED: usize = 3;

/// What is shown.
pub struct Shown<'a> {
    pub persona: &'a PersonaId,
    pub nodes: &'a [Explained],
    pub transcript: &'a Transcript,
    /// Where the transcript is, as a person types it.
    pub path: &'a str,
}

impl Explained {
    fn fails(&self) -> bool {
        matches!(self.outlook, Outlook::CutOff(_) | Outlook::Skipped)
    }
}

impl Shown<'_> {
    /// One line for each node, and one for the transcript.
    pub fn persona(&self) -> Result<(), CliError> {
        let up_to_date = self.nodes.iter().filter(|node| node.is_up_to_date()).count();
        outln!(
            "{}: {} of {} nodes up to date",
            style(one_line(self.persona.as_str())).bold(),
            number(up_to_date as u64),
            number(self.nodes.len() as u64)
        );
        let widest = self.nodes.iter().map(|node| node.node.as_str().chars().count());
        let widest = widest.max().unwrap_or(0).max("transcript".len());
        for node in self.nodes {
            let (status, color) = node.status_in_words();
            outln!(
                "  {}  {}  {}",
                pad(&one_line(node.node.as_str()), widest),
                color.apply_to(pad(status, "up to date".len())),
                one_line(&node.reasons().join("; "))
            );
        }
        let (status, what) = self.transcript_in_words();
        outln!(
            "  {}  {}  {}",
            pad("transcript", widest),
            pad(status, "up to date".len()),
            one_line(&what)
        );
        if self.nodes.iter().any(Explained::has_diff) {
            let node = self.nodes.iter().find(|node| node.has_diff());
            let name = node.map_or("NODE", |node| node.node.as_str());
            outln!(
                "\n`septet why {}/{}` shows the difference",
                one_line(self.persona.as_str()),
                one_line(name)
            );
        }
        Ok(())
    }

    /// Everything about one node.
    pub fn node(&self, node: usize) -> Result<(), CliError> {
        let explained = &self.nodes[node];
        let (status, color) = explained.status_in_words();
        outln!(
            "{}/{}: {}",
            style(one_line(self.persona.as_str())).bold(),
            style(one_line(explained.node.as_str())).bold(),
            color.apply_to(status)
        );
        // When an answer was paid for is told below, with all that is known of it.
        if explained.hit.is_none() {
            for reason in explained.reasons() {
                outln!("  {}", one_line(&reason));
            }
        }
        outln!("");
        if let Some(record) = &explained.hit {
            outln!("paid       {}", one_line(&paid(record)));
            if record.instance.persona != *self.persona || record.instance.node != explained.node {
                outln!(
                    "for        {}, which asks the same",
                    one_line(&record.instance.to_string())
                );
            }
        }
        if let Some(sent) = explained.origin.as_ref().and_then(Origin::sent) {
            outln!("last sent  {}", one_line(&when(sent)));
        }
        outln!("rests on   {}", one_line(&explained.rests_on.join(", ")));
        if let Some(key) = &explained.key {
            outln!("key        {}", key.short());
        }
        if let Some(diff) = explained.diff() {
            outln!("");
            for line in lines(&diff).lines() {
                outln!("{}", coloured(line));
            }
        }
        Ok(())
    }

    /// One object for each node that was asked for.
    pub fn json(&self, node: Option<usize>) -> Result<(), CliError> {
        for (index, explained) in self.nodes.iter().enumerate() {
            if node.is_none_or(|node| node == index) {
                outln!("{}", escape(&self.object(explained).to_string()));
            }
        }
        let status = match self.transcript {
            Transcript::NotWritten => "not_written",
            Transcript::Missing => "missing",
            Transcript::AsWritten => "as_written",
            Transcript::Edited => "edited",
            Transcript::Unreadable(_) => "unreadable",
        };
        let transcript = json!({
            "event": "transcript_explained", "persona": self.persona, "status": status, "path": self.path,
        });
        outln!("{}", escape(&transcript.to_string()));
        Ok(())
    }

    fn object(&self, explained: &Explained) -> Value {
        let changes: Vec<Value> = match &explained.origin {
            Some(Origin::Changed(changed)) => changed
                .changes
                .iter()
                .map(|change| json!({ "kind": change.kind(), "message": change.to_string() }))
                .collect(),
            _ => Vec::new(),
        };
        let paid = explained.hit.as_ref().map(|record| {
            json!({
                "run": record.run, "at_ms": record.at_ms, "persona": record.instance.persona,
                "node": record.instance.node, "cost_usd": record.cost.map(|cost| cost.usd()),
            })
        });
        let sent = explained.origin.as_ref().and_then(Origin::sent);
        let sent = sent.map(|sent| json!({ "run": sent.run, "at_ms": sent.at_ms, "key": sent.key }));
        json!({
            "event": "node_explained", "persona": self.persona, "node": explained.node,
            "status": explained.status(), "reason": explained.kind(), "message": explained.reasons().join("; "),
            "changes": changes, "key": explained.key, "paid": paid, "last_sent": sent,
            "possibly_billed": explained.is_possibly_billed(),
            "waits_for": explained.waits_for, "diff": explained.diff(),
        })
    }

    fn transcript_in_words(&self) -> (&'static str, String) {
        match self.transcript {
            Transcript::Unreadable(why) => ("unreadable", format!("{why}; `septet run` cannot write it")),
            Transcript::NotWritten => ("not there", format!("{}: not written yet", self.path)),
            Transcript::Missing => (
                "missing",
                format!(
                    "{}: it was removed; `septet run` writes it again, unpaid",
                    self.path
                ),
            ),
            Transcript::AsWritten if self.nodes.iter().any(Explained::fails) => (
                "as written",
                format!("{}: by an earlier run, and kept while nodes fail", self.path),
            ),
            Transcript::AsWritten if !self.nodes.iter().all(Explained::is_up_to_date) => (
                "as written",
                format!(
                    "{}: by an earlier run; `septet run` brings it up to date",
                    self.path
                ),
            ),
            Transcript::AsWritten => ("as written", self.path.to_owned()),
            Transcript::Edited => (
                "by hand",
                format!(
                    "{}: not as septet wrote it; a new text goes beside it, `--overwrite` replaces it",
                    self.path
                ),
            ),
        }
    }
}

impl Explained {
    fn is_up_to_date(&self) -> bool {
        matches!(self.outlook, Outlook::Hit)
    }

    /// The word for it in `--json`, as `plan --json` has it.
    fn status(&self) -> &'static str {
        match self.outlook {
            Outlook::Hit | Outlook::Twin => "cached",
            Outlook::Call(..) => "call",
            Outlook::Depends(_) => "depends",
            Outlook::CutOff(_) => "failed",
            Outlook::Skipped => "skipped",
        }
    }

    fn status_in_words(&self) -> (&'static str, Style) {
        match self.outlook {
            Outlook::Hit => ("up to date", Style::new().green()),
            Outlook::Twin => ("twin", Style::new().green()),
            Outlook::Call(..) => ("to call", Style::new().yellow()),
            Outlook::Depends(_) => ("depends", Style::new().yellow()),
            Outlook::CutOff(_) => ("fails", Style::new().red()),
            Outlook::Skipped => ("skipped", Style::new().red()),
        }
    }

    /// The word for the reason in `--json`; `None` where there is nothing to explain.
    fn kind(&self) -> Option<&'static str> {
        Some(match (&self.outlook, &self.origin) {
            (Outlook::Call(_, Reason::New | Reason::Rejected(_)), Some(origin)) => match origin {
                Origin::New => "new",
                Origin::Unanswered(_, Unanswered::Rejected(..)) => "rejected",
                Origin::Unanswered(_, Unanswered::Gone) => "damaged",
                Origin::Unanswered(..) => "unanswered",
                Origin::Changed(_) => "changed",
                Origin::Lost(..) => "lost",
            },
            (Outlook::Call(_, reason), _) => reason.kind(),
            (Outlook::CutOff(_), _) => "cut_off",
            (Outlook::Depends(_), _) => "depends",
            (Outlook::Skipped, _) => "skipped",
            (Outlook::Twin, _) => "twin",
            (Outlook::Hit, _) => return None,
        })
    }

    /// Why, each reason by itself.
    fn reasons(&self) -> Vec<String> {
        match (&self.outlook, &self.origin) {
            (Outlook::Hit, _) => self.hit.as_deref().map(paid_in_short).into_iter().collect(),
            (Outlook::Twin, _) => vec!["another node of this persona asks the same".to_owned()],
            (Outlook::Call(_, Reason::New | Reason::Rejected(_)), Some(origin)) => origin_in_words(origin),
            (Outlook::Call(_, reason), _) => vec![reason.to_string()],
            (Outlook::CutOff(cut), _) => vec![format!("{cut}; {}", cut.advice())],
            (Outlook::Skipped, _) => vec!["a node that it needs fails".to_owned()],
            (Outlook::Depends(_), _) if self.waits_for.len() > MOST_NAMED => vec![format!(
                "its request is known once {} that it needs have been called",
                count(self.waits_for.len() as u64, "node")
            )],
            (Outlook::Depends(_), _) => {
                let names: Vec<String> = self.waits_for.iter().map(|id| format!("`{id}`")).collect();
                let have = if names.len() == 1 { "has" } else { "have" };
                vec![format!(
                    "its request is known once {} {have} been called",
                    names.join(", ")
                )]
            }
        }
    }

    /// True where it was sent last without an answer, and may have been billed all the same.
    fn is_possibly_billed(&self) -> bool {
        match &self.origin {
            Some(Origin::Unanswered(_, Unanswered::Faulted { may_be_billed, .. })) => *may_be_billed,
            _ => false,
        }
    }

    fn has_diff(&self) -> bool {
        matches!(&self.origin, Some(Origin::Changed(_)))
    }

    /// The messages as they were sent beside those that would be.
    fn diff(&self) -> Option<String> {
        let Some(Origin::Changed(changed)) = &self.origin else {
            return None;
        };
        let now = self.request.as_ref()?;
        let sent = when(&changed.sent);
        let mut diff = String::new();
        for role in [Role::System, Role::User] {
            let (before, after) = (text(&changed.before, role), text(now, role));
            if before == after {
                continue;
            }
            let role = role.as_str();
            let compared = TextDiff::from_lines(&before, &after);
            let mut unified = compared.unified_diff();
            let unified = unified
                .context_radius(CONTEXT)
                .header(&format!("{role}, {sent}"), &format!("{role}, now"));
            diff.push_str(&unified.to_string());
        }
        (!diff.is_empty()).then_some(diff)
    }
}

impl Origin {
    /// The attempt that it tells of.
    fn sent(&self) -> Option<&Sent> {
        match self {
            Origin::New => None,
            Origin::Unanswered(sent, _) | Origin::Lost(sent, _) => Some(sent),
            Origin::Changed(changed) => Some(&changed.sent),
        }
    }
}

/// Where a request came from, each reason by itself.
fn origin_in_words(origin: &Origin) -> Vec<String> {
    match origin {
        Origin::New => vec!["new: nothing was sent for it yet".to_owned()],
        Origin::Unanswered(_, Unanswered::Rejected(record, rejection)) => vec![format!(
            "rejected last time: {rejection} ({}, {})",
            time(record.at_ms),
            dollars(record.cost)
        )],
        Origin::Unanswered(
            sent,
            Unanswered::Faulted {
                message,
                may_be_billed,
            },
        ) => vec![format!(
            "sent before, no answer came: {message}{} ({})",
            billed(sent, *may_be_billed),
            when(sent)
        )],
        Origin::Unanswered(sent, Unanswered::Gone) => vec![format!(
            "stored answer is damaged: it is not in the store any more (asked for {})",
            when(sent)
        )],
        Origin::Changed(changed) => changed.changes.iter().map(ToString::to_string).collect(),
        Origin::Lost(_, lost) => vec![format!("another request was sent last; {lost}")],
    }
}

fn billed(sent: &Sent, may_be: bool) -> String {
    match (may_be, sent.most_cost) {
        (false, _) => String::new(),
        (true, Some(most)) => format!("; possibly billed, at most about {}", dollars(Some(most))),
        (true, None) => "; possibly billed".to_owned(),
    }
}

/// What a node's request is made of.
pub fn rests_on(node: &Node, persona_files: &[String]) -> Vec<String> {
    let templates = [node.system.as_ref(), node.context.as_ref(), Some(&node.prompt)];
    let mut list: Vec<String> = templates.into_iter().flatten().cloned().collect();
    list.extend(node.vars.keys().map(|name| format!("vars.{name}")));
    list.push(format!("persona files {}", persona_files.join(" ")));
    list.push(format!("model {}", node.model.name));
    list.extend(node.needs.iter().map(|need| format!("answer of {need}")));
    list
}

fn paid_in_short(record: &Record) -> String {
    format!("paid {} in run {}", time(record.at_ms), record.run)
}

fn paid(record: &Record) -> String {
    let usage = &record.answer.usage;
    format!(
        "{} in run {}, attempt {}: {} input and {} output tokens, {}, by {}",
        time(record.at_ms),
        record.run,
        record.attempt,
        number(usage.input),
        number(usage.output),
        dollars(record.cost),
        record.answer.model
    )
}

fn when(sent: &Sent) -> String {
    format!("{} in run {}", time(sent.at_ms), sent.run)
}

/// A time of the wall clock, here.
fn time(unix_ms: u64) -> String {
    let instant = i64::try_from(unix_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    instant.map_or_else(
        || "at an unknown time".to_owned(),
        |at| {
            at.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M")
                .to_string()
        },
    )
}

/// All that is said in a role, with a newline at its end.
fn text(request: &Request, role: Role) -> String {
    let said = request.messages.iter().filter(|message| message.role == role);
    said.map(|Message { content, .. }| format!("{content}\n"))
        .collect()
}

fn coloured(line: &str) -> String {
    let paint = match line.as_bytes().first() {
        _ if line.starts_with("+++") || line.starts_with("---") => Style::new().bold(),
        Some(b'+') => Style::new().green(),
        Some(b'-') => Style::new().red(),
        Some(b'@') => Style::new().cyan(),
        _ => Style::new(),
    };
    paint.apply_to(line).to_string()
}
