//! A rehearsal as a picture in SVG: how much is done when, how many calls are in flight and sent, and
//! what holds them up. It stands alone, with a white ground, and needs no fonts of its own.

use std::fmt::Write;
use std::time::Duration;

use crate::cli::plan::ends::soon;
use crate::cli::rehearse::{Rehearsed, text};
use crate::printable::in_xml;
use crate::report::figures::{count, dollars, duration as words, number};
use crate::run::{Course, Holds, Night, Part};

const WIDTH: f64 = 920.0;
/// Where the panels begin and end.
const LEFT: f64 = 76.0;
const RIGHT: f64 = 850.0;
const TOP: f64 = 86.0;
/// Between two panels.
const GAP: f64 = 34.0;
/// Rates are shown for at most so many stretches, each of so many calls at least.
const COLUMNS: u64 = 120;
const LEAST_CALLS: u64 = 8;
/// How many moments are told below, at most.
const TICKS: usize = 6;
const TEXT: &str = "#1d2433";
const FAINT: &str = "#6b7486";
const GRID: &str = "#e3e7ee";
const LINE: &str = "#2f6fde";
const OTHER: &str = "#b9c6de";
const MONEY: &str = "#c2571a";

/// A part of the picture with an axis of its own.
struct Panel {
    top: f64,
    height: f64,
    /// What is as high as it.
    most: f64,
    /// How long it is.
    lasts: f64,
}

/// Draws the nights.
pub fn draw(rehearsed: &Rehearsed<'_>) -> String {
    let nights = &rehearsed.nights;
    let middle = rehearsed.middle();
    let lasts = nights.iter().map(|night| night.took).max().unwrap_or_default();
    let lasts = lasts.as_secs_f64().max(1e-3);
    let panel = |top: f64, height: f64, most: f64| Panel {
        top,
        height,
        most: most.max(f64::MIN_POSITIVE),
        lasts,
    };
    let all = nights.iter().map(|night| night.called).max().unwrap_or(0);
    let done = panel(TOP, 190.0, all as f64);
    let rates = (in_flight(&middle.course), sent(&middle.course));
    let most = |points: &[(f64, f64)]| points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let flight = panel(done.bottom() + GAP, 84.0, most(&rates.0));
    let paced = panel(flight.bottom() + GAP, 84.0, most(&rates.1));
    let held = panel(paced.bottom() + GAP, 26.0, 1.0);
    let legend = legend(&middle.course, held.bottom() + 58.0);
    let height = legend.1 + 18.0;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 \
         {WIDTH} {height:.0}\" font-family=\"system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', \
         sans-serif\" font-size=\"12\">"
    );
    let _ = writeln!(svg, "<title>septet rehearse</title>");
    let _ = writeln!(svg, "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
    title(&mut svg, rehearsed);
    let moments = moments(lasts);
    for panel in [&done, &flight, &paced] {
        panel.ground(&mut svg, &moments);
    }
    done.name(&mut svg, "nodes answered", &number(all));
    for night in nights.iter().filter(|night| !std::ptr::eq(*night, middle)) {
        done.line(&mut svg, &answered(night), OTHER, 1.0, "");
    }
    done.line(&mut svg, &answered(middle), LINE, 2.0, "");
    if let Some(cost) = middle.cost.filter(|cost| cost.usd() > 0.0) {
        let dear = Panel {
            most: cost.usd(),
            ..panel(done.top, done.height, 1.0)
        };
        dear.line(
            &mut svg,
            &paid(&middle.course),
            MONEY,
            1.5,
            " stroke-dasharray=\"5 4\"",
        );
        label(&mut svg, (RIGHT + 6.0, done.top + 4.0), "start", MONEY, "spent");
    }
    let most = match flight.most {
        few if few < 9.95 => format!("{few:.1}"),
        many => number(many.round() as u64),
    };
    flight.name(&mut svg, "calls in flight", &most);
    flight.area(&mut svg, &rates.0);
    paced.name(
        &mut svg,
        "calls sent a minute",
        &number(paced.most.round() as u64),
    );
    paced.area(&mut svg, &rates.1);
    label(&mut svg, (LEFT, held.top - 8.0), "start", FAINT, "held up by");
    strip(&mut svg, &held, &middle.course);
    for &at in &moments {
        let moment = rehearsed.moment(Duration::from_secs_f64(at));
        let shown = rehearsed.zone().to_datetime(moment);
        let told = shown.strftime(format(&moments)).to_string();
        label(
            &mut svg,
            (held.x(at), held.bottom() + 18.0),
            "middle",
            FAINT,
            &told,
        );
    }
    svg += &legend.0;
    svg + "</svg>\n"
}

