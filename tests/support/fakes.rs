//! Fakes for tests of the whole path: a front end that hears tones, models that answer to them, and
//! a source that does what it is told.

use std::collections::VecDeque;
use std::f32::consts::TAU;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use harkd::audio::ring::PcmWriter;
use harkd::audio::{AudioError, Format, Health, Running, Source};
use harkd::clock::SampleIdx;
use harkd::features::{Frontend, HOP, N_MELS};
use harkd::models::{Classifier, ModelError, ModelInfo, Spotter, Task};

/// Band `k` of a frame is the amplitude at `k` kHz over its 10 ms, for `k` in 1 to 7.
#[derive(Default)]
pub struct Tones {
    held: Vec<f32>,
    at: u64,
}

impl Frontend for Tones {
    fn push(&mut self, pcm: &[f32], emit: &mut dyn FnMut(SampleIdx, &[f32])) {
        for &sample in pcm {
            self.held.push(sample);
            if self.held.len() == HOP {
                let mut frame = [0.0; N_MELS];
                for (khz, band) in frame.iter_mut().enumerate().take(8).skip(1) {
                    let (mut re, mut im) = (0.0, 0.0);
                    for (n, sample) in self.held.iter().enumerate() {
                        let angle = TAU * khz as f32 * n as f32 / 16.0;
                        re += sample * angle.cos();
                        im += sample * angle.sin();
                    }
                    *band = 2.0 * re.hypot(im) / HOP as f32;
                }
                self.held.clear();
                self.at += HOP as u64;
                emit(SampleIdx(self.at), &frame);
            }
        }
    }

    fn reset(&mut self, at: SampleIdx) {
        self.held.clear();
        self.at = at.0;
    }
}

/// Full scale of the fakes: a tone of this amplitude scores 1.
pub const AMPLITUDE: f32 = 0.5;

fn info(name: &str, task: Task, labels: &[&str]) -> ModelInfo {
    ModelInfo {
        name: name.into(),
        sha256: "00".repeat(32).into(),
        task,
        labels: labels.iter().map(|label| Arc::from(*label)).collect(),
        input: harkd::models::Input::LogMel,
        window_frames: 100,
        parameters: 0,
        licence: "Apache-2.0".into(),
    }
}

/// Labels of the default configuration, so that its rules hold for the fakes.
const WORDS: [&str; 14] = [
    "_silence_",
    "yes",
    "no",
    "up",
    "down",
    "left",
    "right",
    "on",
    "off",
    "stop",
    "go",
    "computer",
    "jarvis",
    "alexa",
];

/// Hears "yes" in 1 kHz and "no" in 2 kHz.
pub struct Words(ModelInfo);

impl Words {
    pub fn make() -> Result<Box<dyn Spotter>, ModelError> {
        Ok(Box::new(Words(info("fake-words", Task::Keyword, &WORDS))))
    }
}

impl Spotter for Words {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn step(&mut self, frame: &[f32], scores: &mut [f32]) {
        scores.fill(0.0);
        scores[1] = (frame[1] / AMPLITUDE).min(1.0);
        scores[2] = (frame[2] / AMPLITUDE).min(1.0);
        scores[0] = 1.0 - scores[1].max(scores[2]);
    }

    fn reset(&mut self) {}
}

/// The label that [`Sounds`] gives to 3 kHz.
pub const ALARM: &str = "Smoke detector, smoke alarm";

/// Hears an alarm in 3 kHz, speech in 4 kHz and music in 5 kHz; 6 kHz breaks it.
pub struct Sounds(ModelInfo);

impl Sounds {
    pub fn make(labels: &[String]) -> Result<Box<dyn Classifier>, ModelError> {
        let mut all = vec![ALARM, "Speech", "Music"];
        all.extend(
            labels
                .iter()
                .map(String::as_str)
                .filter(|label| *label != ALARM),
        );
        Ok(Box::new(Sounds(info("fake-sounds", Task::Event, &all))))
    }
}

impl Classifier for Sounds {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn classify(&mut self, frames: &[f32], scores: &mut Vec<f32>) -> Result<(), ModelError> {
        let count = (frames.len() / N_MELS).max(1) as f32;
        let mean = |khz: usize| {
            let sum: f32 = frames.iter().skip(khz).step_by(N_MELS).sum();
            (sum / count / AMPLITUDE).min(1.0)
        };
        if mean(6) > 0.5 {
            return Err(ModelError::Shape("6 kHz is more than it can take".into()));
        }
        if mean(7) > 0.5 {
            panic!("7 kHz");
        }
        scores.clear();
        scores.resize(self.0.labels.len(), 0.0);
        scores[0] = mean(3);
        scores[1] = mean(4);
        scores[2] = mean(5);
        Ok(())
    }
}

