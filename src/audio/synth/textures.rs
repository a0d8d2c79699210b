//! Sounds without a beginning: engines, rotors, saws, water, rain, wind, fans and plain noise.

use fastrand::Rng;

use super::parts::{
    Biquad, Colour, Mode, RATE, chance, drift, harmonics, log_range, modes, noise, pick, range,
    samples, tone,
};

/// An engine: firing pulses at 15 to 130 Hz that jitter, a slow change of speed, intake noise.
pub fn engine(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let hz = log_range(rng, 15.0, 130.0);
    let (jitter, swing) = (range(rng, 0.005, 0.05), range(rng, 0.0, 0.3));
    let mut out = pulses(rng, n, hz, jitter, swing);
    for _ in 0..3 {
        let (centre, q) = (log_range(rng, 60.0, 1_500.0), range(rng, 0.7, 4.0));
        Biquad::peak(centre, q, range(rng, 0.0, 12.0)).run(&mut out);
    }
    Biquad::low_pass(log_range(rng, 500.0, 5_000.0), 0.7).run(&mut out);
    let air = log_range(rng, 0.02, 0.5);
    breathe(rng, &mut out, hz, air);
    out
}

/// A helicopter: blades at 8 to 30 Hz as bursts of low noise over the whine of a turbine.
pub fn helicopter(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = noise(rng, n, Colour::Pink);
    Biquad::low_pass(log_range(rng, 300.0, 3_000.0), 0.7).run(&mut out);
    let (hz, sharp) = (log_range(rng, 8.0, 30.0), log_range(rng, 1.0, 8.0));
    let floor = range(rng, 0.05, 0.5);
    let gusts = drift(rng, n, 0.7);
    let mut phase = rng.f32();
    for (sample, gust) in out.iter_mut().zip(gusts) {
        phase = (phase + hz / RATE).fract();
        let blade = (0.5 + 0.5 * (std::f32::consts::TAU * phase).cos()).powf(sharp);
        *sample *= (floor + blade) * (1.0 + 0.3 * gust);
    }
    if chance(rng, 0.6) {
        let whine = log_range(rng, 400.0, 3_000.0);
        let level = log_range(rng, 0.01, 0.15);
        tone(&mut out, &[1.0, 0.5, 0.3], |_| whine, |_| level);
    }
    out
}

/// A chainsaw or another two-stroke tool: a fast, harsh engine that races and bogs down.
pub fn chainsaw(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let hz = log_range(rng, 60.0, 180.0);
    let (jitter, swing) = (range(rng, 0.01, 0.06), range(rng, 0.2, 0.8));
    let mut out = pulses(rng, n, hz, jitter, swing);
    for _ in 0..3 {
        let (centre, q) = (log_range(rng, 400.0, 5_000.0), range(rng, 0.7, 3.0));
        Biquad::peak(centre, q, range(rng, 3.0, 14.0)).run(&mut out);
    }
    let air = log_range(rng, 0.1, 0.6);
    breathe(rng, &mut out, hz, air);
    out
}

/// Pulses of a cylinder engine: a random spectrum of orders at `hz`, jittered in time by `jitter`
/// and drifting in speed by `swing`.
fn pulses(rng: &mut Rng, n: usize, hz: f32, jitter: f32, swing: f32) -> Vec<f32> {
    let mut out = vec![0.0; n];
    let slope = range(rng, 0.2, 1.0);
    let spectrum: Vec<f32> = harmonics(90, slope, 1.0)
        .into_iter()
        .map(|amplitude| amplitude * range(rng, 0.1, 1.0))
        .collect();
    let period = log_range(rng, 0.4, 4.0);
    let speed = drift(rng, n, period);
    let shake = drift(rng, n, 1.0 / hz);
    let uneven = drift(rng, n, 2.0 / hz);
    let mut at = 0;
    tone(
        &mut out,
        &spectrum,
        |_| {
            let now = hz * (1.0 + swing * speed[at] + jitter * shake[at]);
            at += 1;
            now
        },
        |_| 1.0,
    );
    for (sample, uneven) in out.iter_mut().zip(uneven) {
        *sample *= 1.0 + 0.3 * uneven;
    }
    out
}

/// Adds the breath of an engine: noise that comes and goes at `hz`.
fn breathe(rng: &mut Rng, out: &mut [f32], hz: f32, level: f32) {
    let mut air = noise(rng, out.len(), Colour::Pink);
    Biquad::high_pass(log_range(rng, 200.0, 2_000.0), 0.7).run(&mut air);
    let depth = rng.f32();
    for (at, (sample, air)) in out.iter_mut().zip(air).enumerate() {
        let turn = (std::f32::consts::TAU * hz * at as f32 / RATE).sin();
        *sample += level * air * (1.0 + depth * turn);
    }
}

