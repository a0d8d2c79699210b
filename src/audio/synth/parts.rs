//! The parts that synthesised sounds are made of: oscillators without aliasing, noises, filters,
//! decaying modes, envelopes and a small reverberator. All run at the pipeline rate, forward from
//! one seeded generator, and none knows of any particular sound.

use fastrand::Rng;

use crate::clock::PIPELINE_RATE_HZ;

/// Samples a second, as the arithmetic here wants it.
pub const RATE: f32 = PIPELINE_RATE_HZ as f32;

/// Partials above this are left out: what a recording at the pipeline rate could not hold.
const TOP_HZ: f32 = 0.49 * RATE;

/// Samples in `seconds`, at least 0.
pub fn samples(seconds: f32) -> usize {
    (seconds.max(0.0) * RATE).round() as usize
}

/// Uniform in `low..high`.
pub fn range(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.f32()
}

/// Log-uniform in `low..high`: for frequencies and times, where ratios matter. Both above 0.
pub fn log_range(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low * (high / low).powf(rng.f32())
}

/// True with probability `p`.
pub fn chance(rng: &mut Rng, p: f32) -> bool {
    rng.f32() < p
}

/// One of a table.
pub fn pick<'a, T>(rng: &mut Rng, table: &'a [T]) -> &'a T {
    &table[rng.usize(..table.len())]
}

/// Amplitudes of the harmonics 1, 2, 3, ... of a tone.
pub type Spectrum = Vec<f32>;

/// `count` harmonics that fall as `1 / k^slope`; the even ones weighted by `even` (0: a square or
/// triangle, 1: a saw).
pub fn harmonics(count: usize, slope: f32, even: f32) -> Spectrum {
    (1..=count)
        .map(|k| {
            let weight = if k % 2 == 0 { even } else { 1.0 };
            weight * (k as f32).powf(-slope)
        })
        .collect()
}

/// Adds a tone to `out`: at the time `t` in seconds its frequency is `hz(t)` and its amplitude
/// `amp(t)`. Harmonics that would alias are left out sample by sample.
pub fn tone(
    out: &mut [f32],
    spectrum: &[f32],
    mut hz: impl FnMut(f32) -> f32,
    mut amp: impl FnMut(f32) -> f32,
) {
    let mut phase = 0.0f32;
    for (at, sample) in out.iter_mut().enumerate() {
        let t = at as f32 / RATE;
        let f = hz(t).clamp(0.1, TOP_HZ);
        phase = (phase + f / RATE).fract();
        let level = amp(t);
        if level != 0.0 {
            *sample += level * partials(phase, f, spectrum);
        }
    }
}

/// The sum of the harmonics at one phase, by turning a unit vector once a harmonic.
fn partials(phase: f32, hz: f32, spectrum: &[f32]) -> f32 {
    let (sin, cos) = (phase * std::f32::consts::TAU).sin_cos();
    let (mut s, mut c) = (sin, cos);
    let mut sum = 0.0;
    let room = (TOP_HZ / hz) as usize;
    for &amplitude in &spectrum[..spectrum.len().min(room)] {
        sum += amplitude * s;
        (s, c) = (s * cos + c * sin, c * cos - s * sin);
    }
    sum
}

/// A gate from `from` to `to` seconds with ramps of `ramp` seconds inside it.
pub fn gate(t: f32, from: f32, to: f32, ramp: f32) -> f32 {
    if t < from || t >= to {
        return 0.0;
    }
    let ramp = ramp.max(1e-4);
    ((t - from) / ramp).min((to - t) / ramp).clamp(0.0, 1.0)
}

/// A linear attack followed by an exponential decay to -60 dB in `t60` seconds; 0 before 0.
pub fn strike(t: f32, attack: f32, t60: f32) -> f32 {
    if t < 0.0 {
        0.0
    } else if t < attack {
        t / attack
    } else {
        (-6.908 * (t - attack) / t60).exp()
    }
}

