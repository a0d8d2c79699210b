//! Prompts without CLAP: the labels of other models that mean the same, by the ontology of AudioSet.
//!
//! A sound that a phrase means is answered, in this order,
//! - by the label for it;
//! - by the labels for kinds of it, the most general of them, if they are of more than a third of its
//!   direct kinds (`ENOUGH`): an animal by the dog, the cat and the bird, but a car not by its horn alone;
//! - by the label for what it is directly a kind of, if that is narrow (`NARROW`), or over more steps if
//!   the phrase names it too: a bark by the dog, "birds chirping" by the bird. A guitar is not answered by
//!   music, nor an owl by the bird: too much else would be.
//!
//! What no label answers so is answered by that of a sound that it is heard with: running water by water.
//! A phrase that is not understood to its last word has no answer: "the dog days of summer" is no dog. A
//! prompt is answered by the labels of all its phrases that have some.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use super::{Prompt, background};
use crate::models::audioset::Ontology;

/// The most kinds that a sound may have to stand for one of them that a phrase does not name it with.
/// Dog (7), bell (8) and gunshot (4) are within, bird (11), engine (11) and music (over 200) beyond.
const NARROW: usize = 8;
/// More than one of this many direct kinds of a sound must have a label for them to stand for it.
const ENOUGH: usize = 3;
/// As [`NARROW`], where the phrase names both.
const NARROW_NAMED: usize = 12;

/// The labels, as places in `known_labels`, that answer a prompt; none where no label means it.
pub fn labels_for(prompt: &Prompt, known_labels: &[Arc<str>]) -> Vec<usize> {
    let ontology = Ontology::get();
    let known = Known::new(ontology, known_labels);
    let mut labels = BTreeSet::new();
    for phrase in &prompt.phrases {
        let mut answers = known.answer(&ontology.meant(phrase), phrase);
        if answers.is_empty() {
            answers = known.answer(&ontology.near(phrase), phrase);
        }
        labels.extend(answers);
    }
    labels.into_iter().collect()
}

/// The labels of a model in the ontology.
struct Known {
    ontology: &'static Ontology,
    /// Places of labels by their sound.
    labels: HashMap<usize, Vec<usize>>,
}

impl Known {
    fn new(ontology: &'static Ontology, known_labels: &[Arc<str>]) -> Self {
        let mut labels: HashMap<usize, Vec<usize>> = HashMap::new();
        for (place, label) in known_labels.iter().enumerate() {
            if let Some(sound) = ontology.named(label) {
                labels.entry(sound).or_default().push(place);
            }
        }
        Known { ontology, labels }
    }

    fn of(&self, sound: usize) -> &[usize] {
        self.labels.get(&sound).map_or(&[], Vec::as_slice)
    }

    fn answer(&self, sounds: &[usize], phrase: &str) -> Vec<usize> {
        let answers = sounds
            .iter()
            .flat_map(|&sound| self.answer_one(sound, phrase));
        answers.collect()
    }

    fn answer_one(&self, sound: usize, phrase: &str) -> Vec<usize> {
        if !self.of(sound).is_empty() {
            return self.of(sound).to_vec();
        }
        let kinds = self.kinds(sound);
        if !kinds.is_empty() {
            return kinds;
        }
        self.above(sound, phrase)
    }

    /// The labels of kinds of a sound, where they are of enough of its direct kinds.
    fn kinds(&self, sound: usize) -> Vec<usize> {
        let (mut labels, mut covered) = (BTreeSet::new(), 0);
        let children = self.ontology.children(sound);
        for &child in children {
            let own = self.most_general(child);
            covered += usize::from(!own.is_empty());
            labels.extend(own);
        }
        if covered * ENOUGH <= children.len() {
            return Vec::new();
        }
        labels.into_iter().collect()
    }

    /// The labels of a sound, else those of its kinds; of a kind that has one, not those of its own kinds.
    fn most_general(&self, sound: usize) -> BTreeSet<usize> {
        let (mut labels, mut seen, mut open) = (BTreeSet::new(), BTreeSet::new(), vec![sound]);
        while let Some(at) = open.pop() {
            match self.of(at) {
                [] if seen.insert(at) => open.extend(self.ontology.children(at)),
                own => labels.extend(own),
            }
        }
        labels
    }

    /// The labels of what a sound is a kind of, as far as they may stand for it.
    fn above(&self, sound: usize, phrase: &str) -> Vec<usize> {
        let breadth = |at: usize| self.ontology.kinds_of(at).len();
        let parents = self.ontology.parents(sound).iter().copied();
        let mut labels: BTreeSet<usize> = parents
            .filter(|&parent| breadth(parent) <= NARROW)
            .flat_map(|parent| self.of(parent).to_vec())
            .collect();
        if labels.is_empty() {
            let named = self.labels.keys().copied().filter(|&at| {
                self.ontology.is_kind_of(sound, at)
                    && breadth(at) <= NARROW_NAMED
                    && self.ontology.is_named_in(at, phrase)
            });
            labels = named.flat_map(|at| self.of(at).to_vec()).collect();
        }
        labels.into_iter().collect()
    }
}

/// What the phrases of the background mean.
static BACKGROUND: LazyLock<Vec<Vec<usize>>> = LazyLock::new(|| {
    let phrases = background().iter();
    phrases
        .map(|phrase| Ontology::get().meant(phrase))
        .collect()
});

