//! Which sound is a kind of which, and by which words people call it, after the ontology of AudioSet
//! (Gemmeke et al., 2017).
//!
//! The table stands in `models/audioset-ontology.tsv` and is written by the script beside it. A phrase
//! means sounds only when every word of it that matters is accounted for: "the dog days of summer" has a
//! dog in it and is no dog.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use super::words::{self, Clause, Word};

static ONTOLOGY: LazyLock<Ontology> =
    LazyLock::new(|| Ontology::parse(include_str!("../../../models/audioset-ontology.tsv")));

/// What everything is a kind of that may come from anything.
const NO_SOURCE: &str = "Source-ambiguous sounds";

/// One sound of the ontology.
#[derive(Debug)]
pub struct Sound {
    /// Machine id, such as `/m/0bt9lr`.
    pub mid: &'static str,
    /// Display name.
    pub name: &'static str,
    parents: Vec<usize>,
    children: Vec<usize>,
    /// Everything that is a kind of it, over any number of steps.
    kinds: BTreeSet<usize>,
}

/// Words for a sound.
#[derive(Debug)]
struct Term {
    sound: usize,
    /// Whether the sound only answers them, where nothing means them.
    is_loose: bool,
    stems: BTreeSet<String>,
    /// In their order, as they are spelt.
    plain: Vec<String>,
}

impl Term {
    fn new(sound: usize, text: &str) -> Self {
        let loose = text.strip_prefix('~');
        let words = loose.unwrap_or(text);
        Term {
            sound,
            is_loose: loose.is_some(),
            stems: words::stems(words),
            plain: words::telling(words).collect(),
        }
    }
}

/// All sounds; each is known by its place.
#[derive(Debug)]
pub struct Ontology {
    sounds: Vec<Sound>,
    terms: Vec<Term>,
    by_name: HashMap<String, usize>,
}

