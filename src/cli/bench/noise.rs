//! Made-up sound for measurements: noise with a syllable's rhythm and a tone now and then, so that
//! no stage is spared work by silence.

use std::f32::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::audio::ring::PcmWriter;
use crate::audio::{AudioError, Format, Health, PERIOD, Running, Source};

/// An endless, reproducible sound.
pub(super) struct Noise {
    rate_hz: f32,
    channels: usize,
    random: fastrand::Rng,
    frame: u64,
}

impl Noise {
    /// Interleaved sound of `channels` equal channels.
    pub fn new(rate_hz: u32, channels: u16) -> Self {
        Noise {
            rate_hz: rate_hz as f32,
            channels: usize::from(channels.max(1)),
            random: fastrand::Rng::with_seed(7),
            frame: 0,
        }
    }

    /// Writes the next samples.
    pub fn fill(&mut self, out: &mut [f32]) {
        for frame in out.chunks_mut(self.channels) {
            let time = self.frame as f32 / self.rate_hz;
            let syllable = 0.1 + 0.1 * (TAU * 4.0 * time).sin();
            let tone = if time % 2.0 < 0.5 { 0.2 } else { 0.0 };
            let value = syllable * (self.random.f32() * 2.0 - 1.0)
                + tone * (TAU * 700.0 * (time % 1.0)).sin();
            frame.fill(value);
            self.frame += 1;
        }
    }
}

/// A source that delivers as a microphone does: 48 kHz stereo, a period at a time.
pub(super) fn source() -> Box<dyn Source> {
    Box::new(Paced)
}

struct Paced;

/// Periods after which the sound begins anew (3 s).
const PERIODS: usize = 50;

const FORMAT: Format = Format {
    rate_hz: 48_000,
    channels: 2,
};

impl Source for Paced {
    fn name(&self) -> &str {
        "made-up"
    }

    fn format(&self) -> Format {
        FORMAT
    }

    fn start(self: Box<Self>, mut out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        // Made beforehand, so that making it is not measured.
        let period = FORMAT.rate_hz as usize * PERIOD.as_millis() as usize / 1000 * 2;
        let mut pcm = vec![0.0; period * PERIODS];
        Noise::new(FORMAT.rate_hz, FORMAT.channels).fill(&mut pcm);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let deliver = move || {
            let mut due = Instant::now();
            for block in pcm.chunks_exact(period).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                due += PERIOD;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                out.write(block);
            }
        };
        thread::Builder::new()
            .name("hark-bench".into())
            .spawn(deliver)
            .map_err(|error| AudioError::Device(format!("cannot start a thread: {error}")))?;
        Ok(Box::new(Delivering(stop)))
    }
}

struct Delivering(Arc<AtomicBool>);

impl Running for Delivering {
    fn health(&mut self) -> Health {
        Health::Running
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