/// The places in the background of phrases for the same sound as a prompt, for kinds of it and for what
/// it is a kind of.
pub(super) fn kin_in_background(prompt: &Prompt) -> Vec<usize> {
    let ontology = Ontology::get();
    let own: BTreeSet<usize> = prompt
        .phrases
        .iter()
        .flat_map(|phrase| ontology.meant(phrase))
        .collect();
    let is_kin =
        |a: usize, b: usize| a == b || ontology.is_kind_of(a, b) || ontology.is_kind_of(b, a);
    let phrases = BACKGROUND.iter().enumerate();
    phrases
        .filter(|(_, meant)| meant.iter().any(|&a| own.iter().any(|&b| is_kin(a, b))))
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::audioset::{audioset_labels, yamnet_labels};
    use crate::models::registry::{find, labels_of};

    fn prompt(phrases: &[&str]) -> Prompt {
        Prompt {
            name: "prompt".into(),
            phrases: phrases.iter().map(ToString::to_string).collect(),
            threshold: 0.5,
        }
    }

    fn own() -> Vec<Arc<str>> {
        let labels = labels_of(find("hark-event").unwrap());
        labels.into_iter().map(Arc::from).collect()
    }

    #[track_caller]
    fn check(labels: &[Arc<str>], phrases: &[&str], expected: &[&str]) {
        let found = labels_for(&prompt(phrases), labels);
        let names: Vec<&str> = found.iter().map(|&at| &*labels[at]).collect();
        assert_eq!(names, expected, "{phrases:?}");
    }

    #[test]
    fn the_embedded_model_answers_household_sounds() {
        let labels = own();
        assert_eq!(labels.len(), 31);
        let check = |phrase: &str, expected: &[&str]| check(&labels, &[phrase], expected);
        check("dog bark", &["Dog"]);
        check("barking", &["Dog"]);
        check("The sound of a dog barking.", &["Dog"]);
        check("someone knocking at the door", &["Knock"]);
        check("smoke alarm", &["Smoke detector, smoke alarm"]);
        check(
            "a smoke detector is beeping",
            &["Smoke detector, smoke alarm"],
        );
        check("water running", &["Water"]);
        check("glass breaking", &["Glass"]);
        check("baby crying", &["Baby cry, infant cry"]);
        check("birds chirping", &["Bird"]);
        check("a person talking", &["Speech"]);
        check("people talking", &["Speech"]);
        check("my doorbell", &["Doorbell"]);
        check("footsteps", &["Walk, footsteps"]);
        check("a clock ticking", &["Tick-tock"]);
        check("a rooster", &["Crowing, cock-a-doodle-doo"]);
        check("church bells", &["Bell"]);
        check("police siren", &["Siren"]);
        check("church bell ringing", &["Bell"]);
        check("music is playing", &["Music"]);
        check("a shower", &["Water"]);
        check("thunderstorm", &["Thunder"]);
        check("ocean", &["Waves, surf"]);
        check("a car engine", &["Engine"]);
        check("pets", &["Dog", "Cat"]);
        check(
            "alarm",
            &[
                "Smoke detector, smoke alarm",
                "Alarm clock",
                "Siren",
                "Doorbell",
                "Vehicle horn, car horn, honking",
            ],
        );
        check(
            "an animal",
            &["Dog", "Cat", "Bird", "Crowing, cock-a-doodle-doo"],
        );
    }

    #[test]
    fn what_the_embedded_model_does_not_know_has_no_answer() {
        let labels = own();
        for phrase in [
            "a vintage tube guitar amplifier",
            "guitar",
            "guitar music",
            "an owl hooting",
            "the dog days of summer",
            "hot dog",
            "a hot dog stand",
            "the water is cold",
            "an alarming development",
            "a washing machine beeping",
            "fire sale",
            "a car",
            "aircraft",
            "a musical instrument",
            "home sounds",
            "rain of criticism",
            "a train of thought",
            "",
        ] {
            check(&labels, &[phrase], &[]);
        }
        check(&labels, &[], &[]);
    }

    #[test]
    fn a_prompt_is_answered_by_the_labels_of_all_its_phrases() {
        let labels = own();
        check(
            &labels,
            &["a kangaroo", "cat meowing", "dog bark"],
            &["Dog", "Cat"],
        );
    }

    #[test]
    fn larger_models_answer_with_what_is_said() {
        let yamnet: Vec<Arc<str>> = yamnet_labels()
            .iter()
            .map(|label| Arc::from(*label))
            .collect();
        let all: Vec<Arc<str>> = audioset_labels()
            .iter()
            .map(|label| label.name.into())
            .collect();
        for labels in [&yamnet, &all] {
            check(labels, &["dog bark"], &["Bark"]);
            check(labels, &["glass breaking"], &["Shatter"]);
            check(labels, &["someone knocking at the door"], &["Knock"]);
            check(labels, &["smoke alarm"], &["Smoke detector, smoke alarm"]);
            check(labels, &["water running"], &["Water tap, faucet"]);
            check(labels, &["a rooster"], &["Chicken, rooster"]);
            check(labels, &["a car"], &["Car"]);
            check(labels, &["a baby crying"], &["Baby cry, infant cry"]);
            check(labels, &["an electric guitar"], &["Electric guitar"]);
            check(labels, &["a vintage tube guitar amplifier"], &[]);
            check(labels, &["the dog days of summer"], &[]);
        }
    }

    #[test]
    fn every_label_is_answered_by_itself() {
        for labels in [
            own(),
            audioset_labels()
                .iter()
                .map(|label| label.name.into())
                .collect(),
        ] {
            for (at, label) in labels.iter().enumerate() {
                let meant = Ontology::get().meant(label);
                // Names such as "Inside, small room" are no phrase for a sound.
                if !meant.is_empty() {
                    let found = labels_for(&prompt(&[label]), &labels);
                    assert!(found.contains(&at), "{label}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn labels_of_other_tasks_are_no_sounds() {
        let words: Vec<Arc<str>> = ["_unknown_", "no", "seven"].map(Arc::from).to_vec();
        check(&words, &["dog bark"], &[]);
    }
}