fn title(svg: &mut String, rehearsed: &Rehearsed<'_>) {
    let calls = rehearsed.figure(|night| night.calls).likely;
    let took = rehearsed.figure(|night| night.took);
    let cost = match rehearsed.cost() {
        Some(cost) => format!(", about {}", dollars(Some(cost.likely))),
        None => String::new(),
    };
    let told = format!("{} in {}{cost}", count(calls, "call"), words(took.likely));
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"30\" font-size=\"17\" font-weight=\"bold\" fill=\"{TEXT}\">{}</text>",
        in_xml(&told)
    );
    let time = &rehearsed.foreseen.time;
    let [low, high] = [took.low, took.high].map(|took| soon(time, rehearsed.moment(took)));
    let ends = match low == high {
        true => format!("ends at {low}"),
        false => format!("ends from {low} to {high}"),
    };
    let times = match rehearsed.nights.len() {
        1 => "rehearsed once".to_owned(),
        times => format!("rehearsed {} times", number(times as u64)),
    };
    label(
        svg,
        (LEFT, 50.0),
        "start",
        FAINT,
        &format!("{ends}; {times}; time in {}", zone(rehearsed)),
    );
}

fn zone(rehearsed: &Rehearsed<'_>) -> String {
    let zone = rehearsed.zone();
    let name = zone.iana_name().map(str::to_owned);
    name.unwrap_or_else(|| zone.to_datetime(rehearsed.start).strftime("%Z").to_string())
}

impl Panel {
    fn bottom(&self) -> f64 {
        self.top + self.height
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (seconds / self.lasts).min(1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom() - self.height * (value / self.most).min(1.0)
    }

    /// The frame, with a line for each moment.
    fn ground(&self, svg: &mut String, moments: &[f64]) {
        let (top, bottom) = (self.top, self.bottom());
        let mut path = String::new();
        for at in moments {
            let _ = write!(path, "M{:.1} {top:.1}V{bottom:.1}", self.x(*at));
        }
        for part in 0..=2 {
            let y = top + self.height * f64::from(part) / 2.0;
            let _ = write!(path, "M{LEFT} {y:.1}H{RIGHT}");
        }
        let _ = writeln!(svg, "<path d=\"{path}\" stroke=\"{GRID}\" fill=\"none\"/>");
    }

    /// What it shows, and the highest and the lowest of it.
    fn name(&self, svg: &mut String, name: &str, most: &str) {
        label(svg, (LEFT, self.top - 8.0), "start", FAINT, name);
        label(svg, (LEFT - 8.0, self.top + 4.0), "end", FAINT, most);
        label(svg, (LEFT - 8.0, self.bottom() + 4.0), "end", FAINT, "0");
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (at, (seconds, value)) in points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x(*seconds), self.y(*value));
        }
        path
    }

    fn line(&self, svg: &mut String, points: &[(f64, f64)], colour: &str, wide: f64, more: &str) {
        let path = self.path(points);
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{wide}\" \
             stroke-linejoin=\"round\"{more}/>"
        );
    }

    fn area(&self, svg: &mut String, points: &[(f64, f64)]) {
        let Some(((first, _), (last, _))) = points.first().zip(points.last()) else {
            return;
        };
        let bottom = self.bottom();
        let _ = writeln!(
            svg,
            "<path d=\"{}L{:.1} {bottom:.1}L{:.1} {bottom:.1}Z\" fill=\"{LINE}\" fill-opacity=\"0.18\" \
             stroke=\"none\"/>",
            self.path(points),
            self.x(*last),
            self.x(*first),
        );
        self.line(svg, points, LINE, 1.2, "");
    }
}

fn label(svg: &mut String, (x, y): (f64, f64), anchor: &str, colour: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
        in_xml(text)
    );
}

/// Moments at even distances, that are easy to read.
fn moments(lasts: f64) -> Vec<f64> {
    const STEPS: [f64; 20] = [
        1.0,
        2.0,
        5.0,
        10.0,
        15.0,
        30.0,
        60.0,
        120.0,
        300.0,
        600.0,
        900.0,
        1_800.0,
        3_600.0,
        7_200.0,
        10_800.0,
        21_600.0,
        43_200.0,
        86_400.0,
        604_800.0,
        2_419_200.0,
    ];
    let fits = |step: &&f64| lasts / **step <= TICKS as f64;
    let step = STEPS.iter().find(fits).copied().unwrap_or(lasts / TICKS as f64);
    let ticks = (lasts / step).floor() as usize;
    (0..=ticks).map(|tick| tick as f64 * step).collect()
}

/// How a clock shows them.
fn format(moments: &[f64]) -> &'static str {
    match moments.get(1).copied().unwrap_or(1.0) {
        step if step < 60.0 => "%H:%M:%S",
        step if step < 21_600.0 => "%H:%M",
        step if step < 86_400.0 => "%a %H:%M",
        _ => "%Y-%m-%d",
    }
}

