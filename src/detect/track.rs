//! One label of one rule: n-of-m confirmation, hysteresis, hold and refractory time.
//!
//! It knows neither names of rules nor how scores come about.

use std::sync::Arc;

use crate::clock::SampleIdx;

use super::rule::Rule;

/// What one observation says about one label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Smoothed score.
    pub score: f32,
    /// Start of the observation.
    pub start: SampleIdx,
    /// One past its end.
    pub end: SampleIdx,
    /// Whether gate, veto and lockout let it count as a hit.
    pub allowed: bool,
}

/// What has become of a label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// Nothing to report.
    Quiet,
    /// Confirmed by the observation: the oldest hit lies `back` observations ago.
    Confirmed { back: u32 },
    /// The open episode is over.
    Ended(Open),
}

/// An episode that has started and not ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Open {
    pub episode: u64,
    pub start: SampleIdx,
    /// End of the last observation at or over release.
    pub end: SampleIdx,
    pub peak: f32,
    /// Score of the newest observation.
    pub score: f32,
}

/// The state of one label.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub label: Arc<str>,
    /// Position in the model's scores.
    pub index: usize,
    pub threshold: f32,
    pub release: f32,
    /// The threshold that its model gives it.
    own: Option<f32>,
    pub open: Option<Open>,
    /// One bit an observation, the newest lowest; set for hits.
    hits: u64,
    /// Observations that start earlier are in the refractory time.
    ready_at: SampleIdx,
    /// Whether the score has been below release since the last instant.
    armed: bool,
}

impl Track {
    pub fn new(rule: &Rule, label: Arc<str>, index: usize, own: Option<f32>) -> Self {
        let mut track = Track {
            threshold: 0.0,
            release: 0.0,
            own,
            label,
            index,
            open: None,
            hits: 0,
            ready_at: SampleIdx(0),
            armed: true,
        };
        track.set_thresholds(rule);
        track
    }

    /// Takes the thresholds of the rule.
    pub fn set_thresholds(&mut self, rule: &Rule) {
        self.threshold = rule.threshold_for(&self.label, self.own);
        self.release = rule.release_ratio * self.threshold;
    }

    /// Goes on where `old` stood: the same label of an equal rule. What it had open is taken from it.
    pub fn carry_over(&mut self, old: &mut Track) {
        self.open = old.open.take();
        self.hits = old.hits;
        self.ready_at = old.ready_at;
        self.armed = old.armed;
    }

    /// Takes one observation. Allocates nothing.
    pub fn step(&mut self, rule: &Rule, seen: Seen) -> Step {
        let released = seen.score < self.release;
        if let Some(open) = &mut self.open {
            open.score = seen.score;
            if !released {
                open.peak = open.peak.max(seen.score);
                open.end = open.end.max(seen.end);
            } else if seen.end > open.end + rule.hold {
                let over = *open;
                self.end(rule, over);
                return Step::Ended(over);
            }
            return Step::Quiet;
        }
        self.armed |= released;
        let hit = seen.score >= self.threshold
            && seen.allowed
            && self.armed
            && seen.start >= self.ready_at;
        // `of` is 1 to 64, so the shift below stays within the word.
        self.hits = (self.hits << 1 | u64::from(hit)) & (u64::MAX >> (64 - rule.of));
        if hit && self.hits.count_ones() >= rule.hits {
            let back = 63 - self.hits.leading_zeros();
            self.hits = 0;
            return Step::Confirmed { back };
        }
        Step::Quiet
    }

    /// Begins the refractory time after an instant that ended at `end`.
    pub fn fired(&mut self, rule: &Rule, end: SampleIdx) {
        self.armed = false;
        self.ready_at = end + rule.refractory;
    }

    /// Ends the open episode, if there is one, and forgets the confirmation so far.
    pub fn interrupt(&mut self, rule: &Rule) -> Option<Open> {
        self.hits = 0;
        self.armed = true;
        let open = self.open?;
        self.end(rule, open);
        Some(open)
    }

    fn end(&mut self, rule: &Rule, open: Open) {
        self.open = None;
        self.hits = 0;
        self.ready_at = open.end + rule.refractory;
    }
}
