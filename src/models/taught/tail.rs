//! How often a score is reached by what should not reach it: the highest scores of a background, and
//! what lies beyond them, where an hour or two of background says nothing any more.
//!
//! Above a high score the excess is taken as exponential (Pickands, *Statistical inference using extreme
//! order statistics*, 1975, with a shape of 0) and fitted to the highest points by their mean.

/// Points that the tail is fitted to: at least so many, and one in so many of all.
const FITTED: usize = 20;
const ONE_IN: usize = 100;

/// Scores of a background and how much of it they stand for.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Best first.
    scores: Vec<f32>,
    /// Windows an hour that one of them stands for.
    each_per_hour: f64,
}

impl Tail {
    /// The tail of `scores`, an even sample of `windows` windows in `hours` of background.
    pub fn of(mut scores: Vec<f32>, windows: u64, hours: f64) -> Self {
        scores.sort_by(|a, b| b.total_cmp(a));
        Tail {
            each_per_hour: windows as f64 / scores.len().max(1) as f64 / hours.max(1e-9),
            scores,
        }
    }

    /// Where the tail begins, its mean excess, and how often an hour it is reached; `None` for fewer
    /// points than can be judged.
    fn fit(&self) -> Option<(f32, f32, f64)> {
        let count = (self.scores.len() / ONE_IN).max(FITTED);
        let start = *self.scores.get(count)?;
        let excess: f32 = self.scores[..count].iter().map(|s| s - start).sum();
        Some((
            start,
            (excess / count as f32).max(1e-6),
            count as f64 * self.each_per_hour,
        ))
    }

    /// The score that windows reach `per_hour` times an hour; `None` for fewer points than can be judged.
    pub fn threshold(&self, per_hour: f64) -> Option<f32> {
        let (start, excess, reached) = self.fit()?;
        if reached > per_hour {
            return Some(start + excess * (reached / per_hour).ln() as f32);
        }
        let rank = (per_hour / self.each_per_hour) as usize;
        self.scores.get(rank.min(self.scores.len() - 1)).copied()
    }

    /// How often an hour windows reach `threshold`.
    pub fn per_hour(&self, threshold: f32) -> f64 {
        match self.fit() {
            Some((start, excess, reached)) if threshold > start => {
                reached * f64::from((start - threshold) / excess).exp()
            }
            _ => {
                let over = self.scores.partition_point(|&score| score >= threshold);
                over as f64 * self.each_per_hour
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours of windows every half second whose scores fall off exponentially.
    fn exponential() -> Tail {
        let mut rng = fastrand::Rng::with_seed(4);
        let scores = (0..3600).map(|_| -(1.0 - rng.f32()).ln()).collect();
        Tail::of(scores, 14_400, 2.0)
    }

    #[test]
    fn a_threshold_is_reached_as_often_as_was_asked_beyond_the_highest_score_too() {
        let tail = exponential();
        for (per_hour, expected) in [
            (720.0, 10f32.ln()),
            (7.2, 1000f32.ln()),
            (0.1, 72_000f32.ln()),
        ] {
            let got = tail.threshold(per_hour).unwrap();
            assert!((got - expected).abs() < 0.9, "{per_hour}: {got} {expected}");
            let back = tail.per_hour(got);
            assert!((back / per_hour - 1.0).abs() < 0.1, "{per_hour}: {back}");
        }
        assert!(tail.threshold(0.1).unwrap() > tail.scores[0]);
    }

    #[test]
    fn too_few_points_give_no_threshold() {
        assert_eq!(Tail::of(vec![1.0; 20], 20, 0.1).threshold(1.0), None);
        assert_eq!(Tail::of(Vec::new(), 0, 0.0).per_hour(0.0), 0.0);
    }
}