/// Something of each stretch, for all of its seconds: enough stretches together that it is no
/// matter of chance.
fn each(course: &Course, of: impl Fn(&Part, f64) -> f64) -> Vec<(f64, f64)> {
    let length = course.length.as_secs_f64();
    let calls: u64 = course.parts.iter().map(|part| part.sent).sum();
    let columns = (calls / LEAST_CALLS).clamp(1, COLUMNS);
    let together = course.parts.len().div_ceil(columns as usize).max(1);
    let stretches = course.parts.chunks(together).enumerate();
    let mut points = Vec::new();
    for (number, parts) in stretches {
        let all = parts.iter().copied().reduce(Part::with).unwrap_or_default();
        let from = (number * together) as f64 * length;
        let seconds: f64 = all.held.iter().sum();
        // The last one may be cut off anywhere: what is sent in a moment would be many a minute.
        if seconds >= 0.25 * together as f64 * length || points.is_empty() {
            let value = of(&all, seconds.max(f64::MIN_POSITIVE));
            points.extend([(from, value), (from + seconds, value)]);
        }
    }
    points
}

fn in_flight(course: &Course) -> Vec<(f64, f64)> {
    each(course, |part, seconds| part.in_flight / seconds)
}

fn sent(course: &Course) -> Vec<(f64, f64)> {
    each(course, |part, seconds| part.sent as f64 / seconds * 60.0)
}

/// A sum, from the beginning to the end of a night.
fn sums(course: &Course, took: Option<Duration>, of: impl Fn(&Part) -> f64) -> Vec<(f64, f64)> {
    let length = course.length.as_secs_f64();
    let end = took.map_or(f64::INFINITY, |took| took.as_secs_f64());
    let mut points = vec![(0.0, 0.0)];
    let mut sum = 0.0;
    for (number, part) in course.parts.iter().enumerate() {
        sum += of(part);
        points.push((((number + 1) as f64 * length).min(end), sum));
    }
    points
}

fn answered(night: &Night) -> Vec<(f64, f64)> {
    sums(&night.course, Some(night.took), |part| part.answered as f64)
}

fn paid(course: &Course) -> Vec<(f64, f64)> {
    sums(course, None, |part| part.usd)
}

/// From when to when what held calls up for which share of the time.
type Band = (f64, f64, Vec<(Holds, f64)>);

/// What held calls up, stretch by stretch; those that look the same are one.
fn strip(svg: &mut String, panel: &Panel, course: &Course) {
    let length = course.length.as_secs_f64();
    let mut bands: Vec<Band> = Vec::new();
    for (number, part) in course.parts.iter().enumerate() {
        let seconds: f64 = part.held.iter().sum();
        if seconds <= 0.0 {
            continue;
        }
        let share = |by: Holds| (by, part.held[by as usize] / seconds);
        let held = Holds::ALL
            .into_iter()
            .map(share)
            .filter(|(_, share)| *share > 0.005);
        let held: Vec<(Holds, f64)> = held.collect();
        let from = number as f64 * length;
        match bands.last_mut() {
            Some((_, to, last)) if *last == held => *to = from + seconds,
            _ => bands.push((from, from + seconds, held)),
        }
    }
    let _ = writeln!(svg, "<g shape-rendering=\"crispEdges\">");
    for (from, to, held) in bands {
        let (left, wide) = (panel.x(from), panel.x(to) - panel.x(from));
        let mut top = panel.top;
        for (by, share) in held {
            let (tall, colour) = (panel.height * share, colour(by));
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.2}\" y=\"{top:.2}\" width=\"{wide:.2}\" height=\"{tall:.2}\" \
                 fill=\"{colour}\"/>"
            );
            top += tall;
        }
    }
    svg.push_str("</g>\n");
}

/// What the colours of the strip mean, and how far down that goes.
fn legend(course: &Course, top: f64) -> (String, f64) {
    let (mut svg, mut x, mut y) = (String::new(), LEFT, top);
    for (by, share) in course.shares().into_iter().filter(|(_, share)| *share >= 0.005) {
        let told = format!("{} {:.0} %", text::name(by).replace('`', ""), share * 100.0);
        let wide = 30.0 + 6.6 * told.chars().count() as f64;
        if x + wide > WIDTH - 20.0 && x > LEFT {
            (x, y) = (LEFT, y + 20.0);
        }
        let (top, colour) = (y - 10.0, colour(by));
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
        );
        label(&mut svg, (x + 18.0, y), "start", TEXT, &told);
        x += wide;
    }
    (svg, y)
}

fn colour(by: Holds) -> &'static str {
    match by {
        Holds::Requests => "#2f6fde",
        Holds::Tokens => "#7a4fd0",
        Holds::InFlight => "#23a26d",
        Holds::Leaders => "#8bc34a",
        Holds::Needs => "#9aa4b5",
        Holds::Retries => "#e0a100",
        Holds::Paused => "#e5732f",
        Holds::Outage => "#c62f3b",
        Holds::Budget => "#a3672c",
        Holds::Hours => "#2a3147",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_few_and_even() {
        for lasts in [0.4, 3.0, 59.0, 600.0, 4_000.0, 86_400.0 * 3.0, 86_400.0 * 400.0] {
            let moments = moments(lasts);
            assert!((1..=TICKS + 1).contains(&moments.len()), "{lasts}: {moments:?}");
            assert!(moments.iter().all(|at| *at <= lasts), "{lasts}: {moments:?}");
        }
        assert_eq!(moments(600.0), [0.0, 120.0, 240.0, 360.0, 480.0, 600.0]);
    }
}