/// Running water: a bed of noise with many small bubbles, each a chirp that rises as it shrinks.
pub fn water(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = noise(rng, n, Colour::White);
    let band = log_range(rng, 600.0, 4_500.0);
    Biquad::band_pass(band, range(rng, 0.3, 1.0)).run(&mut out);
    let period = log_range(rng, 0.05, 0.6);
    let flow = drift(rng, n, period);
    for (sample, flow) in out.iter_mut().zip(flow) {
        *sample *= 0.4 + 0.15 * flow;
    }
    let rate = log_range(rng, 8.0, 150.0);
    for _ in 0..(rate * seconds) as usize {
        let at = rng.usize(..n.max(1));
        let hz = log_range(rng, 400.0, 4_000.0);
        let t60 = 60.0 / hz;
        let gain = log_range(rng, 0.03, 0.8);
        let to = (at + samples(t60)).min(n);
        let rise = range(rng, 0.0, 8.0);
        tone(
            &mut out[at..to],
            &[1.0],
            |t| hz * (1.0 + rise * t),
            |t| gain * (-6.908 * t / t60).exp(),
        );
    }
    out
}

/// Rain: hiss, and drops on whatever is near.
pub fn rain(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = noise(rng, n, Colour::White);
    Biquad::high_pass(log_range(rng, 200.0, 2_000.0), 0.5).run(&mut out);
    Biquad::low_pass(log_range(rng, 3_000.0, 7_500.0), 0.5).run(&mut out);
    let bed = log_range(rng, 0.05, 1.0);
    let gusts = drift(rng, n, 1.0);
    for (sample, gust) in out.iter_mut().zip(gusts) {
        *sample *= bed * (1.0 + 0.2 * gust);
    }
    let rate = log_range(rng, 10.0, 500.0);
    for _ in 0..(rate * seconds) as usize {
        let drop = Mode {
            hz: log_range(rng, 800.0, 6_000.0),
            amp: log_range(rng, 0.05, 1.5),
            t60: log_range(rng, 0.002, 0.02),
        };
        let at = rng.usize(..n.max(1));
        modes(&mut out, rng, at, &[drop], 1.0);
    }
    out
}

/// Wind, or breath on a microphone: low noise in gusts, with a whistle at times.
pub fn wind(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = noise(rng, n, Colour::Brown);
    let mut high = noise(rng, n, Colour::Pink);
    let centre = log_range(rng, 250.0, 1_500.0);
    Biquad::band_pass(centre, log_range(rng, 0.5, 8.0)).run(&mut high);
    Biquad::low_pass(log_range(rng, 150.0, 1_500.0), 0.7).run(&mut out);
    let (period, whistle) = (log_range(rng, 0.3, 2.0), log_range(rng, 0.03, 0.6));
    let gusts = drift(rng, n, period);
    for (sample, (high, gust)) in out.iter_mut().zip(high.into_iter().zip(gusts)) {
        *sample = (*sample + whistle * high) * (1.0 + 0.9 * gust).powi(2);
    }
    out
}

/// A fan, an air conditioner or a computer: steady noise with a blade tone.
pub fn fan(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = steady_noise(rng, seconds);
    let hz = log_range(rng, 40.0, 500.0);
    let level = log_range(rng, 0.01, 1.0);
    let spectrum = harmonics(10, range(rng, 0.8, 2.0), 1.0);
    let wobble = drift(rng, n, 0.5);
    let mut at = 0;
    tone(
        &mut out,
        &spectrum,
        |_| {
            at += 1;
            hz * (1.0 + 0.003 * wobble[at - 1])
        },
        |_| level,
    );
    out
}

/// Noise of a random colour and band: rooms, lines, cheap microphones.
pub fn steady_noise(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let colour = *pick(rng, &[Colour::White, Colour::Pink, Colour::Brown]);
    let mut out = noise(rng, samples(seconds), colour);
    for _ in 0..rng.u32(..=2) {
        let (centre, q) = (log_range(rng, 100.0, 6_000.0), log_range(rng, 0.3, 3.0));
        Biquad::peak(centre, q, range(rng, -12.0, 12.0)).run(&mut out);
    }
    if chance(rng, 0.3) {
        Biquad::low_pass(log_range(rng, 300.0, 7_000.0), 0.7).run(&mut out);
    }
    out
}
