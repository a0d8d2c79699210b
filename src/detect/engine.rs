//! Runs the rules over observations and reports decisions.
//!
//! Order: within one observation, rules in their own order and labels in the rule's order. The
//! order of labels in a model changes nothing, and neither does which model answers first. Nothing
//! is allocated after the start.
//!
//! - A *hit* is an observation at or over the threshold that the level gate and the vetoes let
//!   pass, outside the refractory time. A rule fires on a hit when `hits` of the last `of`
//!   consecutive observations were hits.
//! - An episode starts with the first of those hits and ends with the last observation at or over
//!   release, once the score has stayed below release for `hold`. Episodes of one label and rule
//!   never overlap, and `refractory` lies between them.
//! - A keyword is an instant. It fires again after the refractory time, and not before its score
//!   was below release once.
//! - A veto keeps rules from starting; it ends nothing.

use std::sync::Arc;

use super::rule::Rule;
use super::track::{Open, Seen, Step, Track};
use super::tracks::{Told, Witness};
use super::{Decision, Observation};
use crate::clock::SampleIdx;
use crate::config::KnownModel;
use crate::event::Phase;

/// How long the last scores of another model may keep a rule from starting, in samples (3 s, or the
/// length of its windows): a model that has stopped answering must not silence the others.
const VETO_MEMORY: u64 = 48_000;

/// The decision engine. A pure function of its rules, models and observations.
#[derive(Debug)]
pub struct Engine {
    pub(super) rules: Vec<Rule>,
    /// By rule, and within a rule by model.
    pub(super) watches: Vec<Watch>,
    pub(super) models: Vec<KnownModel>,
    /// By model.
    pub(super) streams: Vec<Stream>,
    pub(super) next_episode: u64,
    /// Observations that end at or before this were made of sound before a gap.
    pub(super) resumed_at: SampleIdx,
    pub(super) witness: Option<Witness>,
}

/// The newest observation of one model.
#[derive(Debug)]
pub(super) struct Stream {
    pub scores: Vec<f32>,
    pub end: Option<SampleIdx>,
    /// Length of the newest observation in samples.
    pub len: u64,
}

/// The labels that a rule watches in one model, with their state.
#[derive(Debug)]
pub(super) struct Watch {
    /// Index of the rule.
    pub rule: usize,
    pub stream: usize,
    pub tracks: Vec<Track>,
    vetoes: Vec<Veto>,
    /// Observations since the start or since sound was interrupted.
    pub turn: u64,
    /// Starts of the last `of` observations, by turn.
    pub starts: Vec<SampleIdx>,
    /// Scores of the same, `(of, tracks)`.
    pub recent: Vec<f32>,
    /// Unsmoothed scores of the last observations, `(smooth, tracks)`.
    pub raw: Vec<f32>,
    /// Observations that start earlier fall to another keyword of this rule.
    pub locked_until: SampleIdx,
}

/// Where a vetoing label stands among the last scores.
#[derive(Debug, Clone, Copy)]
struct Veto {
    stream: usize,
    index: usize,
}

