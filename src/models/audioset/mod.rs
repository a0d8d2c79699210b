//! The labels of AudioSet, in the two orders that published models use, and its ontology.
//!
//! Gemmeke et al., *Audio Set: An ontology and human-labeled dataset for audio events* (ICASSP 2017);
//! the tables stand in `models/` with their source and licence in the first lines.

mod ontology;
mod words;

pub use ontology::{Ontology, Sound};

use std::sync::LazyLock;

/// One label of the 527 that AudioSet is annotated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudiosetLabel {
    /// Machine id in the ontology, such as `/m/09x0r`.
    pub mid: &'static str,
    /// Display name.
    pub name: &'static str,
}

static YAMNET: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| lines(include_str!("../../../models/audioset-yamnet.txt")).collect());

static ALL: LazyLock<Vec<AudiosetLabel>> = LazyLock::new(|| {
    lines(include_str!("../../../models/audioset-527.tsv"))
        .filter_map(|line| {
            let (_, label) = line.split_once('\t')?;
            let (mid, name) = label.split_once('\t')?;
            Some(AudiosetLabel { mid, name })
        })
        .collect()
});

fn lines(table: &'static str) -> impl Iterator<Item = &'static str> {
    table.lines().filter(|line| !line.starts_with('#'))
}

/// The display names of YAMNet's 521 classes, in the order of its scores.
pub fn yamnet_labels() -> &'static [&'static str] {
    &YAMNET
}

/// The 527 labels in the order of `class_labels_indices.csv`, which AST and EfficientAT score.
pub fn audioset_labels() -> &'static [AudiosetLabel] {
    &ALL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole_and_in_order() {
        let (yamnet, all) = (yamnet_labels(), audioset_labels());
        assert_eq!((yamnet.len(), all.len()), (521, 527));
        assert_eq!((yamnet[0], yamnet[520]), ("Speech", "Field recording"));
        assert_eq!(yamnet[1], "Child speech, kid speaking");
        assert_eq!((all[0].mid, all[0].name), ("/m/09x0r", "Speech"));
        assert_eq!(
            (all[526].mid, all[526].name),
            ("/m/07hvw1", "Field recording")
        );
        for (index, line) in lines(include_str!("../../../models/audioset-527.tsv")).enumerate() {
            assert!(line.starts_with(&format!("{index}\t/")), "{line}");
        }
    }
}
