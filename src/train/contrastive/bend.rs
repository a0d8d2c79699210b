//! What happens to a clip before the tower hears it in training: another stretch of it, another speed,
//! noise, the colour of a room and another level.

use fastrand::Rng;

use crate::train::augment::{self, chance, uniform};

/// Bends a clip and cuts it to `window` samples where it is longer; a shorter one stays short, for the
/// front end to repeat, or lies somewhere in noise.
pub fn bend(rng: &mut Rng, pcm: &[f32], window: usize) -> Vec<f32> {
    // A little more than the window is enough to change the speed of.
    let most = window + window / 4;
    let mut pcm = match pcm.len() > most {
        true => augment::crop_or_pad(rng, pcm, most),
        false => pcm.to_vec(),
    };
    if pcm.is_empty() {
        return pcm;
    }
    if chance(rng, 0.5) {
        pcm = augment::speed(&pcm, uniform(rng, 0.88, 1.14));
    }
    let level = augment::rms(&pcm);
    if pcm.len() > window || chance(rng, 0.3) {
        pcm = augment::crop_or_pad(rng, &pcm, window);
    }
    if chance(rng, 0.4) {
        let noise = augment::coloured_noise(rng, pcm.len());
        let snr_db = uniform(rng, 3.0, 30.0);
        augment::add_at_snr(&mut pcm, level, &noise, snr_db);
    }
    if chance(rng, 0.4) {
        augment::colour(rng, &mut pcm);
    }
    if chance(rng, 0.2) {
        augment::echo(rng, &mut pcm);
    }
    let peak_db = uniform(rng, -30.0, 0.0);
    augment::set_peak(&mut pcm, peak_db);
    pcm
}

/// Covers up to two stretches of time and two of bands of a spectrogram `(frames, bins)` in decibels
/// with its mean (Park et al., *SpecAugment*, 2019).
pub fn cover(rng: &mut Rng, values: &mut [f32], bins: usize) {
    let frames = values.len() / bins.max(1);
    if frames == 0 {
        return;
    }
    let mean = values.iter().sum::<f32>() / values.len() as f32;
    for _ in 0..rng.usize(0..=2) {
        let length = rng.usize(0..=frames / 8);
        let from = rng.usize(0..=frames - length);
        values[from * bins..(from + length) * bins].fill(mean);
    }
    for _ in 0..rng.usize(0..=2) {
        let length = rng.usize(0..=bins / 8);
        let from = rng.usize(0..=bins - length);
        for frame in values.chunks_exact_mut(bins) {
            frame[from..from + length].fill(mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_bent_the_same_way_by_the_same_seed_and_never_too_long() {
        let clip: Vec<f32> = (0..40_000).map(|n| (n as f32 * 0.05).sin()).collect();
        for seed in 0..20 {
            let bent = bend(&mut Rng::with_seed(seed), &clip, 16_000);
            assert_eq!(bent.len(), 16_000);
            assert_eq!(bent, bend(&mut Rng::with_seed(seed), &clip, 16_000));
            let short = bend(&mut Rng::with_seed(seed), &clip[..4_000], 16_000);
            assert!(!short.is_empty() && short.len() <= 16_000);
            assert!(
                bent.iter()
                    .chain(&short)
                    .all(|x| x.is_finite() && x.abs() <= 1.0)
            );
        }
        assert!(bend(&mut Rng::with_seed(1), &[], 100).is_empty());
    }

    #[test]
    fn what_is_covered_takes_the_mean() {
        let mut covered = 0;
        for seed in 0..20 {
            let mut values: Vec<f32> = (0..64 * 100).map(|n| (n % 2) as f32).collect();
            cover(&mut Rng::with_seed(seed), &mut values, 64);
            covered += values.iter().filter(|value| **value == 0.5).count();
        }
        assert!((20 * 64..20 * 64 * 40).contains(&covered), "{covered}");
        cover(&mut Rng::with_seed(1), &mut [], 64);
    }
}