impl Engine {
    /// An engine that has heard nothing of `models`; observations name them by their place here.
    pub fn new(rules: Vec<Rule>, models: &[KnownModel]) -> Self {
        let mut watches = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let position = |stream: usize, label: &Arc<str>| {
                let labels = &models.get(stream)?.labels;
                let index = labels.iter().position(|name| name == label)?;
                Some(Veto { stream, index })
            };
            let vetoes: Vec<Veto> = rule
                .veto
                .iter()
                .flat_map(|label| (0..models.len()).filter_map(move |s| position(s, label)))
                .collect();
            for (stream, positions) in rule.positions(models).into_iter().enumerate() {
                if !positions.is_empty() {
                    let tracks = positions
                        .into_iter()
                        .map(|(label, index)| {
                            let own = models[stream].thresholds.get(index).copied().flatten();
                            Track::new(rule, label, index, own)
                        })
                        .collect();
                    watches.push(Watch::new(rule, at, stream, tracks, vetoes.clone()));
                }
            }
        }
        Engine {
            rules,
            watches,
            models: models.to_vec(),
            streams: models
                .iter()
                .map(|model| Stream {
                    scores: vec![0.0; model.labels.len()],
                    end: None,
                    len: 0,
                })
                .collect(),
            next_episode: 0,
            resumed_at: SampleIdx(0),
            witness: None,
        }
    }

    /// Lets `witness` see everything that the engine is told from now on.
    pub fn set_witness(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    fn tell(&mut self, told: Told<'_>) {
        if let Some(witness) = &mut self.witness {
            witness.see(told);
        }
    }

    /// The rules in their order, with the thresholds in force.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The models whose observations it takes, in the order of their numbers.
    pub fn models(&self) -> &[KnownModel] {
        &self.models
    }

    /// Whether an episode of this model has started and not ended. Allocates nothing.
    pub fn has_open(&self, stream: usize) -> bool {
        self.watches
            .iter()
            .filter(|watch| watch.stream == stream)
            .flat_map(|watch| &watch.tracks)
            .any(|track| track.open.is_some())
    }

    /// Episodes that have started and not ended.
    pub fn open_episodes(&self) -> usize {
        self.watches
            .iter()
            .flat_map(|watch| &watch.tracks)
            .filter(|track| track.open.is_some())
            .count()
    }

    /// Takes one observation and reports what follows from it. Real-time safe.
    ///
    /// Observations of one model arrive in the order of their ends; one that is not newer than the
    /// last of its model, or that ends before the last [`Engine::close`], is ignored, as one of a
    /// model that the engine does not know is. A score that is missing or not a number counts as 0.
    pub fn observe(&mut self, seen: &Observation<'_>, emit: &mut dyn FnMut(Decision)) {
        self.tell(Told::Seen(seen));
        let Some(stream) = self.streams.get_mut(seen.stream) else {
            return;
        };
        let stale = stream.end.is_some_and(|end| seen.end <= end);
        if stale || seen.end <= self.resumed_at {
            return;
        }
        stream.end = Some(seen.end);
        stream.len = seen.end.0.saturating_sub(seen.start.0);
        for (at, slot) in stream.scores.iter_mut().enumerate() {
            *slot = match seen.scores.get(at) {
                Some(score) if !score.is_nan() => score.clamp(0.0, 1.0),
                _ => 0.0,
            };
        }
        for watch in &mut self.watches {
            if watch.stream == seen.stream {
                let rule = &self.rules[watch.rule];
                watch.observe(rule, seen, &self.streams, &mut self.next_episode, emit);
            }
        }
    }

    /// Interrupts everything at a gap, a pause or the end: every open episode ends, confirmations
    /// and smoothing begin anew, and observations that end at or before `at` are ignored from now
    /// on. Refractory times go on.
    pub fn close(&mut self, at: SampleIdx, emit: &mut dyn FnMut(Decision)) {
        self.tell(Told::Closed(at));
        self.resumed_at = self.resumed_at.max(at);
        for stream in &mut self.streams {
            stream.end = None;
        }
        for watch in &mut self.watches {
            watch.interrupt(&self.rules[watch.rule], emit);
        }
    }

    /// Interrupts what comes from one model at `at`, for it has failed: its open episodes end, its
    /// confirmations begin anew, and its last scores veto nothing any more.
    pub fn close_stream(&mut self, stream: usize, at: SampleIdx, emit: &mut dyn FnMut(Decision)) {
        self.tell(Told::StreamClosed(stream, at));
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.end = stream.end.max(Some(at));
            stream.scores.fill(0.0);
        }
        for watch in &mut self.watches {
            if watch.stream == stream {
                watch.interrupt(&self.rules[watch.rule], emit);
            }
        }
    }

    /// Sets the threshold of a rule; its release threshold keeps the same ratio, and labels with a
    /// threshold of their own keep theirs.
    ///
    /// # Errors
    /// When no rule has the name, or the threshold is not in `0.0..=1.0`; the text says what is
    /// allowed.
    pub fn set_threshold(&mut self, rule: &str, threshold: f32) -> Result<(), String> {
        if !(threshold > 0.0 && threshold <= 1.0) {
            return Err(format!(
                "threshold {threshold} is out of range; use over 0 to 1"
            ));
        }
        let Some(at) = self.rules.iter().position(|known| *known.name == *rule) else {
            let names: Vec<&str> = self.rules().map(|rule| rule.name.as_ref()).collect();
            return Err(format!(
                "there is no rule '{rule}'; the rules are {}",
                names.join(", ")
            ));
        };
        let rule = &mut self.rules[at];
        rule.threshold = threshold;
        for watch in self.watches.iter_mut().filter(|watch| watch.rule == at) {
            for track in &mut watch.tracks {
                track.set_thresholds(rule);
            }
        }
        Ok(())
    }
}

