//! The smoothed content state: speech, music, environment or silence.
//!
//! Made of the event model's scores and the level. Each window gives evidence for the classes; the
//! evidence is averaged over about a second, and a new state is reported once it has led for the
//! hold time. What is said of a window: speech and music by their labels, environment by the best
//! other label or by plain loudness, silence by its label and by a level near the noise floor.

use std::sync::Arc;

use super::{Decision, Observation};
use crate::clock::SampleIdx;
use crate::event::{Kind, Phase};

/// Name of the rule in content events.
pub const RULE: &str = "content";

/// At or below this level nothing can be made out, whatever a model says; quiet rooms with a fair
/// microphone lie at -60 to -70 dBFS.
pub(super) const DEAD_DBFS: f32 = -75.0;
/// A level this close to the noise floor, in dB, is the room alone.
const NEAR_FLOOR_DB: f32 = 6.0;
/// Evidence that the level gives by itself: enough against labels that are unsure, not against
/// clear ones.
const LEVEL_EVIDENCE: f32 = 0.4;
/// Time constant of the averaging, in samples (1 s).
const AVERAGE: f32 = 16_000.0;
/// A rival must lead by this much: hysteresis between classes.
const LEAD: f32 = 0.05;
/// Episodes of content lie above every number that an engine reaches.
const FIRST_EPISODE: u64 = 1 << 63;

/// What the room sounds like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Somebody speaks.
    Speech,
    /// Music plays.
    Music,
    /// Any other sound.
    Environment,
    /// Nothing but the noise floor.
    Silence,
}

impl State {
    /// Every state, in the order of [`window_scores`].
    pub const ALL: [State; 4] = [
        State::Speech,
        State::Music,
        State::Environment,
        State::Silence,
    ];

    /// The label in content events.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Speech => "speech",
            State::Music => "music",
            State::Environment => "environment",
            State::Silence => "silence",
        }
    }
}

/// The content smoother. A pure function of the observations.
#[derive(Debug)]
pub struct Content {
    rule: Arc<str>,
    names: [Arc<str>; 4],
    hold: u64,
    /// The model it listens to.
    stream: usize,
    /// Class of each label.
    classes: Vec<usize>,
    /// Averaged evidence, by [`State`].
    evidence: [f32; 4],
    last_end: Option<SampleIdx>,
    state: Option<State>,
    rival: Option<Rival>,
    next_episode: u64,
}

/// A class that leads and is not the state yet.
#[derive(Debug, Clone, Copy)]
struct Rival {
    state: State,
    since: SampleIdx,
    peak: f32,
}

impl Content {
    /// A smoother whose new states must lead for `hold_s` seconds before they are reported, for the
    /// model `stream` with these labels.
    pub fn new(hold_s: f64, stream: usize, labels: &[Arc<str>]) -> Self {
        Content {
            rule: Arc::from(RULE),
            names: State::ALL.map(|state| Arc::from(state.as_str())),
            hold: SampleIdx::from_secs_f64(hold_s).0,
            stream,
            classes: labels.iter().map(|label| class(label)).collect(),
            evidence: [0.0; 4],
            last_end: None,
            state: None,
            rival: None,
            next_episode: FIRST_EPISODE,
        }
    }

    /// Whether scores of these labels tell speech and music from the rest.
    pub fn is_told_by(labels: &[Arc<str>]) -> bool {
        let has = |state: State| labels.iter().any(|label| class(label) == state as usize);
        has(State::Speech) && has(State::Music)
    }

    /// The model it listens to.
    pub fn stream(&self) -> usize {
        self.stream
    }

    /// The state in force; `None` before the first window. Silence is assumed until something else
    /// has held.
    pub fn state(&self) -> Option<State> {
        self.state
    }

