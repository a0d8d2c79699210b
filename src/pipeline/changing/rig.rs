//! A recogniser that is changed by hand: models that score tones, whose labels may be exchanged and whose
//! windows may be held up.

use std::f32::consts::TAU;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::clock::{PIPELINE_RATE_HZ, WallClock};
use crate::config::{KnownModel, RuleConfig, Seconds};
use crate::detect::{Engine, Rule};
use crate::event::{Event, Kind};
use crate::features::LogMel;
use crate::models::{Classifier, Input, ModelError, ModelInfo, Task};
use crate::pipeline::change::Roster;
use crate::pipeline::stats::Stats;
use crate::pipeline::{Derived, Factory, Parts, Recogniser, Standing, WindowStream, Windowed};

pub type Labels = Arc<[Arc<str>]>;

pub fn labels(names: &[&str]) -> Labels {
    names.iter().map(|name| Arc::from(*name)).collect()
}

/// A tone of amplitude 0.5 scores 1.
pub const AMPLITUDE: f32 = 0.5;

/// Scores labels such as `3k` by the amplitude at 3 kHz, `always` by 1; the labels may be exchanged.
pub struct Ear {
    info: ModelInfo,
    set: Arc<ArcSwap<Labels>>,
    given: Labels,
    asked: Arc<AtomicUsize>,
    busy: Arc<Mutex<()>>,
}

impl Classifier for Ear {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn classify(&mut self, window: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        drop(self.busy.lock().unwrap());
        self.given = Labels::clone(&self.set.load());
        scores.extend(self.given.iter().map(|label| match &**label {
            "always" => 1.0,
            label => {
                let khz: f32 = label.trim_end_matches('k').parse().unwrap();
                let (mut re, mut im) = (0.0_f32, 0.0_f32);
                for (n, sample) in window.iter().enumerate() {
                    let angle = TAU * khz * (n % 16) as f32 / 16.0;
                    re += sample * angle.cos();
                    im += sample * angle.sin();
                }
                (2.0 * re.hypot(im) / window.len() as f32 / AMPLITUDE).min(1.0)
            }
        }));
        Ok(())
    }

    fn labels(&self) -> Labels {
        self.given.clone()
    }
}

/// The test's end of an ear.
#[derive(Clone)]
pub struct Hold {
    pub set: Arc<ArcSwap<Labels>>,
    pub asked: Arc<AtomicUsize>,
    /// Whoever locks it keeps the model in the middle of its next window.
    pub busy: Arc<Mutex<()>>,
}

impl Hold {
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A model on windows of 1 s every half second.
pub fn ear(name: &str, kind: Kind, gated: bool, names: &[&str]) -> (Windowed, Hold) {
    let hold = Hold {
        set: Arc::new(ArcSwap::from_pointee(labels(names))),
        asked: Arc::default(),
        busy: Arc::default(),
    };
    let info = ModelInfo {
        name: name.into(),
        sha256: "00".into(),
        task: Task::Event,
        labels: Labels::default(),
        input: Input::Samples {
            rate_hz: PIPELINE_RATE_HZ,
        },
        window_frames: 100,
        parameters: 0,
        licence: "Apache-2.0".into(),
    };
    let make: Factory<dyn Classifier> = Arc::new({
        let hold = hold.clone();
        move || {
            Ok(Box::new(Ear {
                info: info.clone(),
                set: hold.set.clone(),
                given: Labels::default(),
                asked: hold.asked.clone(),
                busy: hold.busy.clone(),
            }))
        }
    });
    let model = Windowed {
        kind,
        gated,
        ..Windowed::load(make, None, None).unwrap()
    };
    hold.asked.store(0, Ordering::SeqCst);
    (model, hold)
}

/// Rules over every label of events and of prompts.
pub fn rules() -> Vec<RuleConfig> {
    [("sounds", Kind::Event), ("prompts", Kind::Prompt)]
        .map(|(name, kind)| RuleConfig {
            name: name.into(),
            kind,
            refractory: Seconds::ZERO,
            ..RuleConfig::default()
        })
        .to_vec()
}

/// Recognition without threads but those of the models, and all that it has reported.
pub struct Rig {
    pub recogniser: Recogniser,
    pub roster: Roster,
    pub stats: Arc<Stats>,
    pub log: Vec<Event>,
}

pub fn compile(rules: &[RuleConfig], known: &[KnownModel]) -> Engine {
    let rules = rules.iter().map(|rule| Rule::from_config(rule, &[]));
    Engine::new(rules.collect::<Result<_, _>>().unwrap(), known)
}

impl Rig {
    pub fn new(models: Vec<Windowed>) -> Rig {
        let start = |model| WindowStream::start(model).unwrap();
        let windows: Vec<WindowStream> = models.into_iter().map(start).collect();
        let roster = Roster::new(&windows);
        let stats = Arc::new(Stats::new("test", None, roster.stats()));
        Rig {
            recogniser: Recogniser::new(Parts {
                front: Box::new(LogMel::new()),
                keyword: None,
                windows,
                engine: compile(&rules(), &stats.known()),
                content: None,
                stats: stats.clone(),
                clock: WallClock::new(Instant::now()),
                complete: true,
            }),
            roster,
            stats,
            log: Vec::new(),
        }
    }

