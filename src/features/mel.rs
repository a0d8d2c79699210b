//! Mel filter banks: triangles over the bins of a real spectrum, kept sparse.
//!
//! Two mel scales, with triangles straight in mel or in hertz, cover most references. HTK: Young et al.,
//! *The HTK Book*, eq. 5.13; its factor before the logarithm (1127, or 2595 with base 10) does not
//! show, because a bank only asks where a frequency lies between others. Slaney: *Auditory Toolbox*
//! (1998), linear below 1000 Hz. Every sum is in f32: powers are not negative, so nothing cancels.

/// How hertz become mel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MelScale {
    /// `1127 ln(1 + f / 700)`: HTK, Kaldi and TensorFlow.
    Htk,
    /// Linear to 1000 Hz, 27 steps of a logarithm for each factor of 6.4 above.
    Slaney,
}

/// Along which axis the sides of a triangle are straight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Triangle {
    /// In mel: Kaldi and `tf.signal`.
    Mel,
    /// In hertz: librosa, and torchaudio's and transformers' HTK banks.
    Hertz,
}

/// What a bank is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MelSpec {
    /// Bands.
    pub n_mels: usize,
    /// Bins of the spectrum, from 0 Hz to half the rate.
    pub n_bins: usize,
    /// Sample rate in hertz.
    pub rate_hz: f64,
    /// Where the first band begins, in hertz.
    pub low_hz: f64,
    /// Where the last band ends, in hertz.
    pub high_hz: f64,
    /// The scale on which the bands are equally wide.
    pub scale: MelScale,
    /// The shape of a band.
    pub triangle: Triangle,
    /// Divides each band by half its width in hertz, as Slaney does, instead of a height of one.
    pub area_norm: bool,
}

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

/// Where Slaney's scale turns from linear to logarithmic, in hertz and in mel.
const SLANEY_KNEE: (f64, f64) = (1_000.0, 15.0);

impl MelScale {
    /// Hertz to mel.
    pub fn mel(self, hz: f64) -> f64 {
        let (knee_hz, knee_mel) = SLANEY_KNEE;
        match self {
            MelScale::Htk => hz_to_mel_htk(hz),
            MelScale::Slaney if hz < knee_hz => hz * knee_mel / knee_hz,
            MelScale::Slaney => knee_mel + (hz / knee_hz).ln() * 27.0 / 6.4f64.ln(),
        }
    }

    /// Mel to hertz.
    pub fn hz(self, mel: f64) -> f64 {
        let (knee_hz, knee_mel) = SLANEY_KNEE;
        match self {
            MelScale::Htk => 700.0 * (mel / 1127.0).exp_m1(),
            MelScale::Slaney if mel < knee_mel => mel * knee_hz / knee_mel,
            MelScale::Slaney => knee_hz * ((mel - knee_mel) * 6.4f64.ln() / 27.0).exp(),
        }
    }
}

impl MelBank {
    /// The bank that `spec` describes. The bin at 0 Hz has no weight; a band that is narrower than
    /// a bin may have none at all, as in the references.
    pub fn new(spec: &MelSpec) -> Self {
        let bin_hz = spec.rate_hz / 2.0 / (spec.n_bins.max(2) - 1) as f64;
        let bins: Vec<f64> = (0..spec.n_bins)
            .map(|bin| bin as f64 * bin_hz)
            .map(|hz| match spec.triangle {
                Triangle::Mel => spec.scale.mel(hz),
                Triangle::Hertz => hz,
            })
            .collect();
        let low = spec.scale.mel(spec.low_hz);
        let step = (spec.scale.mel(spec.high_hz) - low) / (spec.n_mels + 1) as f64;
        let band = |band: usize| {
            let mel = [0, 1, 2].map(|edge| low + step * (band + edge) as f64);
            let hz = mel.map(|mel| spec.scale.hz(mel));
            let height = match spec.area_norm {
                true => 2.0 / (hz[2] - hz[0]),
                false => 1.0,
            };
            match spec.triangle {
                Triangle::Mel => (mel, height),
                Triangle::Hertz => (hz, height),
            }
        };
        MelBank::triangles(&bins, (0..spec.n_mels).map(band))
    }

