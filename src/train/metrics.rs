//! Figures of merit: accuracy and confusion, precision and recall, average precision, the area
//! under the ROC curve, and misses and false accepts on a stream.
//!
//! Definitions are scikit-learn's (1.5): `average_precision_score` without interpolation, ties taken
//! together; `roc_auc_score` by ranks; `f1_score(average="macro")` over the labels that occur.

/// The index of the highest score, the last of equal ones; 0 for none.
pub fn best(scores: &[f32]) -> usize {
    (0..scores.len())
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
        .unwrap_or(0)
}

/// What was said for what was true, over a fixed list of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    size: usize,
    counts: Vec<u64>,
}

/// Precision, recall and their harmonic mean for one label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelFigures {
    /// Of those called so, how many were; 0 where none was.
    pub precision: f64,
    /// Of those that were, how many were called so; 0 where none was.
    pub recall: f64,
    /// Harmonic mean of the two, 0 where both are.
    pub f1: f64,
    /// How many there were.
    pub support: u64,
}

impl Confusion {
    /// An empty one over `labels` labels.
    pub fn new(labels: usize) -> Self {
        Confusion {
            size: labels,
            counts: vec![0; labels * labels],
        }
    }

    /// Counts one; a label out of range is not counted.
    pub fn add(&mut self, truth: usize, said: usize) {
        if truth < self.size && said < self.size {
            self.counts[truth * self.size + said] += 1;
        }
    }

    /// Rows of what was true, columns of what was said.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks_exact(self.size.max(1))
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many were called what they are.
    pub fn hits(&self) -> u64 {
        (0..self.size).map(|label| self.at(label, label)).sum()
    }

    /// Share of hits, 0 for nothing.
    pub fn accuracy(&self) -> f64 {
        ratio(self.hits(), self.total())
    }

    /// Figures of one label.
    pub fn label(&self, label: usize) -> LabelFigures {
        let hits = self.at(label, label);
        let support = (0..self.size).map(|said| self.at(label, said)).sum();
        let (precision, recall) = (ratio(hits, self.said(label)), ratio(hits, support));
        let f1 = if hits == 0 {
            0.0
        } else {
            2.0 * precision * recall / (precision + recall)
        };
        LabelFigures {
            precision,
            recall,
            f1,
            support,
        }
    }

    /// Mean F1 over the labels that were true or said at least once, 0 for none.
    pub fn macro_f1(&self) -> f64 {
        mean((0..self.size).filter_map(|label| {
            let figures = self.label(label);
            (figures.support > 0 || self.said(label) > 0).then_some(figures.f1)
        }))
    }

    fn at(&self, truth: usize, said: usize) -> u64 {
        self.counts[truth * self.size + said]
    }

    fn said(&self, label: usize) -> u64 {
        (0..self.size).map(|truth| self.at(truth, label)).sum()
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Mean, 0 for nothing.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 {
        0.0
    } else {
        sum / f64::from(count)
    }
}

/// Positives and all among equal scores, from the highest score down. A NaN counts as the lowest.
fn by_score(scores: &[f32], truth: &[bool]) -> Vec<(u64, u64)> {
    let mut pairs: Vec<(f32, bool)> = scores
        .iter()
        .map(|score| {
            if score.is_nan() {
                f32::NEG_INFINITY
            } else {
                *score
            }
        })
        .zip(truth.iter().copied())
        .collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs
        .chunk_by(|a, b| a.0 == b.0)
        .map(|tied| {
            let positives = tied.iter().filter(|(_, positive)| *positive).count();
            (positives as u64, tied.len() as u64)
        })
        .collect()
}

/// Average precision of one label: the sum of precision times the step in recall. `None` where
/// nothing is positive.
pub fn average_precision(scores: &[f32], truth: &[bool]) -> Option<f64> {
    let groups = by_score(scores, truth);
    let positives: u64 = groups.iter().map(|(positives, _)| positives).sum();
    if positives == 0 {
        return None;
    }
    let (mut hits, mut seen, mut sum) = (0, 0, 0.0);
    for (new_hits, new_seen) in groups {
        hits += new_hits;
        seen += new_seen;
        sum += ratio(hits, seen) * ratio(new_hits, positives);
    }
    Some(sum)
}

/// Chance that a positive scores higher than a negative, ties half. `None` where either is missing.
pub fn auc(scores: &[f32], truth: &[bool]) -> Option<f64> {
    let (mut above, mut wins) = (0, 0.0);
    let (mut positives, mut negatives) = (0, 0);
    for (hits, seen) in by_score(scores, truth) {
        let misses = seen - hits;
        wins += misses as f64 * (above as f64 + 0.5 * hits as f64);
        above += hits;
        positives += hits;
        negatives += misses;
    }
    (positives > 0 && negatives > 0).then(|| wins / (positives as f64 * negatives as f64))
}

/// Something that is known to be in a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// Its label.
    pub label: usize,
    /// From when on a detection counts, in seconds.
    pub start_s: f64,
    /// Until when, in seconds.
    pub end_s: f64,
}

/// Something that was detected in a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its label.
    pub label: usize,
    /// When, in seconds.
    pub at_s: f64,
}