    /// The name of the state in force, empty before the first window.
    pub fn label(&self) -> &'static str {
        self.state.map_or("", State::as_str)
    }

    /// Takes a window of its model (others are ignored) and reports a change of state
    /// as an instant of kind `content`: it starts where the new state began to lead.
    pub fn observe(
        &mut self,
        seen: &Observation<'_>,
        noise_floor_dbfs: f32,
        emit: &mut dyn FnMut(Decision),
    ) {
        if seen.stream != self.stream || self.last_end.is_some_and(|end| seen.end <= end) {
            return;
        }
        let classes = self.classes.iter().copied();
        let now = evidence(classes, seen.scores, seen.level_dbfs, noise_floor_dbfs);
        let weight = match self.last_end {
            None => 1.0,
            Some(end) => 1.0 - (-((seen.end.0 - end.0) as f32) / AVERAGE).exp(),
        };
        for (average, now) in self.evidence.iter_mut().zip(now) {
            *average += weight * (now - *average);
        }
        self.last_end = Some(seen.end);
        let state = *self.state.get_or_insert(State::Silence);
        self.decide(state, seen, emit);
    }

    /// Forgets the evidence, as after a gap or a pause; the state in force stays.
    pub fn interrupt(&mut self) {
        self.last_end = None;
        self.rival = None;
    }

    /// Takes over the state of `old`: the room is the same. Evidence counts on where the labels are the
    /// same too.
    pub fn carry_over(&mut self, old: Content) {
        self.state = old.state;
        self.next_episode = old.next_episode;
        if self.classes == old.classes {
            self.evidence = old.evidence;
            self.last_end = old.last_end;
            self.rival = old.rival;
        }
    }

    fn decide(&mut self, state: State, seen: &Observation<'_>, emit: &mut dyn FnMut(Decision)) {
        let best = State::ALL
            .into_iter()
            .reduce(|best, next| {
                let ahead = self.evidence[next as usize] > self.evidence[best as usize];
                if ahead { next } else { best }
            })
            .unwrap_or(state);
        let score = self.evidence[best as usize];
        if best == state || score < self.evidence[state as usize] + LEAD {
            self.rival = None;
            return;
        }
        let rival = match self.rival {
            Some(rival) if rival.state == best => Rival {
                peak: rival.peak.max(score),
                ..rival
            },
            _ => Rival {
                state: best,
                since: seen.start,
                peak: score,
            },
        };
        self.rival = Some(rival);
        if seen.end.0 - rival.since.0.min(seen.end.0) < self.hold {
            return;
        }
        let threshold = (self.evidence[state as usize] + LEAD).min(1.0);
        self.rival = None;
        self.state = Some(best);
        let episode = self.next_episode;
        self.next_episode += 1;
        emit(Decision {
            phase: Phase::Instant,
            kind: Kind::Content,
            stream: self.stream,
            rule: Arc::clone(&self.rule),
            label: Arc::clone(&self.names[best as usize]),
            episode,
            score,
            threshold,
            start: rival.since,
            end: Some(seen.end),
            peak: rival.peak,
        });
    }
}

/// What one window says of each of [`State::ALL`], `0.0..=1.0`: the evidence that the smoother
/// averages, for those who want windows one by one.
pub fn window_scores(
    labels: &[Arc<str>],
    scores: &[f32],
    level_dbfs: f32,
    noise_floor_dbfs: f32,
) -> [f32; 4] {
    let classes = labels.iter().map(|label| class(label));
    evidence(classes, scores, level_dbfs, noise_floor_dbfs)
}

fn evidence(
    classes: impl Iterator<Item = usize>,
    scores: &[f32],
    level_dbfs: f32,
    noise_floor_dbfs: f32,
) -> [f32; 4] {
    let mut evidence = [0.0_f32; 4];
    if level_dbfs <= DEAD_DBFS {
        evidence[State::Silence as usize] = 1.0;
        return evidence;
    }
    for (class, score) in classes.zip(scores) {
        // `max` drops NaN.
        evidence[class] = evidence[class].max(*score).min(1.0);
    }
    let by_level = if level_dbfs <= noise_floor_dbfs + NEAR_FLOOR_DB {
        State::Silence
    } else {
        State::Environment
    };
    let slot = &mut evidence[by_level as usize];
    *slot = slot.max(LEVEL_EVIDENCE);
    evidence
}

