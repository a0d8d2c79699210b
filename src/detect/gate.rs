//! The gate before dear models: whether anything in a window stands out from the room.
//!
//! Two signs count, each with the time of its last showing:
//!
//! - *level*: 100 ms are over the noise floor by a margin. The floor is that of the level meter, the
//!   lowest of ten seconds, so that a noise which goes on is the floor itself after a while;
//! - *novelty*: the scores of a cheap event model have moved from their slow average. This finds a new
//!   sound under a steady noise that is as loud, which the level cannot.
//!
//! Where neither has shown lately the room is as it was, and a model that is asked about it again would
//! say what it said before. Who is asked, and how long a sign counts, is the pipeline's to decide; so
//! is what an unasked window means.

use super::content::DEAD_DBFS;
use crate::clock::SampleIdx;

/// How far 100 ms of sound rise over the noise floor to stand out, in dB. Over two seconds, steady
/// noise reaches 1 dB (white), 2 dB (pink) and 6 dB (brown down to 40 Hz) over the lowest of the last
/// ten, a running tap 3 dB; somebody who does the dishes lies at a median of 11 dB.
const MARGIN_DB: f32 = 9.0;
/// Time constant of the slow averages, in samples (10 s): that of the noise floor, so that a steady
/// sound stops standing out by both signs at about the same time.
const SLOW: f32 = 160_000.0;
/// How far a score moves from its average to be new, beside what it usually wavers. Scores of small
/// models on a steady noise stay within 0.1 to 0.2.
const MOVED: f32 = 0.25;

/// What has stood out, and when. A pure function of levels and observations.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// By model that tells what is new.
    averages: Vec<Averages>,
    /// End of the newest 100 ms that stood out, or of the newest window with something new in it.
    stood_out: Option<SampleIdx>,
    /// End of the newest 100 ms in which anything could be made out.
    audible: Option<SampleIdx>,
}

/// Slow averages of the scores of one model.
#[derive(Debug, Clone)]
struct Averages {
    mean: Vec<f32>,
    /// Mean absolute deviation from it.
    deviation: Vec<f32>,
    /// End of the last observation.
    end: Option<SampleIdx>,
}

impl Gate {
    /// A gate that has heard nothing, for models with so many labels each; none tells nothing new.
    pub fn new(labels: impl IntoIterator<Item = usize>) -> Self {
        let averages = |labels: usize| Averages {
            mean: vec![0.0; labels],
            deviation: vec![0.0; labels],
            end: None,
        };
        Gate {
            averages: labels.into_iter().map(averages).collect(),
            ..Gate::default()
        }
    }

    /// Goes on where `old` stood; model `n` here was `from[n]` there, with the same labels. Others
    /// begin anew.
    pub fn carry_over(&mut self, old: Gate, from: impl IntoIterator<Item = Option<usize>>) {
        self.stood_out = old.stood_out;
        self.audible = old.audible;
        let mut known: Vec<Option<Averages>> = old.averages.into_iter().map(Some).collect();
        for (averages, from) in self.averages.iter_mut().zip(from) {
            let before = from.and_then(|from| known.get_mut(from)?.take());
            if let Some(before) = before.filter(|old| old.mean.len() == averages.mean.len()) {
                *averages = before;
            }
        }
    }

    /// Takes the level of the 100 ms that end at `end` and the noise floor, in dBFS. Real-time safe.
    pub fn hear(&mut self, end: SampleIdx, level_dbfs: f32, noise_floor_dbfs: f32) {
        if level_dbfs > DEAD_DBFS {
            self.audible = Some(end);
        }
        // Below what can be made out there is no floor to stand out from.
        if level_dbfs >= noise_floor_dbfs.max(DEAD_DBFS) + MARGIN_DB {
            self.stood_out = Some(end);
        }
    }

    /// Takes the scores of a model over a window that ends at `end`; a score that is missing or not a
    /// number counts as 0. The first one tells what is usual. Real-time safe.
    pub fn note(&mut self, model: usize, end: SampleIdx, scores: &[f32]) {
        let Some(averages) = self.averages.get_mut(model) else {
            return;
        };
        if averages.end.is_some_and(|before| end <= before) {
            return;
        }
        let weight = match averages.end {
            None => 1.0,
            Some(before) => 1.0 - (-((end.0 - before.0) as f32) / SLOW).exp(),
        };
        let mut is_new = false;
        let slow = averages.mean.iter_mut().zip(&mut averages.deviation);
        for (at, (mean, deviation)) in slow.enumerate() {
            let score = scores.get(at).copied().unwrap_or(0.0);
            let score = if score.is_nan() { 0.0 } else { score };
            let moved = (score - *mean).abs();
            if averages.end.is_none() {
                *mean = score;
                continue;
            }
            is_new |= moved >= MOVED + *deviation;
            *mean += weight * (score - *mean);
            *deviation += weight * (moved - *deviation);
        }
        averages.end = Some(end);
        if is_new {
            self.stood_out = self.stood_out.max(Some(end));
        }
    }

    /// Whether anything has stood out that ends at `from` or later. What a model says of a window comes
    /// after windows of the same end were handed over, so that it counts for those that follow.
    pub fn stood_out_since(&self, from: SampleIdx) -> bool {
        self.stood_out.is_some_and(|end| end >= from)
    }

    /// Whether anything could be made out at `from` or later: below that, whatever a model says is of nothing.
    pub fn is_audible_since(&self, from: SampleIdx) -> bool {
        self.audible.is_some_and(|end| end >= from)
    }

