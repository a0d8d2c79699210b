//! Which label of the background is the very sound that is being taught.
//!
//! A table made of labelled clips may hold the sound itself: somebody teaches a rooster, and there are
//! twenty roosters among what it is to be told from, which no likeness survives. The nearest points of the
//! background vote (Cover and Hart, *Nearest Neighbor Pattern Classification*, 1967): where most of them are
//! of one label, points of that label are left out of what the sound competes with.

use super::background::{Background, dot};
use super::separate::unit;

/// Neighbours of a point that vote.
const NEIGHBOURS: usize = 8;
/// The share of the votes that makes a label the same sound. Of roosters, dogs and words that are in the
/// table half to nine tenths of the neighbours are of their kind; sounds that are not there scatter.
const SHARE: f32 = 0.4;

/// The label of the background that the examples are, by the points of each at unit length. Labels that
/// begin with `_` stand for all sorts of things and are nobody's kind.
pub(super) fn kin<'a>(background: &'a Background, examples: &[&[Vec<f32>]]) -> Option<&'a str> {
    let points: Vec<(&str, Vec<f32>)> = background
        .points()
        .enumerate()
        .filter_map(|(at, point)| Some((background.label_of(at)?, unit(point.to_vec()))))
        .collect();
    let mut votes: Vec<(&str, f32)> = Vec::new();
    for example in examples {
        // All examples weigh the same, however long they are.
        let weight = 1.0 / (example.len() * NEIGHBOURS * examples.len()).max(1) as f32;
        for heard in *example {
            let mut near: Vec<(f32, &str)> = points
                .iter()
                .map(|(label, point)| (dot(heard, point), *label))
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (_, label) in near.iter().take(NEIGHBOURS) {
                match votes.iter_mut().find(|(known, _)| known == label) {
                    Some((_, share)) => *share += weight,
                    None => votes.push((label, weight)),
                }
            }
        }
    }
    let most = votes
        .into_iter()
        .filter(|(label, _)| !label.starts_with('_'))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    tracing::debug!("nearest in the background: {} ({:.2})", most.0, most.1);
    (most.1 >= SHARE).then_some(most.0)
}

#[cfg(test)]
mod tests {
    use super::super::background::BackgroundCard;
    use super::*;

    /// A background of two clusters and something in between, and the point of an embedding there.
    fn background() -> Background {
        let card = BackgroundCard {
            embedder: "e".to_owned(),
            sha256: "00".to_owned(),
            windows: 60,
            hop_s: 1.0,
            material: "points".to_owned(),
            licence: "Apache-2.0".to_owned(),
            labels: ["rooster", "rain", "_noise_"].map(str::to_owned).to_vec(),
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut vectors = Vec::new();
        let mut labels = Vec::new();
        for (label, middle) in [(0, [4.0, 0.0]), (1, [-4.0, 0.0]), (2, [0.0, 6.0])] {
            for _ in 0..20 {
                vectors.push(middle.map(|at: f32| at + rng.f32() - 0.5).to_vec());
                labels.push(label);
            }
        }
        Background::labelled(card, &vectors, &labels).unwrap()
    }

    fn check(at: [[f32; 2]; 2], expected: Option<&str>) {
        let background = background();
        let points = at.map(|at| vec![unit(background.place(&at))]);
        assert_eq!(kin(&background, &[&points[0], &points[1]]), expected);
    }

    #[test]
    fn the_label_that_most_neighbours_have_is_the_sound() {
        check([[4.1, 0.2], [3.9, -0.1]], Some("rooster"));
        check([[-4.1, 0.2], [-3.9, -0.1]], Some("rain"));
    }

    #[test]
    fn what_stands_for_all_sorts_of_things_is_no_kind() {
        check([[0.1, 6.0], [0.0, 6.2]], None);
    }

    #[test]
    fn examples_that_scatter_have_no_kind_and_a_background_without_labels_knows_none() {
        let three = [[4.0, 0.0], [-4.0, 0.0], [0.0, 6.0]];
        let background = background();
        let points = three.map(|at| vec![unit(background.place(&at))]);
        assert_eq!(kin(&background, &points.each_ref().map(|p| &p[..])), None);
        let plain = Background::of(
            BackgroundCard {
                labels: Vec::new(),
                ..background.card
            },
            &vec![vec![1.0, 0.0]; 20],
        )
        .unwrap();
        assert_eq!(kin(&plain, &[&[vec![1.0, 0.0]]]), None);
    }
}