/// Adds `source` to `out` from sample `at` on, times `gain`; what stands out at the end is dropped.
pub fn add(out: &mut [f32], source: &[f32], at: usize, gain: f32) {
    for (sample, &value) in out.iter_mut().skip(at).zip(source) {
        *sample += gain * value;
    }
}

/// A mode of a body that was struck.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Frequency in hertz; not heard above the band.
    pub hz: f32,
    /// Amplitude at the strike.
    pub amp: f32,
    /// Seconds to -60 dB.
    pub t60: f32,
}

/// Adds decaying modes to `out` from sample `at` on, each with a random phase.
pub fn modes(out: &mut [f32], rng: &mut Rng, at: usize, modes: &[Mode], gain: f32) {
    for mode in modes {
        let phase = rng.f32() * std::f32::consts::TAU;
        if mode.hz >= TOP_HZ || at >= out.len() {
            continue;
        }
        // x[n] = 2 r cos(w) x[n-1] - r^2 x[n-2] rings at w and loses 60 dB in t60 seconds.
        let w = std::f32::consts::TAU * mode.hz / RATE;
        let r = (-6.908 / (mode.t60.max(1e-3) * RATE)).exp();
        let (a, b) = (2.0 * r * w.cos(), r * r);
        let level = gain * mode.amp;
        let (mut now, mut before) = (level * phase.sin(), level * (phase - w).sin() / r);
        let length = samples(mode.t60 * 1.2).min(out.len() - at);
        for sample in &mut out[at..at + length] {
            *sample += now;
            (now, before) = (a * now - b * before, now);
        }
    }
}

/// The colour of a noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// Flat.
    White,
    /// -3 dB an octave.
    Pink,
    /// -6 dB an octave.
    Brown,
}

/// `n` samples of noise of about unit variance.
pub fn noise(rng: &mut Rng, n: usize, colour: Colour) -> Vec<f32> {
    let mut b = [0.0f32; 3];
    (0..n)
        .map(|_| {
            // Two uniforms make a triangular density of variance 1: near enough to normal here.
            let white = (rng.f32() + rng.f32() - 1.0) * 2.449;
            match colour {
                Colour::White => white,
                // Paul Kellet's economy filter, within 0.5 dB of pink over the band.
                Colour::Pink => {
                    b[0] = 0.99765 * b[0] + white * 0.099046;
                    b[1] = 0.963 * b[1] + white * 0.2965164;
                    b[2] = 0.57 * b[2] + white * 1.0526913;
                    0.55 * (b[0] + b[1] + b[2] + white * 0.1848)
                }
                Colour::Brown => {
                    b[0] = 0.995 * b[0] + 0.1 * white;
                    b[0]
                }
            }
        })
        .collect()
}

/// A second-order filter (Bristow-Johnson's Audio EQ Cookbook), transposed direct form II.
#[derive(Debug, Clone, Copy)]
pub struct Biquad {
    b: [f32; 3],
    a: [f32; 2],
    z: [f32; 2],
}

impl Biquad {
    fn new(b: [f32; 3], a: [f32; 3]) -> Biquad {
        Biquad {
            b: b.map(|value| value / a[0]),
            a: [a[1] / a[0], a[2] / a[0]],
            z: [0.0; 2],
        }
    }

    fn angle(hz: f32, q: f32) -> (f32, f32) {
        let w = std::f32::consts::TAU * hz.clamp(5.0, TOP_HZ) / RATE;
        (w.cos(), w.sin() / (2.0 * q.max(0.05)))
    }

    /// Passes what is below `hz`.
    pub fn low_pass(hz: f32, q: f32) -> Biquad {
        let (cos, alpha) = Biquad::angle(hz, q);
        let edge = (1.0 - cos) / 2.0;
        Biquad::new(
            [edge, 1.0 - cos, edge],
            [1.0 + alpha, -2.0 * cos, 1.0 - alpha],
        )
    }

