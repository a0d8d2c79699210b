//! Words of a phrase as they are compared: in small letters, without articles, endings taken off.
//!
//! The endings are those of plurals, of -ing and -ed forms and of a last -e or -y, after the first step of
//! Porter, *An algorithm for suffix stripping*, Program 14(3), 1980. It is enough that two forms of a word
//! meet; what is left need not be a word.

use std::collections::BTreeSet;

/// Words that say nothing of a sound.
const EMPTY: [&str; 42] = [
    "a", "an", "the", "some", "any", "my", "your", "his", "her", "its", "our", "their", "this",
    "that", "these", "those", "is", "are", "was", "were", "be", "being", "been", "it", "there",
    "of", "i", "we", "you", "he", "she", "they", "can", "has", "have", "which", "who", "as", "s",
    "t", "very", "also",
];
/// Words that say who or how, and that a phrase may have beside a sound without being another sound.
const SIDE: [&str; 66] = [
    "sound",
    "noise",
    "someone",
    "somebody",
    "something",
    "person",
    "people",
    "man",
    "men",
    "woman",
    "women",
    "boy",
    "girl",
    "child",
    "children",
    "kid",
    "human",
    "neighbour",
    "neighbor",
    "loud",
    "quiet",
    "soft",
    "faint",
    "distant",
    "nearby",
    "near",
    "far",
    "away",
    "close",
    "next",
    "door's",
    "big",
    "small",
    "little",
    "large",
    "old",
    "young",
    "new",
    "outside",
    "outdoors",
    "inside",
    "indoors",
    "again",
    "repeatedly",
    "suddenly",
    "loudly",
    "quietly",
    "softly",
    "slowly",
    "quickly",
    "playing",
    "going",
    "goes",
    "off",
    "coming",
    "making",
    "makes",
    "happening",
    "real",
    "single",
    "several",
    "many",
    "two",
    "three",
    "hear",
    "heard",
];
/// Words after which a phrase says where, and no longer what.
const PLACE: [&str; 22] = [
    "on", "in", "at", "from", "by", "under", "over", "against", "into", "onto", "through",
    "behind", "beside", "near", "outside", "inside", "across", "along", "around", "about", "to",
    "during",
];
/// Words between two sounds.
const BETWEEN: [&str; 8] = [
    "and", "or", "while", "then", "with", "plus", "followed", "but",
];

/// A word of a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Without its ending.
    pub stem: String,
    /// In small letters.
    pub plain: String,
    /// Whether a sound must account for it.
    pub matters: bool,
}

/// A part of a phrase between `and`, `or` and commas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clause {
    /// What is heard.
    pub what: Vec<Word>,
    /// Where, as far as it says so.
    pub place: Vec<Word>,
}

/// The words of a text that tell of a sound, in small letters.
pub fn telling(text: &str) -> impl Iterator<Item = String> {
    plain_words(text).filter(|word| {
        let mut lists = [&EMPTY[..], &PLACE, &BETWEEN].into_iter();
        lists.all(|list| !list.contains(&word.as_str()))
    })
}

/// The words for a sound, as a set of stems.
pub fn stems(text: &str) -> BTreeSet<String> {
    telling(text).map(|word| stem(&word)).collect()
}

/// All of a phrase as one clause: what may be one sound with an `and` in it.
pub fn whole(phrase: &str) -> Clause {
    clause(plain_words(phrase).filter(|word| !BETWEEN.contains(&word.as_str())))
}

/// The clauses of a phrase.
pub fn clauses(phrase: &str) -> Vec<Clause> {
    let marked = phrase.replace([',', ';', '/', '&'], " and ");
    let words: Vec<String> = plain_words(&marked).collect();
    words
        .split(|word| BETWEEN.contains(&word.as_str()))
        .map(|words| clause(words.iter().cloned()))
        .filter(|clause| !clause.what.is_empty() || !clause.place.is_empty())
        .collect()
}

fn clause(words: impl Iterator<Item = String>) -> Clause {
    let mut clause = Clause::default();
    let mut is_place = false;
    for word in words {
        if PLACE.contains(&word.as_str()) && clause.what.iter().any(|word| word.matters) {
            is_place = true;
            continue;
        }
        if EMPTY.contains(&word.as_str()) || PLACE.contains(&word.as_str()) {
            continue;
        }
        let stem = stem(&word);
        let is_side = SIDE.contains(&word.as_str()) || SIDE.contains(&stem.as_str());
        let word = Word {
            stem,
            plain: word,
            matters: !is_side,
        };
        match is_place {
            true => clause.place.push(word),
            false => clause.what.push(word),
        }
    }
    clause
}