/// A tone of `khz` kHz, or silence at 0, for `seconds` at 16 kHz.
pub fn tone(khz: u32, seconds: f32) -> Vec<f32> {
    (0..(seconds * 16_000.0) as usize)
        .map(|n| match khz {
            // Not digital silence, which a muted device would give.
            0 => 1e-4 * ((n % 7) as f32 - 3.0),
            khz => AMPLITUDE * (TAU * khz as f32 * n as f32 / 16.0).sin(),
        })
        .collect()
}

/// What a test tells a source.
pub enum Do {
    /// Write these samples, waiting for room.
    Play(Vec<f32>),
    /// Report native frames as lost.
    Lose(u64),
    /// Fail as an unplugged device does.
    Fail,
    /// End as a file does.
    End,
}

/// Stands for a device that can be there or not, and is told what to do.
#[derive(Clone, Default)]
pub struct Device(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    present: bool,
    orders: VecDeque<Receiver<Do>>,
    opened: usize,
    dropped: usize,
    attempts: usize,
}

impl Device {
    /// A device that is there; what is sent is done by the source that is opened next.
    pub fn plug(&self) -> Sender<Do> {
        let (tell, orders) = bounded(16);
        let mut state = self.0.state.lock().unwrap();
        state.present = true;
        state.orders.push_back(orders);
        tell
    }

    /// The device is gone until it is plugged again.
    pub fn unplug(&self) {
        self.0.state.lock().unwrap().present = false;
    }

    /// Waits until it was opened, and dropped again, so often.
    pub fn wait(&self, opened: usize, dropped: usize) {
        self.wait_for(|state| state.opened >= opened && state.dropped >= dropped);
    }

    /// Waits until somebody has tried to open it so often.
    pub fn wait_attempts(&self, attempts: usize) {
        self.wait_for(|state| state.attempts >= attempts);
    }

    /// How often it was opened, and closed again.
    pub fn counts(&self) -> (usize, usize) {
        let state = self.0.state.lock().unwrap();
        (state.opened, state.dropped)
    }

    fn wait_for(&self, ready: impl Fn(&State) -> bool) {
        let state = self.0.state.lock().unwrap();
        let (state, late) = self
            .0
            .changed
            .wait_timeout_while(state, crate::follow::PATIENCE, |state| !ready(state))
            .unwrap();
        assert!(
            !late.timed_out(),
            "opened {}, dropped {}, attempts {}",
            state.opened,
            state.dropped,
            state.attempts
        );
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.0.state.lock().unwrap());
        self.0.changed.notify_all();
        result
    }

    /// Opens it, as the pipeline does.
    pub fn open(&self) -> Result<Box<dyn Source>, AudioError> {
        self.change(|state| {
            state.attempts += 1;
            match state.present.then(|| state.orders.pop_front()).flatten() {
                Some(orders) => Ok(Box::new(Told {
                    device: self.clone(),
                    orders,
                }) as Box<dyn Source>),
                None => Err(AudioError::Device("no device; plug one in".into())),
            }
        })
    }
}

struct Told {
    device: Device,
    orders: Receiver<Do>,
}

impl Source for Told {
    fn name(&self) -> &str {
        "told"
    }

    fn format(&self) -> Format {
        Format {
            rate_hz: 16_000,
            channels: 1,
        }
    }

    fn start(self: Box<Self>, mut out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let Told { device, orders } = *self;
        let (tell, health) = unbounded();
        device.change(|state| state.opened += 1);
        thread::spawn(move || {
            for order in &orders {
                match order {
                    Do::Play(pcm) => {
                        if !out.write_blocking(&pcm) {
                            return;
                        }
                    }
                    Do::Lose(frames) => out.lost(frames),
                    Do::Fail => {
                        let gone = AudioError::Device("the device has gone".into());
                        tell.send(Health::Failed(gone)).unwrap();
                        return;
                    }
                    Do::End => {
                        drop(out);
                        tell.send(Health::Ended).unwrap();
                        return;
                    }
                }
            }
        });
        Ok(Box::new(Playing {
            device,
            health,
            ended: false,
        }))
    }
}

struct Playing {
    device: Device,
    health: Receiver<Health>,
    ended: bool,
}

impl Running for Playing {
    fn health(&mut self) -> Health {
        match self.health.try_recv() {
            Ok(Health::Ended) => {
                self.ended = true;
                Health::Ended
            }
            Ok(health) => health,
            Err(_) if self.ended => Health::Ended,
            Err(_) => Health::Running,
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.device.change(|state| state.dropped += 1);
    }
}
