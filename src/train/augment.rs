//! What happens to a clip on its way to a microphone, at random: speed, level, colour, echoes,
//! noise at a signal-to-noise ratio; and SpecAugment on the frames.
//!
//! Every function draws from the given generator alone, so that a seed repeats an example bit for
//! bit. SpecAugment after Park et al. (2019); vocal-tract-length perturbation after Jaitly and
//! Hinton (2013), as a linear warp of the mel axis.

use fastrand::Rng;

pub use crate::audio::synth::parts::{chance, range as uniform};
use crate::features::N_MELS;

/// A factor from decibels of amplitude.
pub fn from_db(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

/// Root mean square; zero for nothing.
pub fn rms(pcm: &[f32]) -> f32 {
    (pcm.iter().map(|x| x * x).sum::<f32>() / pcm.len().max(1) as f32).sqrt()
}

/// Plays `pcm` `factor` times as fast, pitch and all, by cubic interpolation.
pub fn speed(pcm: &[f32], factor: f32) -> Vec<f32> {
    let len = (pcm.len() as f32 / factor) as usize;
    let at = |i: isize| {
        pcm.get(i.clamp(0, pcm.len() as isize - 1) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    (0..len)
        .map(|n| {
            let position = n as f64 * f64::from(factor);
            let (i, t) = (position as isize, position.fract() as f32);
            let (a, b, c, d) = (at(i - 1), at(i), at(i + 1), at(i + 2));
            // Catmull-Rom spline through the four samples around.
            b + 0.5
                * t
                * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))
        })
        .collect()
}

/// The stretch of `pcm` that holds sound: from the first to the last 10 ms block within `below_db`
/// of the loudest one.
pub fn active_region(pcm: &[f32], below_db: f32) -> std::ops::Range<usize> {
    const BLOCK: usize = 160;
    let levels: Vec<f32> = pcm.chunks(BLOCK).map(rms).collect();
    let gate = levels.iter().copied().fold(0.0, f32::max) * from_db(-below_db);
    let first = levels.iter().position(|&level| level >= gate).unwrap_or(0);
    let last = levels.iter().rposition(|&level| level >= gate).unwrap_or(0);
    first * BLOCK..((last + 1) * BLOCK).min(pcm.len())
}

/// A stretch of `len` samples: a random one of a longer sound, or the sound at a random place
/// between zeros.
pub fn crop_or_pad(rng: &mut Rng, pcm: &[f32], len: usize) -> Vec<f32> {
    if pcm.len() >= len {
        let from = rng.usize(0..=pcm.len() - len);
        return pcm[from..from + len].to_vec();
    }
    let mut out = vec![0.0; len];
    let at = rng.usize(0..=len - pcm.len());
    out[at..at + pcm.len()].copy_from_slice(pcm);
    out
}

/// A stretch of `len` samples, the sound repeated where it is shorter.
pub fn crop_or_loop(rng: &mut Rng, pcm: &[f32], len: usize) -> Vec<f32> {
    if pcm.is_empty() {
        return vec![0.0; len];
    }
    let from = rng.usize(0..pcm.len().saturating_sub(len).max(1));
    pcm.iter().cycle().skip(from).take(len).copied().collect()
}

/// Adds `noise` to `signal` so that `snr_db` stands between the level of `reference` (the part of
/// the signal that counts) and that of the noise. Silent parts change nothing.
pub fn add_at_snr(signal: &mut [f32], reference: f32, noise: &[f32], snr_db: f32) {
    let level = rms(noise);
    if level > 1e-7 && reference > 1e-7 {
        let gain = reference / level * from_db(-snr_db);
        signal
            .iter_mut()
            .zip(noise)
            .for_each(|(s, n)| *s += gain * n);
    }
}

/// Noise of a random colour between white and brown, at full-scale level 0.1.
pub fn coloured_noise(rng: &mut Rng, len: usize) -> Vec<f32> {
    let pole = uniform(rng, 0.0, 1.0).sqrt() * 0.995;
    let mut state = 0.0;
    let mut out: Vec<f32> = (0..len)
        .map(|_| {
            state = pole * state + (rng.f32() * 2.0 - 1.0);
            state
        })
        .collect();
    let gain = 0.1 / rms(&out).max(1e-9);
    out.iter_mut().for_each(|x| *x *= gain);
    out
}

/// A microphone's and room's colour: a random tilt, at times a missing bottom or top.
pub fn colour(rng: &mut Rng, pcm: &mut [f32]) {
    let tilt = uniform(rng, -0.6, 0.8);
    one_pole(pcm, 0.75, |x, low| x + tilt * low);
    if chance(rng, 0.3) {
        let pole = uniform(rng, 0.90, 0.985);
        one_pole(pcm, pole, |x, low| x - low);
    }
    if chance(rng, 0.3) {
        let pole = uniform(rng, 0.1, 0.6);
        one_pole(pcm, pole, |_, low| low);
    }
}

/// Runs a one-pole low-pass along and lets `mix` combine sample and low-passed sample.
fn one_pole(pcm: &mut [f32], pole: f32, mix: impl Fn(f32, f32) -> f32) {
    let mut low = 0.0;
    for x in pcm {
        low = pole * low + (1.0 - pole) * *x;
        *x = mix(*x, low);
    }
}

/// A room: sparse early reflections and a decaying tail of up to 0.4 s.
pub fn echo(rng: &mut Rng, pcm: &mut [f32]) {
    let dry = pcm.to_vec();
    let decay_s = uniform(rng, 0.05, 0.4);
    let strength = uniform(rng, 0.1, 0.7);
    for _ in 0..rng.usize(12..40) {
        let delay_s = uniform(rng, 0.002, decay_s);
        let sign = if rng.bool() { 1.0 } else { -1.0 };
        let gain = sign * strength * 0.5 * (-3.0 * delay_s / decay_s).exp();
        let delay = (delay_s * 16_000.0) as usize;
        if delay < pcm.len() {
            pcm[delay..]
                .iter_mut()
                .zip(&dry)
                .for_each(|(x, d)| *x += gain * d);
        }
    }
}

/// Sets the level so that the loudest sample stands at `peak_db` below full scale, where there is one.
pub fn set_peak(pcm: &mut [f32], peak_db: f32) {
    let peak = pcm.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    if peak > 1e-7 {
        let gain = from_db(peak_db) / peak;
        pcm.iter_mut().for_each(|x| *x *= gain);
    }
}

/// Rounds to what 16 bits hold, full scale clipped.
pub fn quantise(pcm: &mut [f32]) {
    pcm.iter_mut()
        .for_each(|x| *x = (*x * 32_767.0).round().clamp(-32_768.0, 32_767.0) / 32_768.0);
}

/// How hard SpecAugment works.
#[derive(Debug, Clone, Copy)]
pub struct SpecAugment {
    /// Time masks of up to so many frames.
    pub time: (usize, usize),
    /// Frequency masks of up to so many bands.
    pub freq: (usize, usize),
    /// The mel axis is stretched by up to this share.
    pub warp: f32,
}

/// Warps and masks frames `(frames, N_MELS)` in place; masks take the mean of the example.
pub fn spec_augment(rng: &mut Rng, how: &SpecAugment, frames: &mut [f32]) {
    let mean = frames.iter().sum::<f32>() / frames.len().max(1) as f32;
    if how.warp > 0.0 && chance(rng, 0.5) {
        let factor = 1.0 + uniform(rng, -how.warp, how.warp);
        for frame in frames.chunks_exact_mut(N_MELS) {
            let mut old = [0.0; N_MELS];
            old.copy_from_slice(frame);
            for (band, value) in frame.iter_mut().enumerate() {
                let from = (band as f32 * factor).min((N_MELS - 1) as f32);
                let (i, t) = (from as usize, from.fract());
                *value = old[i] + t * (old[(i + 1).min(N_MELS - 1)] - old[i]);
            }
        }
    }
    let count = frames.len() / N_MELS;
    for _ in 0..rng.usize(0..=how.time.0) {
        let len = rng.usize(0..=how.time.1.min(count));
        let at = rng.usize(0..=count - len);
        frames[at * N_MELS..(at + len) * N_MELS].fill(mean);
    }
    for _ in 0..rng.usize(0..=how.freq.0) {
        let len = rng.usize(0..=how.freq.1);
        let at = rng.usize(0..=N_MELS - len);
        frames
            .chunks_exact_mut(N_MELS)
            .for_each(|frame| frame[at..at + len].fill(mean));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_lands_at_its_ratio() {
        let mut rng = Rng::with_seed(1);
        let clean: Vec<f32> = (0..16_000).map(|n| (n as f32 * 0.1).sin()).collect();
        let noise = coloured_noise(&mut rng, clean.len());
        let mut mixed = clean.clone();
        add_at_snr(&mut mixed, rms(&clean), &noise, 10.0);
        let rest: Vec<f32> = mixed.iter().zip(&clean).map(|(m, c)| m - c).collect();
        assert!((20.0 * (rms(&clean) / rms(&rest)).log10() - 10.0).abs() < 0.01);
    }

    #[test]
    fn speed_moves_the_pitch_and_the_length() {
        let tone: Vec<f32> = (0..16_000).map(|n| (n as f32 * 0.05).sin()).collect();
        let fast = speed(&tone, 1.25);
        assert_eq!(fast.len(), 12_800);
        for (n, x) in fast.iter().enumerate().take(12_000).skip(10) {
            assert!((x - (n as f32 * 0.0625).sin()).abs() < 1e-2);
        }
    }

    #[test]
    fn the_active_region_holds_the_sound() {
        let mut pcm = vec![1e-4; 16_000];
        pcm[4_000..8_000].fill(0.5);
        assert_eq!(active_region(&pcm, 25.0), 4_000..8_000);
        assert_eq!(active_region(&[], 25.0), 0..0);
    }

    #[test]
    fn a_seed_repeats_an_example() {
        let run = || {
            let mut rng = Rng::with_seed(7);
            let mut pcm = coloured_noise(&mut rng, 4_000);
            colour(&mut rng, &mut pcm);
            echo(&mut rng, &mut pcm);
            quantise(&mut pcm);
            let how = SpecAugment {
                time: (2, 10),
                freq: (2, 8),
                warp: 0.1,
            };
            spec_augment(&mut rng, &how, &mut pcm[..N_MELS * 20]);
            pcm
        };
        assert_eq!(run(), run());
        assert!(run().iter().all(|x| x.is_finite()));
    }
}
