//! From keywords to sentences: what a text tower is asked, in the manner of what it was trained with.
//!
//! CLAP learnt from captions, so a bare keyword is off its track. Wu et al. (*Large-Scale Contrastive
//! Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation*, 2023) let a
//! language model write captions from keywords; here rules do it: articles, -ing forms and three
//! templates, whose embeddings are to be averaged. What is a sentence already stays as it is, and what is
//! no English that the rules understand goes into the templates without grammar. The rules know sounds
//! and who makes them; they are no parser of English, and they translate nothing.

mod grammar;
mod inflection;
mod lexicon;

use grammar::{Meaning, is_verb_at, meaning, small};
use lexicon::Verb;

/// The most of several names for one sound that are put into sentences: `livestock, farm animals`.
const MAX_NAMES: usize = 4;
/// A phrase of more words than this is a description already, whatever it is made of.
const MAX_WORDS: usize = 12;
/// A phrase of at least this many words, an article or a person and a verb is a sentence.
const SENTENCE_WORDS: usize = 4;

/// Names that no rule makes sense of, in small letters, and what they mean.
const MEANINGS: [(&str, &str); 11] = [
    ("inside, small room", "a small room"),
    ("inside, large room or hall", "a large room"),
    ("inside, public space", "a public space"),
    ("outside, urban or manmade", "a city street"),
    ("outside, rural or natural", "the countryside"),
    ("change ringing (campanology)", "ringing of church bells"),
    ("jingle (music)", "a jingle"),
    ("rattle (instrument)", "a rattle"),
    ("fill (with liquid)", "filling with liquid"),
    (
        "bathtub (filling or washing)",
        "a bathtub filling with water",
    ),
    ("sink (filling or washing)", "a sink filling with water"),
];

/// The sentences that stand for `phrase`: itself where it is one, else what the templates make of it.
///
/// Never empty, the same for the same phrase, each sentence once; two or three for each name that the
/// phrase gives, of which commas stand between.
///
/// ```
/// use harkd::models::prompt::sentence::sentences;
///
/// let expected = ["The sound of a dog barking.", "A dog is barking.", "This is a sound of a dog barking."];
/// assert_eq!(sentences("dog bark"), expected);
/// assert_eq!(sentences("someone knocking at the door"), ["someone knocking at the door"]);
/// ```
pub fn sentences(phrase: &str) -> Vec<String> {
    let spaced = phrase.replace('_', " ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let bare = words.join(" ");
    if bare.is_empty() || is_sentence(&bare) {
        return vec![phrase.trim().to_owned()];
    }
    let lower = bare.to_lowercase();
    let known = MEANINGS.iter().find(|(name, _)| *name == lower);
    let bare = known.map_or(bare, |(_, meaning)| (*meaning).to_owned());
    let mut sentences: Vec<String> = Vec::new();
    for name in names(&bare) {
        for sentence in templates(meaning(&name)) {
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    }
    if sentences.is_empty() {
        // Nothing but commas and brackets.
        sentences.push(bare);
    }
    sentences
}

/// The templates with what was meant in them.
fn templates(meaning: Meaning) -> Vec<String> {
    let (what, second) = match meaning {
        Meaning::Doing { who, many, what } => {
            let is = if many { "are" } else { "is" };
            (format!("{who} {what}"), Some(format!("{who} {is} {what}")))
        }
        Meaning::Done {
            what,
            who: Some(who),
        } => {
            let second = format!("{who} is {what}");
            (what, Some(second))
        }
        Meaning::Done { what, who: None } | Meaning::Thing(what) => {
            let second = format!("{what} can be heard");
            (what, Some(second))
        }
        Meaning::Other(what) => (what, None),
    };
    let mut sentences = vec![format!("The sound of {what}.")];
    sentences.extend(second.map(|second| format!("{}.", capitalised(&second))));
    sentences.push(format!("This is a sound of {what}."));
    sentences
}

/// `text` with a capital first.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}

/// Whether a phrase is a sentence, or a description as long as one.
fn is_sentence(phrase: &str) -> bool {
    let ends = [
        '.', '!', '?', '\u{2026}', '\u{3002}', '\u{ff01}', '\u{ff1f}', '\u{0964}', '\u{061f}',
    ];
    let cut_short = phrase.to_lowercase();
    let cut_short = cut_short.ends_with("etc.");
    let words = small(phrase);
    if (phrase.ends_with(ends) && !cut_short) || words.len() > MAX_WORDS {
        return true;
    }
    if words.len() > 2 && words.iter().skip(1).any(|word| lexicon::is_auxiliary(word)) {
        return true;
    }
    let has_subject = |word: &String| lexicon::is_determiner(word) || lexicon::is_person(word);
    let (Some(at), true) = (
        words.iter().position(has_subject),
        words.len() >= SENTENCE_WORDS,
    ) else {
        return false;
    };
    // The verb comes after who does it, and what it is done to or where after the verb.
    let after_subject = at + 1 + usize::from(lexicon::is_determiner(&words[at]));
    let mut rest = words.iter().enumerate().skip(after_subject);
    let has_article = words.iter().any(|word| lexicon::is_determiner(word));
    has_article
        && rest.any(|(at, word)| {
            let finite = lexicon::base_of_finite(word).is_some() && at + 1 < words.len();
            finite || is_verb_at(&words, at)
        })
}

/// The names that a phrase gives, between commas; words in brackets go where they belong.
fn names(phrase: &str) -> Vec<String> {
    let phrase = bracketed(phrase);
    let lower = phrase.to_lowercase();
    // One list of things: dishes, pots, and pans.
    if lower.contains(", and ") || lower.contains(", or ") {
        return vec![phrase];
    }
    phrase
        .split([',', ';'])
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty() && !name.to_lowercase().starts_with("etc"))
        .take(MAX_NAMES)
        .collect()
}

/// `phrase` with its brackets resolved: what is done joins whom it is done by or to, `coin (dropping)`,
/// `whimper (dog)`, `chopping (food)`; what only explains is left out.
fn bracketed(phrase: &str) -> String {
    let Some((before, rest)) = phrase.split_once('(') else {
        return phrase.to_owned();
    };
    let (inside, after) = rest.split_once(')').unwrap_or((rest, ""));
    let (before, inside) = (before.trim(), inside.trim().to_lowercase());
    let is_word = !inside.is_empty() && !inside.contains([' ', ',']);
    let last = small(before).pop().unwrap_or_default();
    let verb = lexicon::verb_of_gerund(&last);
    let joined = if !is_word {
        before.to_owned()
    } else if lexicon::verb_of_gerund(&inside).is_some() || inside == "siren" {
        format!("{before} {inside}")
    } else if lexicon::is_person(&inside) && lexicon::verb(&last).is_some() {
        format!("{inside} {before}")
    } else if verb == Some(Verb::Hand) && lexicon::is_mass(&inside) {
        format!("{before} {inside}")
    } else {
        before.to_owned()
    };
    format!("{joined}{after}").trim().to_owned()
}

#[cfg(test)]
mod tests;