    /// Passes what is above `hz`.
    pub fn high_pass(hz: f32, q: f32) -> Biquad {
        let (cos, alpha) = Biquad::angle(hz, q);
        let edge = f32::midpoint(1.0, cos);
        Biquad::new(
            [edge, -1.0 - cos, edge],
            [1.0 + alpha, -2.0 * cos, 1.0 - alpha],
        )
    }

    /// Passes what is about `hz`, with unit gain there.
    pub fn band_pass(hz: f32, q: f32) -> Biquad {
        let (cos, alpha) = Biquad::angle(hz, q);
        Biquad::new([alpha, 0.0, -alpha], [1.0 + alpha, -2.0 * cos, 1.0 - alpha])
    }

    /// Lifts what is about `hz` by `gain_db`.
    pub fn peak(hz: f32, q: f32, gain_db: f32) -> Biquad {
        let (cos, alpha) = Biquad::angle(hz, q);
        let a = 10.0f32.powf(gain_db / 40.0);
        Biquad::new(
            [1.0 + alpha * a, -2.0 * cos, 1.0 - alpha * a],
            [1.0 + alpha / a, -2.0 * cos, 1.0 - alpha / a],
        )
    }

    /// One sample.
    pub fn step(&mut self, x: f32) -> f32 {
        let y = self.b[0] * x + self.z[0];
        self.z[0] = self.b[1] * x - self.a[0] * y + self.z[1];
        self.z[1] = self.b[2] * x - self.a[1] * y;
        y
    }

    /// A whole signal in place.
    pub fn run(mut self, signal: &mut [f32]) {
        for sample in signal {
            *sample = self.step(*sample);
        }
    }
}

/// A slow random walk in about `-1.0..=1.0` that turns over in `period_s` seconds, one value a
/// sample: wind, wow, gusts.
pub fn drift(rng: &mut Rng, n: usize, period_s: f32) -> Vec<f32> {
    let step = samples(period_s).max(1);
    let mut from = range(rng, -1.0, 1.0);
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let to = range(rng, -1.0, 1.0);
        for at in 0..step.min(n - out.len()) {
            let x = at as f32 / step as f32;
            let smooth = x * x * (3.0 - 2.0 * x);
            out.push(from + (to - from) * smooth);
        }
        from = to;
    }
    out
}

/// A room: early reflections and Schroeder's four combs with two all-passes, `t60` seconds to
/// -60 dB, mixed in at `wet`.
pub fn room(rng: &mut Rng, signal: &mut [f32], t60: f32, wet: f32) {
    let dry = signal.to_vec();
    let mut tail = vec![0.0; signal.len()];
    for _ in 0..6 {
        let delay = samples(range(rng, 0.002, 0.03));
        let gain = range(rng, -0.5, 0.5);
        for at in delay..dry.len() {
            tail[at] += gain * dry[at - delay];
        }
    }
    let damping = range(rng, 0.1, 0.6);
    for _ in 0..4 {
        let delay = samples(range(rng, 0.025, 0.055));
        let feedback = 10.0f32.powf(-3.0 * delay as f32 / RATE / t60);
        let mut line = vec![0.0; delay];
        let mut low = 0.0f32;
        for (at, &x) in dry.iter().enumerate() {
            let back = line[at % delay];
            low = back + damping * (low - back);
            line[at % delay] = x + feedback * low;
            tail[at] += 0.25 * back;
        }
    }
    for delay in [80, 27] {
        let mut line = vec![0.0; delay];
        for (at, sample) in tail.iter_mut().enumerate() {
            let back = line[at % delay];
            let into = *sample + 0.6 * back;
            line[at % delay] = into;
            *sample = back - 0.6 * into;
        }
    }
    for (sample, late) in signal.iter_mut().zip(tail) {
        *sample += wet * late;
    }
}