/// How a detector did on a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamFigures {
    /// For each that was present, whether it was found.
    pub found: Vec<bool>,
    /// Detections that belong to nothing present: wrong words, words out of nothing, second ones.
    pub false_accepts: Vec<Found>,
}

impl StreamFigures {
    /// Share of those present that were not found, 0 where there were none.
    pub fn false_reject_rate(&self) -> f64 {
        let missed = self.found.iter().filter(|found| !**found).count();
        ratio(missed as u64, self.found.len() as u64)
    }
}

/// Matches detections to what was present: each detection takes the first of its label that is not
/// found yet and whose span holds it; what is left over is a false accept.
pub fn match_stream(present: &[Present], detections: &[Found]) -> StreamFigures {
    let mut found = vec![false; present.len()];
    let mut false_accepts = Vec::new();
    for detection in detections {
        let hit = present.iter().zip(&found).position(|(present, found)| {
            !found
                && present.label == detection.label
                && (present.start_s..=present.end_s).contains(&detection.at_s)
        });
        match hit {
            Some(at) => found[at] = true,
            None => false_accepts.push(detection.clone()),
        }
    }
    StreamFigures {
        found,
        false_accepts,
    }
}

/// Events per hour, 0 for no time at all.
pub fn per_hour(count: usize, seconds: f64) -> f64 {
    if seconds > 0.0 {
        3600.0 * count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
    }

    #[test]
    fn confusion_gives_what_scikit_learn_prints() {
        // y_true = [0,0,0,1,1,2,2,2,2], y_pred = [0,0,1,1,2,2,2,0,2], labels 0..=3:
        // classification_report gives precision 2/3, 1/2, 3/4 and recall 2/3, 1/2, 3/4.
        let mut confusion = Confusion::new(4);
        for (truth, said) in [0, 0, 0, 1, 1, 2, 2, 2, 2]
            .into_iter()
            .zip([0, 0, 1, 1, 2, 2, 2, 0, 2])
        {
            confusion.add(truth, said);
        }
        confusion.add(7, 0);
        assert_eq!((confusion.hits(), confusion.total()), (6, 9));
        near(confusion.accuracy(), 6.0 / 9.0);
        near(confusion.macro_f1(), (2.0 / 3.0 + 0.5 + 0.75) / 3.0);
        let label = confusion.label(2);
        near(label.precision, 0.75);
        assert_eq!(label.support, 4);
        assert_eq!(confusion.label(3).f1, 0.0);
        let rows: Vec<_> = confusion.rows().collect();
        assert_eq!(rows[2], [1, 0, 3, 0]);
        assert_eq!(Confusion::new(0).accuracy(), 0.0);
    }

    #[test]
    fn average_precision_is_scikit_learns() {
        let check = |truth: &[u8], scores: &[f32], expected: Option<f64>| {
            let truth: Vec<bool> = truth.iter().map(|x| *x == 1).collect();
            match (average_precision(scores, &truth), expected) {
                (Some(got), Some(expected)) => near(got, expected),
                (got, expected) => assert_eq!(got, expected),
            }
        };
        // The example of scikit-learn's documentation.
        check(&[0, 0, 1, 1], &[0.1, 0.4, 0.35, 0.8], Some(0.833_333_333));
        // Hits at ranks 1, 3 and 6.
        check(
            &[1, 0, 1, 0, 0, 1],
            &[0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
            Some((1.0 + 2.0 / 3.0 + 0.5) / 3.0),
        );
        // All tied: the share of positives.
        check(&[1, 0, 0, 0], &[0.5; 4], Some(0.25));
        check(&[0, 0], &[0.1, 0.2], None);
        check(&[1, 0], &[f32::NAN, 0.0], Some(0.5));
    }

    #[test]
    fn auc_is_scikit_learns() {
        let check = |truth: &[u8], scores: &[f32], expected: f64| {
            let truth: Vec<bool> = truth.iter().map(|x| *x == 1).collect();
            near(auc(scores, &truth).unwrap(), expected);
        };
        check(&[0, 0, 1, 1], &[0.1, 0.4, 0.35, 0.8], 0.75);
        check(&[0, 1], &[0.5, 0.5], 0.5);
        check(&[1, 1, 0], &[0.9, 0.5, 0.5], 0.75);
        assert_eq!(auc(&[0.1], &[true]), None);
    }

    #[test]
    fn a_detection_counts_once_and_in_its_time() {
        let present = |label, start_s| Present {
            label,
            start_s,
            end_s: start_s + 1.5,
        };
        let found = |label, at_s| Found { label, at_s };
        let figures = match_stream(
            &[present(0, 1.0), present(1, 3.0), present(0, 5.0)],
            &[
                found(0, 1.4),
                found(0, 1.6),
                found(2, 3.5),
                found(1, 4.6),
                found(0, 5.0),
            ],
        );
        assert_eq!(figures.found, [true, false, true]);
        assert_eq!(
            figures.false_accepts,
            [found(0, 1.6), found(2, 3.5), found(1, 4.6)]
        );
        near(figures.false_reject_rate(), 1.0 / 3.0);
        near(per_hour(3, 1800.0), 6.0);
        near(per_hour(3, 0.0), 0.0);
    }
}