fn class(label: &str) -> usize {
    let state = match label {
        "Speech" => State::Speech,
        "Music" => State::Music,
        "Silence" => State::Silence,
        _ => State::Environment,
    };
    state as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR_DBFS: f32 = -60.0;

    /// Feeds windows of 1 s every 0.5 s: scores of Speech, Music, Silence and Dog, and the level.
    /// Gives the changes with the second in which they were decided.
    fn feed(content: &mut Content, rows: &[([f32; 4], f32)]) -> Vec<(String, f64)> {
        let mut log = Vec::new();
        for (turn, (scores, level_dbfs)) in rows.iter().enumerate() {
            let start = SampleIdx(turn as u64 * 8_000);
            let seen = Observation {
                stream: 0,
                start,
                end: start + 16_000,
                scores,
                level_dbfs: *level_dbfs,
            };
            content.observe(&seen, FLOOR_DBFS, &mut |decision| {
                assert_eq!(decision.phase, Phase::Instant);
                assert!(decision.peak >= decision.score);
                assert!(decision.start <= start);
                log.push((decision.label.to_string(), seen.end.as_secs_f64()));
            });
        }
        log
    }

    const SPEECH: ([f32; 4], f32) = ([0.9, 0.1, 0.0, 0.0], -30.0);
    const MUSIC: ([f32; 4], f32) = ([0.1, 0.9, 0.0, 0.0], -30.0);
    const DOG: ([f32; 4], f32) = ([0.1, 0.0, 0.0, 0.9], -30.0);
    const ROOM: ([f32; 4], f32) = ([0.1, 0.1, 0.1, 0.1], -58.0);
    const UNKNOWN: ([f32; 4], f32) = ([0.1, 0.1, 0.0, 0.1], -25.0);
    const MUTED: ([f32; 4], f32) = ([0.9, 0.0, 0.0, 0.0], -110.0);

    fn labels() -> [Arc<str>; 4] {
        ["Speech", "Music", "Silence", "Dog"].map(Arc::from)
    }

    fn smoother() -> Content {
        assert!(Content::is_told_by(&labels()) && !Content::is_told_by(&labels()[1..]));
        Content::new(2.0, 0, &labels())
    }

    #[test]
    fn each_state_is_reached_and_reported_once() {
        let check = |row: ([f32; 4], f32), expected: &[&str]| {
            let mut content = smoother();
            assert_eq!(content.label(), "");
            let log = feed(&mut content, &[row; 20]);
            let names: Vec<&str> = log.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, expected, "{row:?}");
        };
        check(SPEECH, &["speech"]);
        check(MUSIC, &["music"]);
        check(DOG, &["environment"]);
        check(UNKNOWN, &["environment"]);
        check(ROOM, &[]);
        check(MUTED, &[]);
    }

    #[test]
    fn a_state_must_hold_before_it_counts() {
        let mut content = smoother();
        let mut rows = vec![SPEECH; 3];
        assert_eq!(feed(&mut content, &rows), [("speech".to_owned(), 2.0)]);
        assert_eq!(content.state(), Some(State::Speech));

        // A cough of half a second in speech changes nothing.
        rows = [vec![SPEECH; 8], vec![DOG], vec![SPEECH; 8]].concat();
        let mut content = smoother();
        assert_eq!(feed(&mut content, &rows).len(), 1);

        // Silence after speech is reported once the words have faded and it has held.
        rows = [vec![SPEECH; 8], vec![ROOM; 12]].concat();
        let mut content = smoother();
        let log = feed(&mut content, &rows);
        assert_eq!(log.len(), 2);
        assert_eq!(log[1].0, "silence");
        assert!(log[1].1 <= 8.5, "{log:?}");
    }

    #[test]
    fn scores_that_waver_do_not_flap() {
        let speech = ([0.52, 0.5, 0.0, 0.0], -30.0);
        let music = ([0.5, 0.52, 0.0, 0.0], -30.0);
        let rows: Vec<_> = (0..100)
            .map(|at| if at % 8 < 4 { speech } else { music })
            .collect();
        assert_eq!(feed(&mut smoother(), &rows).len(), 1);
    }
}
