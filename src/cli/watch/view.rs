//! What `hark watch` shows: the records of the daemon gathered, and drawn. Knows neither socket
//! nor terminal, so that tests can draw into a buffer.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};
use serde_json::Value;

use crate::outputs::protocol::{DroppedRecord, EventRecord, HelloRecord, LiveRecord, StateRecord};

/// Events and words that are kept, far more than any terminal shows.
const KEPT: usize = 200;

/// Bottom of the level meter in dB relative to full scale: below it, sound cards give noise alone.
const METER_FLOOR_DB: f64 = -90.0;

const DIM: Style = Style::new().fg(Color::DarkGray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// An episode or instant in the list.
struct Row {
    id: String,
    time: String,
    kind: String,
    label: String,
    peak: f64,
    /// `None` while it lasts; 0 for an instant.
    seconds: Option<f64>,
}

/// Everything on the screen.
pub(super) struct View {
    version: String,
    state: String,
    reason: String,
    live: Option<LiveRecord<'static>>,
    words: VecDeque<(String, f64)>,
    rows: VecDeque<Row>,
    missed: u64,
    zone: TimeZone,
}

impl View {
    /// An empty screen; times are shown in `zone`.
    pub(super) fn new(zone: TimeZone) -> Self {
        View {
            version: String::new(),
            state: String::new(),
            reason: String::new(),
            live: None,
            words: VecDeque::new(),
            rows: VecDeque::new(),
            missed: 0,
            zone,
        }
    }

    /// A daemon has greeted.
    pub(super) fn greet(&mut self, hello: &HelloRecord) {
        self.version = hello.version.to_string();
        self.state = hello.state.to_string();
        self.reason.clear();
    }

    /// The daemon has gone; what it said stays on the screen.
    pub(super) fn lose(&mut self, why: String) {
        self.state = "gone".to_owned();
        self.reason = why;
        self.live = None;
        // It closed every episode as it ended, or it died; none goes on.
        for row in &mut self.rows {
            row.seconds.get_or_insert(0.0);
        }
    }

    /// Takes a line of the daemon; lines of kinds that are not known are passed over, as a newer
    /// daemon may send more.
    pub(super) fn apply(&mut self, line: &str) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            return;
        };
        match value["type"].as_str() {
            Some("live") => {
                if let Ok(live) = serde_json::from_value::<LiveRecord>(value) {
                    self.live = Some(live);
                }
            }
            Some("state") => {
                if let Ok(state) = serde_json::from_value::<StateRecord>(value) {
                    self.state = state.state.into_owned();
                    self.reason = state.reason.into_owned();
                }
            }
            Some("dropped") => {
                if let Ok(dropped) = serde_json::from_value::<DroppedRecord>(value) {
                    self.missed += dropped.count;
                }
            }
            Some("event") => {
                if let Ok(event) = serde_json::from_value::<EventRecord>(value) {
                    self.hear(&event);
                }
            }
            _ => {}
        }
    }

    fn hear(&mut self, event: &EventRecord) {
        if event.kind == "keyword" && event.phase == "instant" {
            self.words
                .push_front((event.label.to_string(), event.score));
            self.words.truncate(KEPT);
            return;
        }
        let seconds = match &*event.phase {
            "start" => None,
            "instant" => Some(0.0),
            _ => Some(event.end_s.unwrap_or(event.start_s) - event.start_s),
        };
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == event.id) {
            row.peak = event.peak;
            row.seconds = seconds;
            return;
        }
        let time = event.time.parse::<Timestamp>().map_or_else(
            |_| event.time.to_string(),
            |stamp| {
                let local = stamp.to_zoned(self.zone.clone());
                local.strftime("%H:%M:%S").to_string()
            },
        );
        self.rows.push_front(Row {
            id: event.id.to_string(),
            time,
            kind: event.kind.to_string(),
            label: event.label.to_string(),
            peak: event.peak,
            seconds,
        });
        self.rows.truncate(KEPT);
    }

    /// Draws everything; any size will do.
    pub(super) fn draw(&self, frame: &mut Frame) {
        let [head, level, words, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(3),
            Constraint::Length(3),
            Constraint::Fill(1),
        ])
        .areas(frame.area());
        let [now, events] =
            Layout::horizontal([Constraint::Percentage(42), Constraint::Fill(1)]).areas(rest);
        frame.render_widget(self.head(), head);
        let boxed = |title: &'static str| Block::bordered().title(title).border_style(DIM);
        let inside = level.width.saturating_sub(2);
        frame.render_widget(
            Paragraph::new(self.meter(usize::from(inside))).block(boxed(" Level ")),
            level,
        );
        frame.render_widget(Paragraph::new(self.ticker()).block(boxed(" Words ")), words);
        frame.render_widget(Paragraph::new(self.scores(now)).block(boxed(" Now ")), now);
        frame.render_widget(Paragraph::new(self.list()).block(boxed(" Events ")), events);
    }

    fn head(&self) -> Line<'_> {
        let colour = match self.state.as_str() {
            "listening" => Color::Green,
            "paused" | "loading" => Color::Yellow,
            _ => Color::Red,
        };
        let mut spans = vec![
            Span::styled("hark ", BOLD),
            Span::raw(&*self.version),
            Span::raw("  "),
            Span::styled(&*self.state, BOLD.fg(colour)),
        ];
        if !self.reason.is_empty() {
            spans.push(Span::raw(format!(" ({})", self.reason)));
        }
        if let Some(live) = self.live.as_ref().filter(|live| !live.content.is_empty()) {
            spans.push(Span::raw(format!("  {}", live.content)));
        }
        if self.missed > 0 {
            let text = format!("  {} events missed", self.missed);
            spans.push(Span::styled(text, Style::new().fg(Color::Red)));
        }
        spans.push(Span::styled("  q quits", DIM));
        Line::from(spans)
    }

    /// A bar from [`METER_FLOOR_DB`] to full scale, with a mark at the noise floor.
    fn meter(&self, width: usize) -> Line<'static> {
        let Some(live) = &self.live else {
            return Line::styled("no live picture yet", DIM);
        };
        let figures = format!(
            " {:>6.1} dBFS, floor {:>6.1}",
            live.level_dbfs, live.noise_floor_dbfs
        );
        let cells = width.saturating_sub(figures.len());
        let place = |db: f64| {
            let share = ((db - METER_FLOOR_DB) / -METER_FLOOR_DB).clamp(0.0, 1.0);
            (share * cells as f64).round() as usize
        };
        let (level, floor) = (place(live.level_dbfs), place(live.noise_floor_dbfs));
        let colour = match live.level_dbfs {
            db if db > -3.0 => Color::Red,
            db if db > -12.0 => Color::Yellow,
            _ => Color::Green,
        };
        let mut spans: Vec<Span> = (0..cells)
            .map(|cell| {
                if cell == floor.min(cells - 1) {
                    Span::styled("│", BOLD)
                } else if cell < level {
                    Span::styled("█", Style::new().fg(colour))
                } else {
                    Span::styled("·", DIM)
                }
            })
            .collect();
        spans.push(Span::raw(figures));
        Line::from(spans)
    }

    fn ticker(&self) -> Line<'_> {
        if self.words.is_empty() {
            return Line::styled("none yet", DIM);
        }
        let mut spans = Vec::new();
        for (at, (word, score)) in self.words.iter().enumerate() {
            let style = if at == 0 {
                BOLD.fg(Color::Cyan)
            } else {
                Style::new()
            };
            spans.push(Span::styled(&**word, style));
            spans.push(Span::styled(format!(" {score:.2}   "), DIM));
        }
        Line::from(spans)
    }

    fn scores(&self, area: Rect) -> Vec<Line<'_>> {
        let Some(live) = &self.live else {
            return Vec::new();
        };
        let bar = usize::from(area.width.saturating_sub(2)) / 3;
        let mut lines = Vec::new();
        let mut model = ("", "");
        for entry in &live.top {
            let own = (&*entry.kind, &*entry.model);
            if own != model {
                model = own;
                let several = live
                    .top
                    .iter()
                    .any(|other| other.kind == entry.kind && other.model != entry.model);
                // The name of a model is of use where another answers the same.
                let title = if several { own.1 } else { own.0 };
                lines.push(Line::styled(title.to_owned(), DIM));
            }
            let filled = (entry.score.clamp(0.0, 1.0) * bar as f64).round() as usize;
            lines.push(Line::from(vec![
                Span::raw(format!("{:.2} ", entry.score)),
                Span::styled("█".repeat(filled), Style::new().fg(Color::Blue)),
                Span::styled("·".repeat(bar - filled), DIM),
                Span::raw(format!(" {}", entry.label)),
            ]));
        }
        lines
    }

    fn list(&self) -> Vec<Line<'_>> {
        let line = |row: &Row| {
            let (mark, style, length) = match row.seconds {
                None => ("▶ ", BOLD.fg(Color::Yellow), String::new()),
                Some(0.0) => ("  ", Style::new(), String::new()),
                Some(seconds) => ("  ", Style::new(), format!(", {seconds:.1} s")),
            };
            Line::from(vec![
                Span::styled(format!("{} ", row.time), DIM),
                Span::styled(mark, style),
                Span::styled(row.label.clone(), style),
                Span::raw(format!("  {:.2}{length}", row.peak)),
                Span::styled(format!("  {}", row.kind), DIM),
            ])
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;
    use crate::command::State;

    fn event(id: &str, phase: &str, kind: &str, label: &str, end_s: Option<f64>) -> String {
        json!({
            "v": 1, "type": "event", "id": id, "phase": phase, "kind": kind, "rule": "r",
            "label": label, "score": 0.91, "threshold": 0.6, "time": "2026-11-23T12:00:01.250Z",
            "mono_us": 1, "source": "mic", "start_s": 2.0, "end_s": end_s, "peak": 0.97,
            "level_dbfs": -20.0, "noise_floor_dbfs": -60.0, "model": null, "scores": [], "clip": null,
        })
        .to_string()
    }

    fn seen() -> View {
        let mut view = View::new(TimeZone::UTC);
        view.greet(&HelloRecord::new(State::Loading));
        for line in [
            r#"{"type":"state","state":"listening","reason":""}"#.to_owned(),
            r#"{"type":"live","level_dbfs":-45.0,"noise_floor_dbfs":-67.5,"content":"speech","top":[{"kind":"keyword","label":"yes","score":0.5},{"kind":"event","label":"Siren","score":1.0}]}"#.to_owned(),
            event("1", "instant", "keyword", "no", None),
            event("2", "instant", "keyword", "yes", None),
            event("3", "start", "event", "Siren", None),
            event("4", "start", "event", "Dog", None),
            event("3", "end", "event", "Siren", Some(5.5)),
            event("5", "instant", "content", "music", None),
            r#"{"type":"dropped","count":3}"#.to_owned(),
            r#"{"type":"smell","strength":3}"#.to_owned(),
            r#"{"type":"live","level_dbfs":"loud"}"#.to_owned(),
            "no JSON".to_owned(),
        ] {
            view.apply(&line);
        }
        view
    }

    fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| {
            (0..width)
                .map(|x| buffer[(x, y)].symbol())
                .collect::<String>()
        };
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn the_screen_shows_what_the_daemon_said() {
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            &format!("hark {version}  listening  speech  3 events missed  q quits"),
            "┌ Level ───────────────────────────────────────────────────────────────────────┐",
            "│█████████████│████████████··························  -45.0 dBFS, floor  -67.5│",
            "└──────────────────────────────────────────────────────────────────────────────┘",
            "┌ Words ───────────────────────────────────────────────────────────────────────┐",
            "│yes 0.91   no 0.91                                                            │",
            "└──────────────────────────────────────────────────────────────────────────────┘",
            "┌ Now ───────────────────────────┐┌ Events ────────────────────────────────────┐",
            "│keyword                         ││12:00:01   music  0.97  content             │",
            "│0.50 █████····· yes             ││12:00:01 ▶ Dog  0.97  event                 │",
            "│event                           ││12:00:01   Siren  0.97, 3.5 s  event        │",
            "│1.00 ██████████ Siren           ││                                            │",
            "└────────────────────────────────┘└────────────────────────────────────────────┘",
        ];
        assert_eq!(drawn(&seen(), 80, 13), expected);
    }

    #[test]
    fn a_lost_daemon_is_said_and_nothing_goes_on() {
        let mut view = seen();
        view.lose("waiting for it".to_owned());
        let screen = drawn(&view, 80, 13).join("\n");
        assert!(screen.contains("gone (waiting for it)"), "{screen}");
        assert!(!screen.contains('▶'), "{screen}");
        assert!(screen.contains("no live picture yet"), "{screen}");
    }

    #[test]
    fn any_size_can_be_drawn() {
        for (width, height) in [(1, 1), (3, 3), (20, 5), (33, 100), (300, 80)] {
            drawn(&seen(), width, height);
            drawn(&View::new(TimeZone::UTC), width, height);
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut view = View::new(TimeZone::UTC);
        for n in 0..2 * KEPT {
            view.apply(&event(&n.to_string(), "start", "event", "Siren", None));
            view.apply(&event("w", "instant", "keyword", "yes", None));
        }
        assert_eq!((view.rows.len(), view.words.len()), (KEPT, KEPT));
        assert_eq!(view.rows[0].id, (2 * KEPT - 1).to_string());
    }
}