    pub fn play(&mut self, pcm: &[f32]) -> &mut Self {
        self.recogniser.push(pcm, &mut |event| self.log.push(event));
        self
    }

    pub fn finish(&mut self) -> &mut Self {
        self.recogniser.finish(&mut |event| self.log.push(event));
        self
    }

    /// The models as they are to be for `windows`.
    pub fn known(&self, windows: &[Standing]) -> Vec<KnownModel> {
        let now = self.stats.known();
        let kept = |name: &Arc<str>, kind: Kind| {
            let is_it = |model: &&KnownModel| model.name == *name && model.kind == kind;
            now.iter().find(is_it).cloned()
        };
        windows
            .iter()
            .map(|standing| match standing {
                Standing::New(model) => model.known(),
                Standing::Keep { name, kind, labels } => {
                    let kept = kept(name, *kind).unwrap_or_else(|| KnownModel {
                        kind: *kind,
                        name: name.clone(),
                        labels: Labels::default(),
                        thresholds: Arc::default(),
                    });
                    KnownModel {
                        labels: labels.clone().unwrap_or(kept.labels.clone()),
                        ..kept
                    }
                }
                Standing::Derived(derived) => KnownModel {
                    kind: derived.kind,
                    name: derived.name.clone(),
                    labels: derived.labels.clone(),
                    thresholds: Arc::default(),
                },
            })
            .collect()
    }

    pub fn change(&mut self, windows: Vec<Standing>) -> Result<&mut Self, String> {
        let engine = compile(&rules(), &self.known(&windows));
        let plan = self.roster.plan(windows, None, engine, None);
        let (roster, change) = plan.map_err(|error| error.to_string())?;
        self.stats.set_windows(roster.stats());
        self.roster = roster;
        self.recogniser
            .change(change, &mut |event| self.log.push(event));
        Ok(self)
    }

    /// Exchanges the labels of an ear.
    pub fn relabel(&mut self, name: &str, hold: &Hold, names: &[&str]) -> &mut Self {
        let new = labels(names);
        hold.set.store(Arc::new(new.clone()));
        let windows = self.roster.standing().into_iter();
        let windows = windows
            .map(|standing| match standing {
                Standing::Keep { name: own, .. } if *own == *name => keep(name, Some(new.clone())),
                other => other,
            })
            .collect();
        self.change(windows).unwrap()
    }

    /// Phase and label of what was reported since the last call.
    pub fn told(&mut self) -> Vec<String> {
        let log = std::mem::take(&mut self.log);
        let told = |event: Event| format!("{} {}", event.phase.as_str(), event.label);
        log.into_iter().map(told).collect()
    }

    /// The same in order of the alphabet.
    pub fn told_sorted(&mut self) -> Vec<String> {
        let mut told = self.told();
        told.sort();
        told
    }
}

/// A stream of these tests goes on.
pub fn keep(name: &str, labels: Option<Labels>) -> Standing {
    Standing::Keep {
        name: name.into(),
        kind: match name {
            "clap" | "by events" | "third" => Kind::Prompt,
            _ => Kind::Event,
        },
        labels,
    }
}

pub fn derived(of: &str, from: Vec<Vec<usize>>) -> Derived {
    Derived {
        name: "by events".into(),
        sha256: "11".into(),
        kind: Kind::Prompt,
        of: of.into(),
        labels: labels(&["beep", "any"]),
        from,
    }
}

/// A tone of `khz` kHz for some seconds; 0 is a quiet room.
pub fn tone(khz: u32, seconds: f32) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..(seconds * 16_000.0) as usize)
        .map(|n| match khz {
            // -71 dBFS: a quiet room, and yet one in which something could be made out.
            0 => 1e-3 * (random.f32() - 0.5),
            khz => AMPLITUDE * (TAU * khz as f32 * (n % 16) as f32 / 16.0).sin(),
        })
        .collect()
}