impl Ontology {
    /// The ontology.
    pub fn get() -> &'static Self {
        &ONTOLOGY
    }

    fn parse(table: &'static str) -> Self {
        let rows: Vec<[&'static str; 4]> = super::lines(table)
            .filter_map(|line| {
                let mut cells = line.split('\t');
                Some([cells.next()?, cells.next()?, cells.next()?, cells.next()?])
            })
            .collect();
        let places: HashMap<&str, usize> =
            rows.iter().zip(0..).map(|(row, at)| (row[0], at)).collect();
        let mut sounds: Vec<Sound> = rows
            .iter()
            .map(|[mid, name, parents, _]| Sound {
                mid,
                name,
                parents: parents
                    .split(',')
                    .filter_map(|mid| places.get(mid).copied())
                    .collect(),
                children: Vec::new(),
                kinds: BTreeSet::new(),
            })
            .collect();
        for at in 0..sounds.len() {
            for parent in sounds[at].parents.clone() {
                sounds[parent].children.push(at);
            }
        }
        for at in 0..sounds.len() {
            let mut open = sounds[at].children.clone();
            let mut kinds = BTreeSet::new();
            while let Some(kind) = open.pop() {
                if kinds.insert(kind) {
                    open.extend(&sounds[kind].children);
                }
            }
            sounds[at].kinds = kinds;
        }
        let terms = rows
            .iter()
            .zip(0..)
            .flat_map(|(row, sound)| row[3].split(';').map(move |text| Term::new(sound, text)))
            .filter(|term| !term.stems.is_empty())
            .collect();
        let by_name = rows
            .iter()
            .zip(0..)
            .map(|(row, at)| (row[1].to_lowercase(), at))
            .collect();
        Ontology {
            sounds,
            terms,
            by_name,
        }
    }

    /// The sounds, each at its place.
    pub fn sounds(&self) -> &[Sound] {
        &self.sounds
    }

    /// The sound that a label of a model names: by its display name, else by words that mean it alone.
    pub fn named(&self, label: &str) -> Option<usize> {
        if let Some(&at) = self.by_name.get(&label.to_lowercase()) {
            return Some(at);
        }
        match self.meant(label)[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The sounds that a phrase means; none where a word of it is not understood.
    ///
    /// Of words that say a sound in general and one in particular the particular one is meant: of "dog
    /// bark" the bark. What a phrase says of the place ("at the door") need not be understood.
    pub fn meant(&self, phrase: &str) -> Vec<usize> {
        self.read(phrase, false)
    }

    /// The sounds that a phrase means or is heard with: "running water" is no kind of water, but what
    /// knows water knows it.
    pub fn near(&self, phrase: &str) -> Vec<usize> {
        self.read(phrase, true)
    }

    fn read(&self, phrase: &str, loosely: bool) -> Vec<usize> {
        let name = phrase.trim().to_lowercase();
        let is_one_word = name.chars().all(char::is_alphanumeric);
        if let Some(&at) = self.by_name.get(&name).filter(|_| !is_one_word) {
            return vec![at];
        }
        if let Some(meant) = self.meant_by(&words::whole(phrase), loosely) {
            return meant;
        }
        let mut all = BTreeSet::new();
        for clause in words::clauses(phrase) {
            match self.meant_by(&clause, loosely) {
                Some(meant) => all.extend(meant),
                None => return Vec::new(),
            }
        }
        self.most_special(all)
    }

    /// Whether a phrase has words for `sound` in it, whatever else it says.
    pub fn is_named_in(&self, sound: usize, phrase: &str) -> bool {
        let stems = words::stems(phrase);
        let mut terms = self.terms.iter().filter(|term| term.sound == sound);
        terms.any(|term| term.stems.is_subset(&stems))
    }

    /// The sounds of one clause, where all of it is understood.
    fn meant_by(&self, clause: &Clause, loosely: bool) -> Option<Vec<usize>> {
        let all: Vec<&Word> = clause.what.iter().chain(&clause.place).collect();
        let found = self.terms_in(&all, loosely);
        let says =
            |term: &Term, words: &[Word]| words.iter().any(|word| term.stems.contains(&word.stem));
        let accounted =
            |word: &Word| !word.matters || found.iter().any(|term| term.stems.contains(&word.stem));
        let heard: Vec<&&Term> = found
            .iter()
            .filter(|term| says(term, &clause.what))
            .collect();
        if heard.is_empty() || !clause.what.iter().all(accounted) {
            return None;
        }
        let mut meant: BTreeSet<usize> = heard.iter().map(|term| term.sound).collect();
        // "Music from a church organ" is the organ.
        for term in &found {
            let is_special = heard
                .iter()
                .any(|heard| self.is_kind_of(term.sound, heard.sound));
            if is_special {
                meant.insert(term.sound);
            }
        }
        // Of "a smoke detector beeping" the detector is meant, not all that beeps.
        if meant.iter().any(|&at| !self.is_of_no_source(at)) {
            meant.retain(|&at| !self.is_of_no_source(at));
        }
        Some(self.most_special(meant))
    }

    /// Whether a sound says only how something sounds, such as a beep, and not what it comes from.
    fn is_of_no_source(&self, sound: usize) -> bool {
        match self.parents(sound) {
            [] => self.sounds[sound].name == NO_SOURCE,
            parents => parents.iter().all(|&parent| self.is_of_no_source(parent)),
        }
    }

    /// The terms whose words are all among `words`, without those that a longer one has in it, and of
    /// those for the same words the ones that are spelt as they are.
    fn terms_in(&self, words: &[&Word], loosely: bool) -> Vec<&Term> {
        let stems: HashSet<&str> = words.iter().map(|word| word.stem.as_str()).collect();
        let found: Vec<&Term> = self
            .terms
            .iter()
            .filter(|term| loosely || !term.is_loose)
            .filter(|term| {
                let mut own = term.stems.iter();
                own.all(|stem| stems.contains(stem.as_str()))
            })
            .collect();
        let is_spelt = |term: &Term| {
            let mut rest = words.iter();
            let mut follows = |word: &String| rest.any(|other| other.plain == *word);
            term.plain.iter().all(&mut follows)
        };
        let kept = |term: &&&Term| {
            found.iter().all(|other| {
                let is_within = term.stems.is_subset(&other.stems);
                let is_same = is_within && term.stems.len() == other.stems.len();
                match is_same {
                    true => is_spelt(term) || !is_spelt(other),
                    false => !is_within,
                }
            })
        };
        found.iter().filter(kept).copied().collect()
    }

    /// Without those of which another one is a kind.
    fn most_special(&self, sounds: BTreeSet<usize>) -> Vec<usize> {
        let is_general = |&at: &usize| {
            let mut others = sounds.iter().filter(|other| **other != at);
            others.any(|&other| self.is_kind_of(other, at))
        };
        sounds
            .iter()
            .copied()
            .filter(|at| !is_general(at))
            .collect()
    }

    /// Whether `sound` is a kind of `other`, over any number of steps; not of itself.
    pub fn is_kind_of(&self, sound: usize, other: usize) -> bool {
        self.kinds_of(other).contains(&sound)
    }

    /// Everything that is a kind of `sound`.
    pub fn kinds_of(&self, sound: usize) -> &BTreeSet<usize> {
        static NONE: BTreeSet<usize> = BTreeSet::new();
        self.sounds.get(sound).map_or(&NONE, |sound| &sound.kinds)
    }

    /// What `sound` is directly a kind of.
    pub fn parents(&self, sound: usize) -> &[usize] {
        self.sounds.get(sound).map_or(&[], |sound| &sound.parents)
    }

    /// What is directly a kind of `sound`.
    pub fn children(&self, sound: usize) -> &[usize] {
        self.sounds.get(sound).map_or(&[], |sound| &sound.children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::audioset::{audioset_labels, yamnet_labels};

    fn names(phrase: &str) -> Vec<&'static str> {
        let ontology = Ontology::get();
        let meant = ontology.meant(phrase);
        meant.iter().map(|&at| ontology.sounds()[at].name).collect()
    }

    #[test]
    fn the_table_is_whole_and_a_tree_with_shared_branches() {
        let ontology = Ontology::get();
        assert_eq!(ontology.sounds().len(), 632);
        let roots: Vec<&str> = ontology
            .sounds()
            .iter()
            .filter(|sound| sound.parents.is_empty())
            .map(|sound| sound.name)
            .collect();
        assert_eq!(
            roots,
            [
                "Human sounds",
                "Animal",
                "Music",
                "Natural sounds",
                "Sounds of things",
                "Source-ambiguous sounds",
                "Channel, environment and background"
            ]
        );
        for at in 0..632 {
            assert!(
                !ontology.is_kind_of(at, at),
                "{}",
                ontology.sounds()[at].name
            );
        }
    }

    #[test]
    fn every_label_of_the_published_models_is_in_it() {
        let ontology = Ontology::get();
        for label in audioset_labels() {
            let at = ontology.named(label.name).unwrap();
            assert_eq!(ontology.sounds()[at].mid, label.mid);
        }
        for label in yamnet_labels() {
            let at = ontology.named(label).unwrap();
            assert_eq!(ontology.sounds()[at].name, *label);
        }
    }

    #[test]
    fn phrases_mean_sounds_when_every_word_is_understood() {
        let check =
            |phrase: &str, expected: &[&str]| assert_eq!(names(phrase), expected, "{phrase}");
        check("dog bark", &["Bark"]);
        check("The sound of dogs barking loudly.", &["Bark"]);
        check("a dog", &["Dog"]);
        check("someone knocking at the door", &["Knock"]);
        check("someone at the door knocking", &["Knock"]);
        check("smoke alarm", &["Smoke detector, smoke alarm"]);
        check("car alarm", &["Car alarm"]);
        check("water running", &["Water tap, faucet"]);
        check("a church bell ringing", &["Church bell"]);
        check("music playing in the next room", &["Music"]);
        check("a smoke alarm going off", &["Smoke detector, smoke alarm"]);
        check("a rooster", &["Chicken, rooster"]);
        check("drum and bass music", &["Drum and bass"]);
        check("glass breaking", &["Shatter"]);
        check("a baby crying in the next room", &["Baby cry, infant cry"]);
        check("a child crying", &["Crying, sobbing"]);
        check("a phone is ringing", &["Telephone bell ringing"]);
        check("a person whistling", &["Whistling"]);
        check("rain on a tent", &["Rain"]);
        check("rain on the roof", &["Rain on surface"]);
        check("music from a church organ", &["Organ"]);
        check("guitar music", &["Guitar"]);
        check("a guitar amplifier", &["Guitar amplifier"]);
        check("cats and dogs", &["Dog", "Cat"]);
        check("thunder and lightning", &["Thunder"]);
        check("a vacuum cleaner", &["Vacuum cleaner"]);
        check("someone typing on a keyboard", &["Computer keyboard"]);
        check("Chicken, rooster", &["Chicken, rooster"]);
        check("a smoke detector beeping", &["Smoke detector, smoke alarm"]);
        check("beeping", &["Beep, bleep"]);
        check("a door creaking", &["Creak"]);
        check("a dentist's drill", &["Dental drill, dentist's drill"]);
    }

    #[test]
    fn phrases_with_a_word_that_is_not_understood_mean_nothing() {
        for phrase in [
            "the dog days of summer",
            "hot dog",
            "a washing machine beeping",
            "a vintage tube guitar amplifier",
            "the hum of a fridge",
            "a dog and a kangaroo",
            "car bar",
            "a loud sound",
            "someone",
            "",
            "!?",
            "лай собаки",
        ] {
            assert_eq!(names(phrase), Vec::<&str>::new(), "{phrase}");
        }
    }

    #[test]
    fn a_sound_may_answer_what_it_does_not_mean() {
        let ontology = Ontology::get();
        let near = |phrase: &str| -> Vec<&str> {
            let near = ontology.near(phrase);
            near.iter().map(|&at| ontology.sounds()[at].name).collect()
        };
        assert_eq!(near("water running"), ["Water", "Water tap, faucet"]);
        assert_eq!(near("a shower"), ["Water"]);
        assert!(ontology.meant("a shower").is_empty());
        assert_eq!(near("a shower of sparks"), Vec::<&str>::new());
        assert_eq!(near("dog bark"), ["Bark"]);
    }

    #[test]
    fn kinds_go_over_all_steps() {
        let ontology = Ontology::get();
        let at = |name: &str| ontology.named(name).unwrap();
        assert!(ontology.is_kind_of(at("Bark"), at("Animal")));
        assert!(!ontology.is_kind_of(at("Animal"), at("Bark")));
        // Under two branches.
        for parent in ["Alarm", "Door"] {
            assert!(ontology.is_kind_of(at("Ding-dong"), at(parent)), "{parent}");
        }
    }
}
