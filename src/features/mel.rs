//! Mel filter banks: triangles over the bins of a real spectrum, kept sparse.
//!
//! The HTK formula of the mel scale (Young et al., *The HTK Book*, eq. 5.13) with triangles of
//! height one, as `tf.signal.linear_to_mel_weight_matrix` builds them.

/// A bank of triangular filters over `n_bins` equally spaced bins from 0 Hz to half the rate.
#[derive(Debug, Clone)]
pub struct MelBank {
    /// First bin of every band, and where its weights start in `weights`.
    bands: Vec<(usize, usize)>,
    weights: Vec<f32>,
}

/// Hertz to mel, HTK.
pub fn hz_to_mel_htk(hz: f64) -> f64 {
    1127.0 * (hz / 700.0).ln_1p()
}

impl MelBank {
    /// `n_mels` bands between `low_hz` and `high_hz`, equally wide on the HTK scale.
    ///
    /// The weight of a bin is linear in mel between the band's edges, which is what TensorFlow does;
    /// the bin at 0 Hz has no weight.
    pub fn htk(n_mels: usize, n_bins: usize, rate_hz: f64, low_hz: f64, high_hz: f64) -> Self {
        let low = hz_to_mel_htk(low_hz);
        let step = (hz_to_mel_htk(high_hz) - low) / (n_mels + 1) as f64;
        let bin_mel: Vec<f64> = (0..n_bins)
            .map(|bin| hz_to_mel_htk(bin as f64 * rate_hz / 2.0 / (n_bins - 1) as f64))
            .collect();
        let mut bands = Vec::with_capacity(n_mels);
        let mut weights = Vec::new();
        for band in 0..n_mels {
            let left = low + step * band as f64;
            let weight = |mel: f64| ((mel - left) / step).min((left + 2.0 * step - mel) / step);
            let first = (1..n_bins)
                .find(|&bin| weight(bin_mel[bin]) > 0.0)
                .unwrap_or(n_bins);
            bands.push((first, weights.len()));
            weights.extend(
                bin_mel[first..]
                    .iter()
                    .map(|&mel| weight(mel))
                    .take_while(|&w| w > 0.0)
                    .map(|w| w as f32),
            );
        }
        MelBank { bands, weights }
    }

    /// How many bands.
    pub fn len(&self) -> usize {
        self.bands.len()
    }

    /// Whether there are no bands.
    pub fn is_empty(&self) -> bool {
        self.bands.is_empty()
    }

    /// Weighted sums of `spectrum (n_bins)` into `out (n_mels)`. Real-time safe.
    pub fn apply(&self, spectrum: &[f32], out: &mut [f32]) {
        for (band, (&(first, at), out)) in self.bands.iter().zip(out.iter_mut()).enumerate() {
            let end = self
                .bands
                .get(band + 1)
                .map_or(self.weights.len(), |next| next.1);
            let weights = &self.weights[at..end];
            *out = weights
                .iter()
                .zip(&spectrum[first..])
                .map(|(w, s)| w * s)
                .sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_triangles_sum_to_one_between_their_centres() {
        let bank = MelBank::htk(20, 257, 16_000.0, 125.0, 7_500.0);
        let mut sum = vec![0.0f32; 257];
        for (band, &(first, at)) in bank.bands.iter().enumerate() {
            let end = bank
                .bands
                .get(band + 1)
                .map_or(bank.weights.len(), |next| next.1);
            for (bin, weight) in bank.weights[at..end].iter().enumerate() {
                sum[first + bin] += weight;
            }
        }
        let bin = |hz: f64| (hz / 31.25).round() as usize;
        for total in &sum[bin(400.0)..bin(6_500.0)] {
            assert!((total - 1.0).abs() < 1e-4, "{total}");
        }
        assert_eq!(sum[0], 0.0);
        assert_eq!(sum[bin(7_900.0)], 0.0);
    }

    #[test]
    fn mel_scale_has_its_fixed_point_at_a_thousand() {
        assert!((hz_to_mel_htk(1000.0) - 1000.0).abs() < 0.1);
    }
}