/// Scales a signal to a peak of `peak`; silence stays silence.
pub fn normalise(signal: &mut [f32], peak: f32) {
    let highest = signal.iter().fold(0.0f32, |high, x| high.max(x.abs()));
    if highest > 0.0 && highest.is_finite() {
        let gain = peak / highest;
        signal.iter_mut().for_each(|x| *x *= gain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power_at(signal: &[f32], hz: f32) -> f32 {
        let (mut re, mut im) = (0.0f64, 0.0f64);
        for (at, &x) in signal.iter().enumerate() {
            let angle = std::f64::consts::TAU * f64::from(hz) * at as f64 / f64::from(RATE);
            re += f64::from(x) * angle.cos();
            im += f64::from(x) * angle.sin();
        }
        let n = signal.len() as f64;
        (2.0 * (re * re + im * im).sqrt() / n) as f32
    }

    #[test]
    fn a_tone_has_its_harmonics_and_no_aliases() {
        let mut out = vec![0.0; 16_000];
        tone(&mut out, &harmonics(8, 1.0, 1.0), |_| 3_000.0, |_| 1.0);
        assert!((power_at(&out, 3_000.0) - 1.0).abs() < 0.01);
        assert!((power_at(&out, 6_000.0) - 0.5).abs() < 0.01);
        assert!(power_at(&out, 7_000.0) < 1e-3, "9 kHz must not fold");
    }

    #[test]
    fn a_mode_rings_at_its_frequency_and_dies_in_its_time() {
        let mut out = vec![0.0; 16_000];
        let mode = Mode {
            hz: 1_000.0,
            amp: 1.0,
            t60: 0.5,
        };
        modes(&mut out, &mut Rng::with_seed(1), 0, &[mode], 1.0);
        let peak = |part: &[f32]| part.iter().fold(0.0f32, |high, x| high.max(x.abs()));
        assert!((peak(&out[..100]) - 1.0).abs() < 0.1);
        let half = peak(&out[4_000..4_100]);
        assert!((half - 0.0316).abs() < 0.005, "{half} at half of t60");
        assert!(power_at(&out[..1_600], 1_000.0) > 5.0 * power_at(&out[..1_600], 1_300.0));
    }

    #[test]
    fn filters_keep_their_band() {
        let gain = |filter: Biquad, hz: f32| {
            let mut out = vec![0.0; 8_000];
            tone(&mut out, &[1.0], |_| hz, |_| 1.0);
            filter.run(&mut out);
            power_at(&out[4_000..], hz)
        };
        assert!(gain(Biquad::low_pass(1_000.0, 0.7), 100.0) > 0.95);
        assert!(gain(Biquad::low_pass(1_000.0, 0.7), 4_000.0) < 0.1);
        assert!(gain(Biquad::high_pass(1_000.0, 0.7), 100.0) < 0.05);
        assert!((gain(Biquad::band_pass(1_000.0, 5.0), 1_000.0) - 1.0).abs() < 0.02);
        assert!((gain(Biquad::peak(1_000.0, 1.0, 6.0), 1_000.0) - 1.995).abs() < 0.05);
    }

    #[test]
    fn noises_have_their_slope() {
        let slope = |colour| {
            let out = noise(&mut Rng::with_seed(3), 160_000, colour);
            let band = |hz| {
                let mut part = out.clone();
                Biquad::band_pass(hz, 2.0).run(&mut part);
                part.iter().map(|x| x * x).sum::<f32>()
            };
            // At a constant Q the band widens with the frequency: +3 dB an octave by itself.
            10.0 * (band(2_000.0) / band(500.0)).log10() / 2.0 - 3.0
        };
        for (colour, expected) in [
            (Colour::White, 0.0),
            (Colour::Pink, -3.0),
            (Colour::Brown, -6.0),
        ] {
            let db = slope(colour);
            assert!((db - expected).abs() < 1.0, "{colour:?}: {db} dB an octave");
        }
    }
}
