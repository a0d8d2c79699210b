//! Digital silence: an unbroken run of samples that are exactly zero.
//!
//! A microphone in the quietest room has noise in its lowest bits; exact zeros for seconds mean a
//! muted device, a suspended monitor or a dead cable. What follows from that is decided elsewhere.

/// Follows a stream of samples and knows how many exact zeros it ends with.
#[derive(Debug, Clone, Default)]
pub struct DigitalSilence {
    zeros: u64,
}

impl DigitalSilence {
    /// Takes the next mono samples. Real-time safe; looks at one sample while there is sound.
    pub fn push(&mut self, mono: &[f32]) {
        let tail = mono.iter().rev().take_while(|&&x| x == 0.0).count();
        if tail == mono.len() {
            self.zeros += tail as u64;
        } else {
            self.zeros = tail as u64;
        }
    }

    /// Exact zeros at the end of what was taken so far.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// The same in seconds at `rate_hz`.
    pub fn seconds(&self, rate_hz: u32) -> f64 {
        self.zeros as f64 / f64::from(rate_hz.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(blocks: &[&[f32]], expected: u64) {
        let mut silence = DigitalSilence::default();
        for block in blocks {
            silence.push(block);
        }
        assert_eq!(silence.zeros(), expected);
    }

    #[test]
    fn counts_the_zeros_at_the_end() {
        check(&[&[]], 0);
        check(&[&[0.0, -0.0], &[], &[0.0]], 3);
        check(&[&[0.0, 1e-9], &[0.0]], 1);
        check(&[&[0.0; 5], &[1.0, 0.0, 0.0], &[0.0]], 3);
        check(&[&[0.0], &[f32::NAN]], 0);
    }

    #[test]
    fn seconds_follow_the_rate() {
        let mut silence = DigitalSilence::default();
        silence.push(&[0.0; 24_000]);
        assert_eq!(silence.seconds(48_000), 0.5);
    }
}
