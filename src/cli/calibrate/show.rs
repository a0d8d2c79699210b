//! What a calibration proposes, as text for people and as one JSON object.

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::out;
use crate::detect::poisson::{CONFIDENCE, hours_to_show, upper_per_hour};
use crate::detect::search::{LabelProposal, Proposal};

/// A threshold that rises by more than this is said aloud: what is heard faintly is heard no longer.
const STEEP: f32 = 0.15;

/// Everything that came of a calibration.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How long the room was heard.
    pub minutes: f64,
    /// Where the sound came from.
    pub from: String,
    /// The most false accepts an hour of a rule.
    pub target_fa_per_hour: f64,
    /// That of the upper bounds.
    pub confidence: f64,
    /// How long a room must be heard without a false accept to show the target.
    pub minutes_to_show: f64,
    /// The rules that were looked at.
    pub rules: Vec<RuleRow>,
    /// What the embedders keep of the room.
    pub rooms: Vec<RoomRow>,
    /// What becomes of sounds that are wanted.
    pub positives: Vec<PositiveRow>,
    /// The file that holds the thresholds now.
    pub written: Option<PathBuf>,
    /// Whether a daemon has read them.
    pub reloaded: bool,
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct RuleRow {
    rule: String,
    kind: &'static str,
    false_accepts: u32,
    per_hour: f64,
    per_hour_at_most: f64,
    then: u32,
    then_per_hour: f64,
    then_per_hour_at_most: f64,
    labels: Vec<LabelRow>,
}

/// One label of it.
#[derive(Debug, Serialize)]
pub struct LabelRow {
    label: String,
    model: String,
    highest: f32,
    false_accepts: u32,
    threshold: f32,
    needed: f32,
    new: f32,
    /// An alarm that needs another threshold and keeps its own.
    held: bool,
    /// Whether no threshold keeps it quiet.
    beyond: bool,
    then: u32,
}

/// The room of one embedder.
#[derive(Debug, Serialize)]
pub struct RoomRow {
    /// Name of the model.
    pub model: String,
    /// Checksum of its weights.
    pub sha256: String,
    /// Windows heard.
    pub windows: u64,
    /// Points kept of them.
    pub points: usize,
    /// Where, unless nothing was to be written.
    pub written: Option<PathBuf>,
}

/// A recording of a sound that is wanted.
#[derive(Debug, Serialize)]
pub struct PositiveRow {
    /// The label or prompt.
    pub name: String,
    /// The recording.
    pub file: String,
    /// How often it fires at the thresholds in force; `None` for a prompt.
    pub before: Option<u32>,
    /// And at the proposed ones.
    pub after: Option<u32>,
    /// What came of it for a prompt, in words.
    pub calibration: Option<String>,
}

impl Report {
    /// A report on rules.
    pub fn new(minutes: f64, from: String, target: f64, proposals: &[Proposal]) -> Self {
        let hours = minutes / 60.0;
        Report {
            minutes,
            from,
            target_fa_per_hour: target,
            confidence: CONFIDENCE,
            minutes_to_show: 60.0 * hours_to_show(0, target),
            rules: proposals.iter().map(|p| RuleRow::new(p, hours)).collect(),
            rooms: Vec::new(),
            positives: Vec::new(),
            written: None,
            reloaded: false,
        }
    }

    /// Whether what was heard shows the target for every rule.
    fn is_shown(&self) -> bool {
        let bounds = self.rules.iter().map(|rule| rule.then_per_hour_at_most);
        bounds.fold(0.0, f64::max) <= self.target_fa_per_hour
    }

    /// Shows it as text.
    ///
    /// # Errors
    /// When standard output takes no more.
    pub fn show(&self) -> anyhow::Result<()> {
        out::line(format_args!(
            "heard {:.1} minutes of {}; target of each rule: at most {} an hour",
            self.minutes, self.from, self.target_fa_per_hour
        ))?;
        for rule in &self.rules {
            rule.show()?;
        }
        for positive in &self.positives {
            positive.show()?;
        }
        for room in &self.rooms {
            out::line(format_args!(
                "room of {}: {} points of {} windows",
                room.model, room.points, room.windows
            ))?;
        }
        if !self.is_shown() {
            out::line(format_args!(
                "'at most' is with {:.0} % confidence. To show the target, hear {:.0} minutes without a false accept.",
                100.0 * self.confidence,
                self.minutes_to_show.ceil()
            ))?;
        }
        Ok(())
    }
}

impl RuleRow {
    fn new(proposal: &Proposal, hours: f64) -> Self {
        let per_hour = |count: u32| f64::from(count) / hours;
        let (before, after) = (proposal.before(), proposal.after());
        RuleRow {
            rule: proposal.rule.to_string(),
            kind: proposal.kind.as_str(),
            false_accepts: before,
            per_hour: per_hour(before),
            per_hour_at_most: upper_per_hour(before, hours),
            then: after,
            then_per_hour: per_hour(after),
            then_per_hour_at_most: upper_per_hour(after, hours),
            labels: proposal.labels.iter().map(LabelRow::new).collect(),
        }
    }

