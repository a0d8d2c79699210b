//! Prompts without CLAP: the labels of other models that mean the same, by the ontology of AudioSet.

use std::sync::Arc;

use super::Prompt;

/// The labels, as places in `known_labels`, that answer a prompt; none where no label means it.
pub fn labels_for(prompt: &Prompt, known_labels: &[Arc<str>]) -> Vec<usize> {
    (0..known_labels.len())
        .filter(|&at| {
            prompt
                .phrases
                .iter()
                .any(|phrase| phrase.eq_ignore_ascii_case(&known_labels[at]))
        })
        .collect()
}

/// The places in the background of phrases for the same sound as a prompt, for kinds of it and for what
/// it is a kind of.
pub(super) fn kin_in_background(_prompt: &Prompt) -> Vec<usize> {
    Vec::new()
}