    /// Forgets what has stood out, as after a gap; what is usual stays, for the room is the same.
    pub fn reset(&mut self) {
        self.stood_out = None;
        self.audible = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::LevelMeter;

    /// A room that is heard by the hop of 10 ms, and by an event model of two labels twice a second.
    struct Room {
        gate: Gate,
        meter: LevelMeter,
        random: fastrand::Rng,
        at: SampleIdx,
    }

    impl Room {
        fn new() -> Self {
            Room {
                gate: Gate::new([2]),
                meter: LevelMeter::new(),
                random: fastrand::Rng::with_seed(7),
                at: SampleIdx(0),
            }
        }

        /// White noise of this level for a time; gives whether anything stood out in each half second.
        fn hear(&mut self, level_dbfs: f32, seconds: f64, scores: [f32; 2]) -> Vec<bool> {
            // Uniform noise of amplitude 1 has a mean square of 1/3.
            let amplitude = 10_f32.powf(level_dbfs / 20.0) * 3_f32.sqrt();
            (0..(seconds * 2.0) as usize)
                .map(|_| {
                    let from = self.at;
                    for _ in 0..50 {
                        let noise = || (self.random.f32() * 2.0 - 1.0) * amplitude;
                        let hop: Vec<f32> = std::iter::repeat_with(noise).take(160).collect();
                        self.meter.push(&hop);
                        self.at = self.at + 160;
                        let (level, floor) =
                            (self.meter.level_dbfs(), self.meter.noise_floor_dbfs());
                        self.gate.hear(self.at, level, floor);
                    }
                    self.gate.note(0, self.at, &scores);
                    self.gate.stood_out_since(from)
                })
                .collect()
        }
    }

    const QUIET: [f32; 2] = [0.02, 0.1];

    #[test]
    fn a_quiet_room_does_not_stand_out_and_a_sound_in_it_does() {
        let mut room = Room::new();
        // In the first 100 ms there is no floor yet.
        room.hear(-60.0, 0.5, QUIET);
        assert_eq!(room.hear(-60.0, 20.0, QUIET), [false; 40]);
        assert_eq!(room.hear(-40.0, 0.5, QUIET), [true]);
        let after = room.hear(-60.0, 5.0, QUIET);
        assert!(after[1..].iter().all(|open| !open), "{after:?}");
    }

    #[test]
    fn a_steady_noise_stands_out_until_it_is_the_floor() {
        let mut room = Room::new();
        room.hear(-60.0, 15.0, QUIET);
        let noise = room.hear(-30.0, 30.0, [0.02, 0.3]);
        assert!(
            noise[..18].iter().all(|open| *open),
            "nine seconds: {noise:?}"
        );
        assert!(noise[24..].iter().all(|open| !open), "twelve on: {noise:?}");
    }

    #[test]
    fn something_new_under_a_steady_noise_is_found_by_its_scores() {
        let mut room = Room::new();
        room.hear(-30.0, 40.0, QUIET);
        assert_eq!(room.hear(-30.0, 0.5, QUIET), [false]);
        let new = room.hear(-29.0, 30.0, [0.8, 0.1]);
        assert!(new[..6].iter().all(|open| *open), "three seconds: {new:?}");
        assert!(new[30..].iter().all(|open| !open), "15 s on: {new:?}");
        let gone = room.hear(-30.0, 2.0, QUIET);
        assert!(gone[0], "what is missing is new too: {gone:?}");
    }

    #[test]
    fn scores_that_always_waver_are_not_new() {
        let mut room = Room::new();
        for turn in 0..120 {
            let high = if turn % 2 == 0 { 0.9 } else { 0.3 };
            let open = room.hear(-50.0, 0.5, [high, 0.0]);
            assert!(turn < 40 || !open[0], "turn {turn}");
        }
    }

    #[test]
    fn nothing_is_made_out_below_the_dead_level() {
        let mut room = Room::new();
        assert_eq!(room.hear(-120.0, 5.0, QUIET), [false; 10]);
        // 30 dB over nothing is still nothing.
        assert_eq!(room.hear(-90.0, 5.0, QUIET), [false; 10]);
        assert!(!room.gate.is_audible_since(SampleIdx(0)));
        let from = room.at;
        room.hear(-60.0, 0.5, QUIET);
        assert!(room.gate.is_audible_since(from));
        room.gate.reset();
        assert!(!room.gate.is_audible_since(from));
        assert!(!room.gate.stood_out_since(from));
    }

    #[test]
    fn what_is_usual_is_carried_over_for_models_that_stay() {
        let mut room = Room::new();
        room.hear(-30.0, 40.0, QUIET);
        let mut next = Gate::new([3, 2]);
        next.carry_over(std::mem::take(&mut room.gate), [None, Some(0)]);
        let from = room.at;
        next.note(0, from + 8_000, &[0.9, 0.9, 0.9]);
        next.note(1, from + 8_000, &QUIET);
        assert!(!next.stood_out_since(from), "the first has no usual yet");
        next.note(1, from + 16_000, &[0.9, 0.1]);
        assert!(next.stood_out_since(from + 8_000));
        assert!(!next.stood_out_since(from + 16_001));
    }

    proptest! {
        #[test]
        fn scores_of_any_kind_do_no_harm(
            rows in prop::collection::vec((0_u64..50_000, prop::collection::vec(
                prop_oneof![0.0_f32..1.0, Just(f32::NAN)], 0..4)), 1..50),
        ) {
            let mut gate = Gate::new([2]);
            for (end, scores) in &rows {
                gate.note(0, SampleIdx(*end), scores);
                gate.note(1, SampleIdx(*end), scores);
                let averages = &gate.averages[0];
                prop_assert!(averages.mean.iter().all(|mean| (0.0..=1.0).contains(mean)));
                prop_assert!(averages.deviation.iter().all(|dev| (0.0..=1.0).contains(dev)));
            }
        }
    }
}