    fn show(&self) -> anyhow::Result<()> {
        let RuleRow { rule, then, .. } = self;
        if self.labels.is_empty() {
            let text = match self.kind {
                "prompt" => "no prompt is listened for by a CLAP",
                "taught" => "nothing was taught",
                _ => "no model has its labels",
            };
            return Ok(out::line(format_args!("{rule}: {text}"))?);
        }
        let before = match self.false_accepts {
            0 => "nothing fired".to_owned(),
            n => format!("fired {}, {:.1} an hour", times(n), self.per_hour),
        };
        let is_changed = self.labels.iter().any(|label| label.new != label.threshold);
        let after = match (is_changed, then) {
            (false, _) => "thresholds stay".to_owned(),
            (true, 0) => "with the new thresholds never".to_owned(),
            (true, n) => {
                let then = self.then_per_hour;
                format!("with the new thresholds {}, {then:.1} an hour", times(*n))
            }
        };
        out::line(format_args!(
            "{rule}: {before}; {after} (at most {:.1} an hour)",
            self.then_per_hour_at_most
        ))?;
        for label in &self.labels {
            label.show()?;
        }
        Ok(())
    }
}

impl LabelRow {
    fn new(label: &LabelProposal) -> Self {
        LabelRow {
            label: label.label.to_string(),
            model: label.model.to_string(),
            highest: label.highest,
            false_accepts: label.before,
            threshold: label.old,
            needed: label.needed,
            new: label.new,
            held: label.is_held(),
            beyond: label.is_beyond,
            then: label.after,
        }
    }

    /// Labels of which there is nothing to say are left out.
    fn show(&self) -> anyhow::Result<()> {
        if self.false_accepts == 0 && self.new == self.threshold {
            return Ok(());
        }
        let change = match self.new == self.threshold {
            true => format!("threshold {} stays", self.threshold),
            false => format!("threshold {} -> {}", self.threshold, self.new),
        };
        out::line(format_args!(
            "  {}: {}, best score {:.2}, {change}",
            self.label,
            times(self.false_accepts),
            self.highest
        ))?;
        for warning in self.warnings() {
            out::line(format_args!("    WARNING: {warning}"))?;
        }
        Ok(())
    }

    /// What somebody who relies on the label must know.
    fn warnings(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.beyond {
            found.push(
                "it fires at any threshold here, so the old one stays: find what sounds like it, take it out of the rule, or set min_level_db, veto or confirm"
                    .to_owned(),
            );
        } else if self.held {
            found.push(format!(
                "an alarm is not made deaf unasked; {} would be needed: find what sounds like it, or use --alarms",
                self.needed
            ));
        } else if self.new - self.threshold > STEEP {
            found.push("a steep rise: it will be heard only when it is loud and clear".to_owned());
        }
        found
    }
}

impl PositiveRow {
    fn show(&self) -> anyhow::Result<()> {
        let PositiveRow { name, file, .. } = self;
        if let Some(calibration) = &self.calibration {
            out::line(format_args!("{name}: {calibration}"))?;
        }
        if let (Some(before), Some(after)) = (self.before, self.after) {
            let verdict = match (before, after) {
                (0, _) => "not heard before either",
                (_, 0) => "WARNING: no longer heard with the new thresholds",
                _ => "still heard",
            };
            out::line(format_args!(
                "{file}: {name} {verdict} ({before} times, then {after})"
            ))?;
        }
        Ok(())
    }
}

/// A count in words.
fn times(n: u32) -> String {
    match n {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(threshold: f32, needed: f32, new: f32, then: u32) -> LabelRow {
        LabelRow {
            label: "Siren".into(),
            model: "m".into(),
            highest: 0.9,
            false_accepts: 2,
            threshold,
            needed,
            new,
            held: new == threshold && needed != new,
            beyond: false,
            then,
        }
    }

    fn check(row: &LabelRow, expected: &[&str]) {
        let warnings = row.warnings();
        assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
        for (warning, part) in warnings.iter().zip(expected) {
            assert!(warning.contains(part), "{warning}");
        }
    }

    #[test]
    fn what_makes_a_label_deaf_is_said() {
        check(&label(0.5, 0.6, 0.6, 0), &[]);
        check(&label(0.5, 0.7, 0.7, 0), &["steep rise"]);
        check(&label(0.5, 0.91, 0.5, 2), &["0.91 would be needed"]);
        let beyond = LabelRow {
            beyond: true,
            ..label(0.6, 0.99, 0.6, 1)
        };
        check(&beyond, &["fires at any threshold"]);
    }

    #[test]
    fn little_sound_shows_nothing_and_much_does() {
        let report = |minutes: f64| {
            let proposal = Proposal {
                rule: "r".into(),
                kind: crate::event::Kind::Event,
                labels: Vec::new(),
            };
            Report::new(minutes, "mic".into(), 1.0, &[proposal])
        };
        assert!(!report(10.0).is_shown());
        assert!((report(10.0).rules[0].then_per_hour_at_most - 17.974).abs() < 1e-2);
        assert!(report(180.0).is_shown());
        assert!((report(10.0).minutes_to_show - 179.7).abs() < 0.1);
    }
}