impl Watch {
    fn new(rule: &Rule, at: usize, stream: usize, tracks: Vec<Track>, vetoes: Vec<Veto>) -> Self {
        Watch {
            rule: at,
            stream,
            vetoes,
            turn: 0,
            starts: vec![SampleIdx(0); rule.of as usize],
            recent: vec![0.0; tracks.len() * rule.of as usize],
            raw: vec![0.0; tracks.len() * rule.smooth],
            locked_until: SampleIdx(0),
            tracks,
        }
    }

    fn observe(
        &mut self,
        rule: &Rule,
        seen: &Observation<'_>,
        streams: &[Stream],
        next_episode: &mut u64,
        emit: &mut dyn FnMut(Decision),
    ) {
        let tracks = self.tracks.len();
        let of = u64::from(rule.of);
        let row = (self.turn % of) as usize;
        let raw_row = (self.turn % rule.smooth as u64) as usize;
        let scores = &streams[self.stream].scores;
        // A comparison with NaN fails, so a gate holds against an unknown level.
        let gate = rule.min_level_db == f32::NEG_INFINITY || seen.level_dbfs >= rule.min_level_db;
        let vetoed = self.vetoes.iter().any(|veto| {
            let other = &streams[veto.stream];
            let memory = other.len.max(VETO_MEMORY);
            other.scores[veto.index] >= rule.veto_threshold
                && other
                    .end
                    .is_some_and(|end| seen.end.0.saturating_sub(end.0) <= memory)
        });
        self.starts[row] = seen.start;
        for at in 0..tracks {
            let track = &mut self.tracks[at];
            self.raw[raw_row * tracks + at] = scores[track.index];
            // Summed anew each time, so rounding cannot pile up; before the first `smooth`
            // observations the missing ones count as 0.
            let sum: f32 = self.raw.iter().skip(at).step_by(tracks).sum();
            let score = sum / rule.smooth as f32;
            self.recent[row * tracks + at] = score;
            let allowed = gate && !vetoed && seen.start >= self.locked_until;
            let step = track.step(
                rule,
                Seen {
                    score,
                    start: seen.start,
                    end: seen.end,
                    allowed,
                },
            );
            match step {
                Step::Quiet => {}
                Step::Ended(open) => emit(decision(rule, seen.stream, track, Phase::End, open)),
                Step::Confirmed { back } => {
                    let first = self.turn - u64::from(back);
                    let peak = (first..=self.turn)
                        .map(|turn| self.recent[(turn % of) as usize * tracks + at])
                        .fold(score, f32::max);
                    let open = Open {
                        episode: *next_episode,
                        start: self.starts[(first % of) as usize],
                        end: seen.end,
                        peak,
                        score,
                    };
                    *next_episode += 1;
                    if rule.is_instant() {
                        track.fired(rule, seen.end);
                        self.locked_until = seen.end + rule.lockout;
                        emit(decision(rule, seen.stream, track, Phase::Instant, open));
                    } else {
                        track.open = Some(open);
                        emit(decision(rule, seen.stream, track, Phase::Start, open));
                    }
                }
            }
        }
        self.turn += 1;
    }

    pub fn interrupt(&mut self, rule: &Rule, emit: &mut dyn FnMut(Decision)) {
        self.turn = 0;
        self.raw.fill(0.0);
        for track in &mut self.tracks {
            if let Some(open) = track.interrupt(rule) {
                emit(decision(rule, self.stream, track, Phase::End, open));
            }
        }
    }
}

