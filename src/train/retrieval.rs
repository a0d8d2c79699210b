//! How well the right answers are found by similarity: recall at K and mean average precision at 10, as
//! papers on sound and language report them (AudioCaps and Clotho in Wu et al., 2023).
//!
//! Several answers may be right for one query (a label's many clips, a clip's five captions). Recall at K
//! is the share of queries with at least one right answer among the first K. Average precision at 10 is the
//! mean precision at the places of the right answers among the first ten, over as many as could be there.
//! Equal similarities count against the model: wrong answers come first.

use serde::Serialize;

/// Where recall is measured.
const AT: [usize; 3] = [1, 5, 10];
/// How many answers average precision looks at.
const DEPTH: usize = 10;

/// Figures of one direction; all from 0 to 1 but the last two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Retrieval {
    /// Recall at 1.
    pub r1: f64,
    /// Recall at 5.
    pub r5: f64,
    /// Recall at 10.
    pub r10: f64,
    /// Mean average precision at 10.
    pub map10: f64,
    /// Queries that have a right answer.
    pub queries: usize,
    /// Answers to choose from.
    pub answers: usize,
}

/// The places from 1 of the right answers, in order.
fn places(similarities: &[f32], right: &[bool]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..similarities.len()).collect();
    // What is no number comes last, whatever its sign.
    let value = |at: usize| match similarities[at].is_nan() {
        true => f32::NEG_INFINITY,
        false => similarities[at],
    };
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(right[a].cmp(&right[b])));
    (1..)
        .zip(order)
        .filter(|(_, at)| right[*at])
        .map(|(place, _)| place)
        .collect()
}

/// Measures queries, each with its similarity to every answer and which answers are right. Queries
/// without a right answer do not count.
pub fn retrieval<'a>(queries: impl Iterator<Item = (&'a [f32], &'a [bool])>) -> Retrieval {
    let (mut hits, mut precision) = ([0usize; AT.len()], 0.0);
    let mut figures = Retrieval::default();
    for (similarities, right) in queries {
        let places = places(similarities, right);
        let Some(&first) = places.first() else {
            continue;
        };
        figures.queries += 1;
        figures.answers = figures.answers.max(similarities.len());
        for (hits, at) in hits.iter_mut().zip(AT) {
            *hits += usize::from(first <= at);
        }
        let found = (1..).zip(&places).take_while(|(_, place)| **place <= DEPTH);
        let sum: f64 = found
            .map(|(count, place)| f64::from(count) / *place as f64)
            .sum();
        precision += sum / places.len().min(DEPTH) as f64;
    }
    let share = |hits: usize| hits as f64 / figures.queries.max(1) as f64;
    let [r1, r5, r10] = hits.map(share);
    Retrieval {
        r1,
        r5,
        r10,
        map10: precision / figures.queries.max(1) as f64,
        ..figures
    }
}

/// Both directions of a table of similarities `(sounds, texts)`: sounds that look for their texts, and
/// texts that look for their sounds.
pub fn both_ways(similarities: &[Vec<f32>], right: &[Vec<bool>]) -> (Retrieval, Retrieval) {
    let rows = similarities.iter().zip(right);
    let forth = retrieval(rows.map(|(row, right)| (row.as_slice(), right.as_slice())));
    let texts = similarities.first().map_or(0, Vec::len);
    let turned: Vec<(Vec<f32>, Vec<bool>)> = (0..texts)
        .map(|text| {
            (
                similarities.iter().map(|row| row[text]).collect(),
                right.iter().map(|row| row[text]).collect(),
            )
        })
        .collect();
    let back = retrieval(turned.iter().map(|(row, right)| (&row[..], &right[..])));
    (forth, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(similarities: &[f32], right: &[usize]) -> Retrieval {
        let right: Vec<bool> = (0..similarities.len())
            .map(|at| right.contains(&at))
            .collect();
        retrieval([(similarities, right.as_slice())].into_iter())
    }

    #[test]
    fn one_right_answer_of_several_is_enough_for_recall() {
        let figures = one(&[0.1, 0.9, 0.5, 0.4], &[0, 2]);
        assert_eq!((figures.r1, figures.r5), (0.0, 1.0));
        // At places 2 and 4.
        assert!((figures.map10 - (1.0 / 2.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
        assert_eq!(one(&[0.1, 0.9], &[1]).map10, 1.0);
    }

    #[test]
    fn equal_similarities_and_numbers_that_are_none_count_against_the_model() {
        assert_eq!(one(&[0.5; 12], &[3]).r10, 0.0);
        assert_eq!(one(&[0.5, 0.5], &[0]).r1, 0.0);
        assert_eq!(one(&[f32::NAN, 0.5], &[0]).r1, 0.0);
        assert_eq!(one(&[f32::NAN, 0.5], &[1]).r1, 1.0);
    }

    #[test]
    fn only_ten_answers_are_looked_at() {
        let falling: Vec<f32> = (0..20).map(|at| -(at as f32)).collect();
        assert_eq!(one(&falling, &[10]).map10, 0.0);
        assert_eq!(one(&falling, &(0..20).collect::<Vec<_>>()).map10, 1.0);
        assert_eq!(one(&falling, &[]).queries, 0);
    }

    #[test]
    fn the_way_back_asks_with_the_texts() {
        let similarities = [vec![0.9, 0.1], vec![0.8, 0.7], vec![0.2, 0.6]];
        let right = [vec![true, false], vec![false, true], vec![false, true]];
        let (forth, back) = both_ways(&similarities, &right);
        assert!((forth.r1 - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((back.r1, back.queries, back.answers), (1.0, 2, 3));
    }
}