    /// A bank of triangles `([left, centre, right], height)` over bins at `bins`, of which the
    /// first has no weight.
    pub fn triangles(bins: &[f64], bands: impl Iterator<Item = ([f64; 3], f64)>) -> Self {
        let mut bank = MelBank {
            bands: Vec::new(),
            weights: Vec::new(),
        };
        for ([left, centre, right], height) in bands {
            let weight =
                |at: f64| ((at - left) / (centre - left)).min((right - at) / (right - centre));
            let first = (1..bins.len())
                .find(|&bin| weight(bins[bin]) > 0.0)
                .unwrap_or(bins.len());
            bank.bands.push((first, bank.weights.len()));
            bank.weights.extend(
                bins[first..]
                    .iter()
                    .map(|&at| weight(at))
                    .take_while(|&weight| weight > 0.0)
                    .map(|weight| (weight * height) as f32),
            );
        }
        bank
    }

    /// `n_mels` bands between `low_hz` and `high_hz`, equally wide on the HTK scale and straight in
    /// mel, which is what TensorFlow does.
    pub fn htk(n_mels: usize, n_bins: usize, rate_hz: f64, low_hz: f64, high_hz: f64) -> Self {
        MelBank::new(&MelSpec {
            n_mels,
            n_bins,
            rate_hz,
            low_hz,
            high_hz,
            scale: MelScale::Htk,
            triangle: Triangle::Mel,
            area_norm: false,
        })
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
        for (band, out) in out.iter_mut().enumerate() {
            let (first, weights) = self.band(band);
            *out = weights
                .iter()
                .zip(&spectrum[first..])
                .map(|(w, s)| w * s)
                .sum();
        }
    }

    /// The first bin of a band and its weights from there on.
    fn band(&self, band: usize) -> (usize, &[f32]) {
        let (first, at) = self.bands[band];
        let end = self
            .bands
            .get(band + 1)
            .map_or(self.weights.len(), |next| next.1);
        (first, &self.weights[at..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: MelSpec = MelSpec {
        n_mels: 20,
        n_bins: 257,
        rate_hz: 16_000.0,
        low_hz: 125.0,
        high_hz: 7_500.0,
        scale: MelScale::Htk,
        triangle: Triangle::Mel,
        area_norm: false,
    };

    fn total(bank: &MelBank) -> Vec<f32> {
        let mut sum = vec![0.0f32; 257];
        for band in 0..bank.len() {
            let (first, weights) = bank.band(band);
            for (sum, weight) in sum[first..].iter_mut().zip(weights) {
                *sum += weight;
            }
        }
        sum
    }

    #[test]
    fn neighbouring_triangles_sum_to_one_between_their_centres() {
        for triangle in [Triangle::Mel, Triangle::Hertz] {
            for scale in [MelScale::Htk, MelScale::Slaney] {
                let sum = total(&MelBank::new(&MelSpec {
                    scale,
                    triangle,
                    ..SPEC
                }));
                let bin = |hz: f64| (hz / 31.25).round() as usize;
                for total in &sum[bin(600.0)..bin(6_500.0)] {
                    assert!((total - 1.0).abs() < 1e-4, "{triangle:?} {scale:?} {total}");
                }
                assert_eq!(sum[0], 0.0);
                assert_eq!(sum[bin(7_900.0)], 0.0);
            }
        }
    }

    #[test]
    fn an_area_norm_gives_every_band_the_same_area() {
        let bank = MelBank::new(&MelSpec {
            n_bins: 8_193,
            area_norm: true,
            triangle: Triangle::Hertz,
            ..SPEC
        });
        let bin_hz = 8_000.0 / 8_192.0;
        for band in 0..bank.len() {
            let area: f32 = bank.band(band).1.iter().map(|weight| weight * bin_hz).sum();
            assert!((area - 1.0).abs() < 1e-3, "{band} {area}");
        }
    }

    #[test]
    fn the_scales_have_their_fixed_points_and_are_inverted() {
        assert!((hz_to_mel_htk(1000.0) - 1000.0).abs() < 0.1);
        assert!((MelScale::Slaney.mel(1000.0) - 15.0).abs() < 1e-12);
        assert!((MelScale::Slaney.mel(6400.0) - 42.0).abs() < 1e-12);
        for scale in [MelScale::Htk, MelScale::Slaney] {
            for hz in [0.0, 20.0, 999.0, 1001.0, 14_000.0] {
                assert!(
                    (scale.hz(scale.mel(hz)) - hz).abs() < 1e-8,
                    "{scale:?} {hz}"
                );
            }
        }
    }

    #[test]
    fn bands_too_narrow_for_a_bin_are_empty_and_harmless() {
        let bank = MelBank::new(&MelSpec {
            n_mels: 64,
            n_bins: 9,
            high_hz: 125.0,
            ..SPEC
        });
        let mut out = [1.0; 64];
        bank.apply(&[1.0; 9], &mut out);
        assert!(out.iter().all(|value| value.is_finite()));
    }
}