fn decision(rule: &Rule, stream: usize, track: &Track, phase: Phase, open: Open) -> Decision {
    Decision {
        phase,
        kind: rule.kind,
        stream,
        rule: Arc::clone(&rule.name),
        label: Arc::clone(&track.label),
        episode: open.episode,
        score: open.score,
        threshold: track.threshold,
        start: open.start,
        end: (phase != Phase::Start).then_some(open.end),
        peak: open.peak,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Confirm, RuleConfig, Seconds};
    use crate::event::Kind;

    /// A model called after its first label.
    fn model(kind: Kind, labels: &[&str]) -> KnownModel {
        KnownModel {
            kind,
            name: labels[0].to_lowercase().into(),
            labels: labels.iter().map(|name| Arc::from(*name)).collect(),
            thresholds: Arc::default(),
        }
    }

    /// An event model.
    fn sounds(labels: &[&str]) -> KnownModel {
        model(Kind::Event, labels)
    }

    fn rule(kind: Kind, labels: &[&str]) -> RuleConfig {
        RuleConfig {
            name: "r".to_owned(),
            kind,
            labels: labels.iter().map(ToString::to_string).collect(),
            smooth: (kind == Kind::Keyword).then_some(Seconds::ZERO),
            refractory: Seconds::ZERO,
            ..RuleConfig::default()
        }
    }

    fn engine(rules: &[RuleConfig], models: &[KnownModel]) -> Engine {
        Engine::new(Rule::all_from_config(rules, models).unwrap(), models)
    }

    /// Feeds windows of 1 s that do not overlap, the first one at `from_s`; gives phase, label and
    /// times in seconds.
    fn feed(
        engine: &mut Engine,
        stream: usize,
        from_s: u64,
        rows: &[&[f32]],
    ) -> Vec<(&'static str, String, u64, Option<u64>)> {
        let mut log = Vec::new();
        for (at, scores) in (from_s..).zip(rows) {
            let seen = Observation {
                stream,
                start: SampleIdx(at * 16_000),
                end: SampleIdx((at + 1) * 16_000),
                scores,
                level_dbfs: -40.0,
            };
            engine.observe(&seen, &mut |decision| {
                assert_eq!(decision.stream, stream);
                log.push(plain(&decision));
            });
        }
        log
    }

    fn plain(decision: &Decision) -> (&'static str, String, u64, Option<u64>) {
        (
            decision.phase.as_str(),
            decision.label.to_string(),
            decision.start.0 / 16_000,
            decision.end.map(|end| end.0 / 16_000),
        )
    }

    #[test]
    fn two_of_three_starts_with_the_first_hit() {
        let rules = [RuleConfig {
            confirm: Confirm { hits: 2, of: 3 },
            ..rule(Kind::Event, &["Dog"])
        }];
        let mut engine = engine(&rules, &[sounds(&["Dog"])]);
        let rows: [&[f32]; 7] = [&[0.6], &[0.1], &[0.1], &[0.7], &[0.0], &[0.6], &[0.1]];
        assert_eq!(
            feed(&mut engine, 0, 0, &rows),
            [
                ("start", "Dog".into(), 3, None),
                ("end", "Dog".into(), 3, Some(6)),
            ]
        );
    }

    #[test]
    fn hold_bridges_the_pauses_of_an_alarm() {
        let config = rule(Kind::Event, &["Alarm"]);
        let rows: [&[f32]; 6] = [&[0.9], &[0.0], &[0.0], &[0.9], &[0.0], &[0.0]];
        let episodes = |hold: f64| {
            let rules = [RuleConfig {
                hold: Seconds::new(hold).unwrap(),
                ..config.clone()
            }];
            let mut engine = engine(&rules, &[sounds(&["Alarm"])]);
            let log = feed(&mut engine, 0, 0, &rows);
            log.iter().filter(|decision| decision.0 == "start").count()
        };
        assert_eq!(episodes(0.0), 2);
        assert_eq!(episodes(2.0), 1);
    }

    #[test]
    fn another_model_vetoes_until_it_is_too_old() {
        let config = RuleConfig {
            veto: vec!["Music".into()],
            veto_threshold: 0.7,
            ..rule(Kind::Keyword, &["go"])
        };
        let fires_at = |music: f32, word_at: u64| {
            let models = [
                model(Kind::Keyword, &["go"]),
                sounds(&["Music"]),
                sounds(&["Dog", "Music"]),
            ];
            let mut engine = engine(std::slice::from_ref(&config), &models);
            // Every model that has the label is looked at, whichever answers.
            feed(&mut engine, 2, 0, &[&[0.0, music]]);
            !feed(&mut engine, 0, word_at, &[&[0.9]]).is_empty()
        };
        assert!(fires_at(0.69, 0), "under the veto threshold");
        assert!(!fires_at(0.7, 0), "at the veto threshold");
        assert!(!fires_at(1.0, 3), "three seconds old");
        assert!(fires_at(1.0, 4), "four seconds old");
    }

    #[test]
    fn a_veto_ends_nothing() {
        let rules = [RuleConfig {
            veto: vec!["Music".into()],
            ..rule(Kind::Event, &["Dog"])
        }];
        let mut engine = engine(&rules, &[sounds(&["Dog", "Music"])]);
        let log = feed(&mut engine, 0, 0, &[&[0.9, 0.0], &[0.9, 0.9]]);
        assert_eq!(log, [("start", "Dog".into(), 0, None)]);
        assert_eq!(engine.open_episodes(), 1);
    }

    #[test]
    fn a_quiet_sound_does_not_pass_the_gate() {
        let starts = |min_level_db: Option<f32>| {
            let rules = [RuleConfig {
                min_level_db,
                ..rule(Kind::Event, &["Dog"])
            }];
            let mut engine = engine(&rules, &[sounds(&["Dog"])]);
            feed(&mut engine, 0, 0, &[&[0.9]]).len()
        };
        assert_eq!(starts(None), 1);
        assert_eq!(starts(Some(-40.0)), 1);
        assert_eq!(starts(Some(-39.0)), 0);
    }

    #[test]
    fn smoothing_takes_the_mean_of_frames() {
        // 40 ms are four observations: the third full score makes a mean of 0.75.
        let rules = [RuleConfig {
            smooth: Seconds::new(0.04),
            threshold: 0.75,
            ..rule(Kind::Keyword, &["go"])
        }];
        let mut engine = engine(&rules, &[model(Kind::Keyword, &["go"])]);
        let log = feed(&mut engine, 0, 0, &[&[1.0], &[1.0], &[1.0], &[1.0]]);
        assert_eq!(log, [("instant", "go".into(), 2, Some(3))]);
    }

    #[test]
    fn one_utterance_fires_one_word() {
        let words = |lockout: f64| {
            let rules = [RuleConfig {
                lockout: Seconds::new(lockout),
                ..rule(Kind::Keyword, &["no", "go"])
            }];
            let mut engine = engine(&rules, &[model(Kind::Keyword, &["no", "go"])]);
            let rows: [&[f32]; 3] = [&[0.9, 0.0], &[0.0, 0.9], &[0.9, 0.0]];
            let log = feed(&mut engine, 0, 0, &rows);
            log.into_iter()
                .map(|decision| decision.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(words(0.0), ["no", "go", "no"]);
        assert_eq!(words(1.0), ["no", "no"]);
    }

    #[test]
    fn a_label_of_two_models_belongs_to_the_first_or_to_the_one_that_is_named() {
        let models = [
            model(Kind::Keyword, &["Dog", "go"]),
            sounds(&["Cat", "Dog"]),
            sounds(&["Dog", "Owl"]),
        ];
        let answers = |labels: &[&str], named: Option<&str>| {
            let rules = [RuleConfig {
                model: named.map(str::to_owned),
                ..rule(Kind::Event, labels)
            }];
            let mut engine = engine(&rules, &models);
            // The second answers first.
            let mut log = feed(&mut engine, 2, 0, &[&[0.9, 0.9]]);
            log.extend(feed(&mut engine, 1, 0, &[&[0.9, 0.9]]));
            log.extend(feed(&mut engine, 0, 0, &[&[0.9, 0.9]]));
            log.into_iter()
                .map(|decision| decision.1)
                .collect::<Vec<_>>()
        };
        assert_eq!(answers(&["Dog"], None), ["Dog"]);
        assert_eq!(answers(&["Dog", "Owl"], None), ["Owl", "Dog"]);
        assert_eq!(answers(&[], None), ["Owl", "Cat", "Dog"]);
        assert_eq!(answers(&[], Some("dog")), ["Dog", "Owl"]);
        assert_eq!(answers(&["Dog"], Some("cat")), ["Dog"]);
        let config = RuleConfig {
            model: Some("bat".into()),
            ..rule(Kind::Event, &["Dog"])
        };
        let error = Rule::from_config(&config, &models).unwrap_err().to_string();
        assert!(error.contains("no model 'bat' runs"), "{error}");
        assert!(error.ends_with("those that do: cat, dog"), "{error}");
        let config = RuleConfig {
            model: Some("cat".into()),
            ..rule(Kind::Event, &["Owl"])
        };
        let error = Rule::from_config(&config, &models).unwrap_err().to_string();
        assert!(
            error.contains("labels.0: no model has the label 'Owl'"),
            "{error}"
        );
    }

    #[test]
    fn sound_from_before_a_gap_is_ignored() {
        let mut engine = engine(&[rule(Kind::Event, &["Dog"])], &[sounds(&["Dog"])]);
        let rows: [&[f32]; 1] = [&[0.9]];
        feed(&mut engine, 0, 0, &rows);
        let mut log = Vec::new();
        engine.close(SampleIdx(48_000), &mut |decision| {
            log.push(plain(&decision))
        });
        assert_eq!(log, [("end", "Dog".into(), 0, Some(1))]);
        assert!(feed(&mut engine, 0, 2, &rows).is_empty());
        assert_eq!(feed(&mut engine, 0, 3, &rows).len(), 1);
        assert!(feed(&mut engine, 0, 3, &rows).is_empty(), "the same again");
    }

    #[test]
    fn a_model_that_fails_ends_its_own_episodes_alone() {
        let rules = [
            rule(Kind::Event, &["Dog"]),
            RuleConfig {
                name: "words".to_owned(),
                confirm: Confirm { hits: 2, of: 2 },
                veto: vec!["Dog".into()],
                ..rule(Kind::Keyword, &["go"])
            },
        ];
        let mut engine = engine(&rules, &[model(Kind::Keyword, &["go"]), sounds(&["Dog"])]);
        let hit: [&[f32]; 1] = [&[0.6]];
        assert!(feed(&mut engine, 0, 0, &hit).is_empty());
        feed(&mut engine, 1, 0, &[&[0.9]]);
        let mut log = Vec::new();
        engine.close_stream(1, SampleIdx(16_000), &mut |decision| {
            log.push(plain(&decision));
        });
        assert_eq!(log, [("end", "Dog".into(), 0, Some(1))]);
        assert_eq!(
            feed(&mut engine, 0, 1, &hit).len(),
            1,
            "the word goes on being confirmed, and the dead model vetoes nothing"
        );
        assert_eq!(feed(&mut engine, 1, 1, &[&[0.9]]).len(), 1);
    }

    #[test]
    fn a_threshold_can_be_set_while_running() {
        let rules = [RuleConfig {
            thresholds: [("Cat".to_owned(), 0.4)].into(),
            ..rule(Kind::Event, &["Dog", "Cat"])
        }];
        let mut engine = engine(&rules, &[sounds(&["Dog", "Cat"])]);
        let rows: [&[f32]; 1] = [&[0.6, 0.0]];
        engine.set_threshold("r", 0.7).unwrap();
        assert!(feed(&mut engine, 0, 0, &rows).is_empty());
        engine.set_threshold("r", 0.6).unwrap();
        assert_eq!(feed(&mut engine, 0, 1, &rows).len(), 1);
        let rule = engine.rules().next().unwrap();
        assert_eq!((rule.threshold(), rule.threshold_of("Cat")), (0.6, 0.4));
        assert!((rule.release_of("Cat") - 0.3).abs() < 1e-6);
        let check = |rule: &str, threshold: f32, part: &str| {
            let error = engine_error(rule, threshold);
            assert!(error.contains(part), "{error}");
        };
        check("x", 0.5, "the rules are r");
        check("r", 0.0, "over 0 to 1");
        check("r", 1.1, "over 0 to 1");
        check("r", f32::NAN, "over 0 to 1");
    }

    fn engine_error(name: &str, threshold: f32) -> String {
        let mut engine = engine(&[rule(Kind::Event, &["Dog"])], &[sounds(&["Dog"])]);
        engine.set_threshold(name, threshold).unwrap_err()
    }

    #[test]
    fn a_rule_with_an_unknown_label_is_refused() {
        let known = [sounds(&["Smoke detector, smoke alarm", "Dog"])];
        let config = rule(Kind::Event, &["Dogs"]);
        let error = Rule::from_config(&config, &known).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rule 'r': labels.0: no model has the label 'Dogs'; did you mean 'Dog'?"
        );
    }
}
