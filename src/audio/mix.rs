//! The explicit downmix: one frame of any number of channels becomes the mean of its channels.
//!
//! The mean keeps a signal that is equal on all channels at its level and can never clip. What is
//! not a sample (NaN, infinity, or a value so large that its square would be one) counts as 0,
//! so no filter behind it can be poisoned.

/// Largest magnitude that is still a sample; full scale is 1.0.
///
/// Float files with integer scaling reach 2^15, and an energy over a window of samples of this size
/// is still far from the end of `f32`.
pub const MAX_MAGNITUDE: f32 = 1_048_576.0;

/// Mixes whole frames of `interleaved` to mono, as many as `mono` holds, and returns how many
/// samples were not finite (or beyond [`MAX_MAGNITUDE`]) and were taken as 0.
///
/// Real-time safe. `channels` of 0 is taken as 1; an incomplete last frame is left out.
pub fn to_mono(interleaved: &[f32], channels: usize, mono: &mut [f32]) -> u64 {
    let mut invalid = 0;
    if channels <= 1 {
        for (out, &sample) in mono.iter_mut().zip(interleaved) {
            *out = clean(sample, &mut invalid);
        }
        return invalid;
    }
    let scale = 1.0 / channels as f32;
    for (out, frame) in mono.iter_mut().zip(interleaved.chunks_exact(channels)) {
        let mut sum = 0.0;
        for &sample in frame {
            sum += clean(sample, &mut invalid);
        }
        *out = sum * scale;
    }
    invalid
}

/// The comparison is false for NaN as well, so one test finds all three kinds.
fn clean(sample: f32, invalid: &mut u64) -> f32 {
    if sample.abs() <= MAX_MAGNITUDE {
        sample
    } else {
        *invalid += 1;
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(interleaved: &[f32], channels: usize, expected: &[f32], expected_invalid: u64) {
        let mut mono = vec![9.0; expected.len()];
        let invalid = to_mono(interleaved, channels, &mut mono);
        assert_eq!(mono, expected);
        assert_eq!(invalid, expected_invalid);
    }

    #[test]
    fn the_mean_of_the_channels() {
        check(&[0.5, -0.25], 1, &[0.5, -0.25], 0);
        check(&[0.5, -0.5, 1.0, 0.0], 2, &[0.0, 0.5], 0);
        check(&[1.0; 8], 8, &[1.0], 0);
        check(&[1.0, 1.0, 1.0], 2, &[1.0], 0);
        check(&[], 2, &[], 0);
    }

    #[test]
    fn what_is_not_a_sample_is_zero_and_counted() {
        check(&[f32::NAN, 1.0], 2, &[0.5], 1);
        check(
            &[f32::INFINITY, f32::NEG_INFINITY, f32::MAX],
            1,
            &[0.0; 3],
            3,
        );
    }
}
