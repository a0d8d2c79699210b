//! What a checkpoint answers, guessed from its labels: a directory without a row does not say it.

use std::sync::Arc;

use super::labels::MINDS_14;
use crate::models::Task;

/// Some labels that checkpoints of a task have; three of them decide.
const TELLING: [(Task, &[&str]); 4] = [
    // Speech Commands (Warden, 2018).
    (
        Task::Keyword,
        &[
            "yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go",
        ],
    ),
    // GTZAN (Tzanetakis and Cook, 2002).
    (
        Task::Genre,
        &[
            "blues",
            "classical",
            "country",
            "disco",
            "hiphop",
            "jazz",
            "metal",
            "pop",
            "reggae",
            "rock",
        ],
    ),
    (Task::Intent, MINDS_14),
    // FLEURS and VoxLingua107, by name or code.
    (
        Task::Language,
        &[
            "english", "french", "german", "spanish", "hindi", "japanese", "russian", "arabic",
            "en", "fr", "de", "es", "hi", "ja", "ru", "ar", "en_us", "fr_fr", "de_de", "es_419",
            "hi_in", "ja_jp", "ru_ru",
        ],
    ),
];

/// The task of a model with these labels; events where nothing else is telling.
pub(super) fn task_of(labels: &[Arc<str>]) -> Task {
    TELLING
        .iter()
        .find(|(_, telling)| {
            labels
                .iter()
                .filter(|label| telling.contains(&label.to_lowercase().as_str()))
                .count()
                >= 3
        })
        .map_or(Task::Event, |(task, _)| *task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_tell_the_task() {
        for (labels, task) in [
            ("yes no go backward", Task::Keyword),
            ("Jazz Rock Metal", Task::Genre),
            ("abroad balance freeze x", Task::Intent),
            ("English Zulu French Hindi", Task::Language),
            ("Speech Music Rock", Task::Event),
            ("", Task::Event),
        ] {
            let labels: Vec<Arc<str>> = labels.split(' ').map(Arc::from).collect();
            assert_eq!(task_of(&labels), task, "{labels:?}");
        }
    }
}