/// Letters and digits between everything else, in small letters; `'s` is no word.
fn plain_words(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase().replace('\u{2019}', "'");
    let words: Vec<String> = lower
        .replace("'s ", " ")
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    words.into_iter()
}

/// A word without its ending.
fn stem(word: &str) -> String {
    if !word.is_ascii() {
        return word.to_owned();
    }
    let mut stem = singular(word);
    for ending in ["ing", "ed"] {
        if let Some(rest) = stem.strip_suffix(ending)
            && rest.len() > 2
            && rest.contains(is_vowel)
        {
            stem = undoubled(rest).to_owned();
            break;
        }
    }
    // Breaking and break, sneezing and sneeze, cries and cry.
    if stem.len() > 3
        && let Some(rest) = stem.strip_suffix('e')
    {
        return rest.to_owned();
    }
    match stem.strip_suffix('y') {
        Some(rest) if rest.len() > 1 && !rest.ends_with(is_vowel) => format!("{rest}i"),
        _ => stem,
    }
}

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u' | 'y')
}

fn singular(word: &str) -> String {
    for (ending, instead) in [
        ("sses", "ss"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("ies", "y"),
        ("ss", "ss"),
        ("us", "us"),
        ("is", "is"),
        ("s", ""),
    ] {
        if let Some(rest) = word.strip_suffix(ending) {
            if rest.len() < 2 || word.len() <= 3 {
                break;
            }
            return format!("{rest}{instead}");
        }
    }
    word.to_owned()
}

/// Running and run, but yelling and yell.
fn undoubled(word: &str) -> &str {
    let mut last = word.chars().rev();
    match (last.next(), last.next()) {
        (Some(a), Some(b)) if a == b && !is_vowel(a) && !matches!(a, 'l' | 's' | 'z') => {
            &word[..word.len() - 1]
        }
        _ => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_word_meet_and_different_words_do_not() {
        for forms in [
            &["bark", "barks", "barking", "barked"][..],
            &["cry", "cries", "crying", "cried"],
            &["run", "runs", "running"],
            &["yell", "yells", "yelling", "yelled"],
            &["buzz", "buzzing"],
            &["sneeze", "sneezes", "sneezing"],
            &["break", "breaking", "breaks"],
            &["glass", "glasses"],
            &["dish", "dishes"],
            &["siren", "sirens"],
            &["baby", "babies"],
            &["bus", "buses"],
            &["clap", "clapping"],
        ] {
            let met: BTreeSet<String> = forms.iter().map(|form| stem(form)).collect();
            assert_eq!(met.len(), 1, "{forms:?} {met:?}");
        }
        let apart = [
            "ring", "ringing", "string", "rain", "ran", "train", "car", "cat", "bell", "belch",
        ];
        let met: BTreeSet<String> = apart.iter().map(|form| stem(form)).collect();
        assert_eq!(
            met.len(),
            apart.len() - 1,
            "only ring and ringing meet: {met:?}"
        );
    }

    #[test]
    fn a_phrase_is_what_is_heard_and_where() {
        let check = |phrase: &str, what: &[&str], place: &[&str]| {
            let clause = whole(phrase);
            let words = |words: &[Word]| -> Vec<String> {
                let matter = words.iter().filter(|word| word.matters);
                matter.map(|word| word.plain.clone()).collect()
            };
            assert_eq!(words(&clause.what), what, "{phrase}");
            assert_eq!(words(&clause.place), place, "{phrase}");
        };
        check("The sound of a dog barking.", &["dog", "barking"], &[]);
        check("someone knocking at the door", &["knocking"], &["door"]);
        check("Rain on a tent", &["rain"], &["tent"]);
        check("at the door", &["door"], &[]);
        check("a dentist's drill", &["dentist", "drill"], &[]);
        check("in the distance", &["distance"], &[]);
        check("", &[], &[]);
    }

    #[test]
    fn clauses_stand_between_and_or_and_commas() {
        let firsts = |phrase: &str| -> Vec<String> {
            let clauses = clauses(phrase);
            clauses
                .iter()
                .map(|clause| clause.what[0].stem.clone())
                .collect()
        };
        assert_eq!(firsts("dishes, pots and pans"), ["dish", "pot", "pan"]);
        assert_eq!(firsts("cats/dogs or birds"), ["cat", "dog", "bird"]);
        assert!(firsts(", and or ;").is_empty());
    }

    #[test]
    fn words_of_other_alphabets_stay_as_they_are() {
        let clause = whole("лай собаки");
        assert_eq!(clause.what[0].stem, "лай");
        assert_eq!(whole("犬の鳴き声").what.len(), 1);
    }
}
