//! What a keyword says: who does what, what is done, or which thing sounds; with articles and -ing.
//!
//! A keyword is a noun phrase, a verb, or both in this order (`dog bark`, `church bells ringing`), or a
//! verb and what it is done to (`brushing teeth`). The last word tells which; where it may be either, the
//! noun wins, which is never wrong English. The words are in [`super::lexicon`].

use super::inflection::{article, gerund, is_plural};
use super::lexicon::{self, Verb};

/// What is done to something follows it: `a drawer being opened`.
const PASSIVE: &str = "being";

/// What a keyword says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Someone or something does something: `a dog`, `barking`.
    Doing {
        /// With its article.
        who: String,
        /// Whether they are several.
        many: bool,
        /// From the -ing form on.
        what: String,
    },
    /// Something is done: `sneezing`.
    Done {
        /// From the -ing form on, or a noun before it: `finger snapping`.
        what: String,
        /// Who does it, where that goes without saying.
        who: Option<&'static str>,
    },
    /// A thing, with its article: `a car horn`.
    Thing(String),
    /// No English that is understood.
    Other(String),
}

/// Words as they are shown, and in small letters as the tables have them.
#[derive(Debug, Clone, Copy)]
struct Words<'a> {
    shown: &'a [String],
    small: &'a [String],
}

impl<'a> Words<'a> {
    fn len(self) -> usize {
        self.small.len()
    }

    fn is_empty(self) -> bool {
        self.small.is_empty()
    }

    /// The word at `at` in small letters.
    fn at(self, at: usize) -> Option<&'a str> {
        self.small.get(at).map(String::as_str)
    }

    /// Those before `at`, and those from it on.
    fn split_at(self, at: usize) -> (Words<'a>, Words<'a>) {
        let at = at.min(self.len());
        let part = |shown, small| Words { shown, small };
        let ((a, b), (c, d)) = (self.shown.split_at(at), self.small.split_at(at));
        (part(a, c), part(b, d))
    }

    fn from(self, at: usize) -> Words<'a> {
        self.split_at(at).1
    }

    fn join(self) -> String {
        self.shown.join(" ")
    }
}

/// The words of a text in small letters, without the marks around them.
pub fn small(text: &str) -> Vec<String> {
    let bare = |word: &str| {
        word.trim_matches(|c: char| !c.is_alphanumeric())
            .to_lowercase()
    };
    text.split_whitespace().map(bare).collect()
}

/// What one name says.
pub fn meaning(name: &str) -> Meaning {
    let is_shouted = !name.contains(char::is_lowercase);
    let in_text = |word: &str| in_sentence(word, is_shouted);
    let shown: Vec<String> = name.split_whitespace().map(in_text).collect();
    let small = small(name);
    let words = without_sound_of(Words {
        shown: &shown,
        small: &small,
    });
    if words.is_empty() || !is_understood(words) {
        return Meaning::Other(name.to_owned());
    }
    // Several things at once, or one again and again: no one article or verb is theirs.
    let has = |word| words.small.iter().any(|other| other == word);
    let is_repeated = words.len() > 1 && words.small.iter().all(|word| words.at(0) == Some(word));
    if has("and") || has("&") || has("") || is_repeated {
        return Meaning::Thing(words.join());
    }
    by_itself(words)
        .or_else(|| clause(words))
        .unwrap_or_else(|| Meaning::Thing(noun_phrase(words)))
}

/// A word as it stands within a sentence.
fn in_sentence(word: &str, is_shouted: bool) -> String {
    let mut rest = word.chars().skip(1);
    let is_odd = rest.any(char::is_uppercase) && !is_shouted;
    let lower = word.to_lowercase();
    let bare = lower.trim_matches(|c: char| !c.is_alphanumeric());
    let bare = bare.strip_suffix("'s").unwrap_or(bare);
    let is_word = is_known(bare) || lexicon::is_preposition(bare) || lexicon::is_determiner(bare);
    match lexicon::is_name(word) || is_odd || !is_word {
        true => word.to_owned(),
        false => lower,
    }
}

fn is_known(word: &str) -> bool {
    lexicon::is_known(word)
        || lexicon::base_of_finite(word).is_some()
        || lexicon::verb_of_gerund(word).is_some()
        || lexicon::is_adjective(word)
        || word.split('-').all(lexicon::is_known)
}

/// Words without `the sound of` before them, which the templates say.
fn without_sound_of(words: Words<'_>) -> Words<'_> {
    let skipped = usize::from(words.at(0).is_some_and(lexicon::is_determiner));
    let is_sound = matches!(
        words.at(skipped),
        Some("sound" | "sounds" | "noise" | "noises")
    );
    match is_sound && words.at(skipped + 1) == Some("of") && words.len() > skipped + 2 {
        true => words.from(skipped + 2),
        false => words,
    }
}

/// Whether the rules of English are for these words: some of them are English alone, or what they are
/// about is in the tables.
fn is_understood(words: Words<'_>) -> bool {
    let is_latin = |c: char| !c.is_alphabetic() || (c as u32) < 0x250;
    let mut all = words.small.iter();
    if all.any(|word| lexicon::is_foreign(word) || !word.chars().all(is_latin)) {
        return false;
    }
    if words.small.iter().any(|word| lexicon::is_english(word)) {
        return true;
    }
    let is_between = |word: &String| {
        lexicon::is_preposition(word) || lexicon::is_particle(word) || word == PASSIVE
    };
    let end = words.small.iter().skip(1).position(is_between);
    let head = end.unwrap_or(words.len().saturating_sub(1));
    words.at(head).is_some_and(is_known)
}

/// Whether the -ing form at `at` is what is done, and not what a noun after it is like.
pub fn is_verb_at(small: &[String], at: usize) -> bool {
    let ends = |next: &String| {
        lexicon::is_preposition(next)
            || lexicon::is_particle(next)
            || lexicon::is_determiner(next)
            || matches!(next.as_str(), "and" | "or" | "while" | "as")
    };
    let is_gerund = small
        .get(at)
        .is_some_and(|word| lexicon::verb_of_gerund(word).is_some());
    is_gerund && small.get(at + 1).is_none_or(ends)
}

/// A verb at the beginning, or with nothing before it but what it is like.
fn by_itself(words: Words<'_>) -> Option<Meaning> {
    let first = words.at(0)?;
    let like = words
        .small
        .iter()
        .take_while(|word| lexicon::is_adjective(word));
    let like = like.count().min(words.len() - 1);
    if like + 1 == words.len() {
        let (what, verb) = doing(words.at(like)?)?;
        // `hammer` and `drums` are things.
        let is_tool = lexicon::verb(words.at(like)?) == Some(Verb::Tool);
        if is_tool || is_finite(words.at(like)?) {
            return None;
        }
        let (before, _) = words.split_at(like);
        let base = lexicon::base_of_gerund(&what).unwrap_or_default();
        let is_whole = !matches!(verb, Verb::Hand | Verb::Tool) || lexicon::is_busy(base);
        let who = agent(verb).filter(|_| like == 0 && is_whole);
        let what = joined(&[&before.join(), &what]);
        return Some(Meaning::Done { what, who });
    }
    let later = (1..words.len()).any(|at| is_verb_at(words.small, at));
    let is_base = lexicon::verb(first) == Some(Verb::Hand);
    if !is_base && (lexicon::verb_of_gerund(first).is_none() || words.at(1) != Some("or") && later)
    {
        return None;
    }
    let (mut what, verb) = doing(first)?;
    let mut object = words.from(1);
    if object.at(0) == Some("or") {
        let (other, _) = doing(object.at(1)?)?;
        what = format!("{what} or {other}");
        object = object.from(2);
        let what = joined(&[&what, &object.join()]);
        return Some(Meaning::Done { what, who: None });
    }
    let next = object.at(0)?;
    let is_apart = lexicon::is_preposition(next) || lexicon::is_particle(next);
    if is_apart || (!is_base && lexicon::is_determiner(next)) {
        let what = joined(&[&what, &noun_phrase(object)]);
        return Some(Meaning::Done {
            what,
            who: agent(verb),
        });
    }
    let last = object.at(object.len() - 1)?;
    let is_object = matches!(verb, Verb::Hand | Verb::Tool) && !lexicon::is_made_for(last);
    // `chop wood`, and no `chop house`.
    let is_sure = !is_base || is_plural(last) || lexicon::is_mass(last) || first == "play";
    (is_object && is_sure).then(|| Meaning::Done {
        what: joined(&[&what, &noun_phrase(object)]),
        who: Some("someone"),
    })
}

/// A noun phrase, a verb after it, and what belongs to the verb.
fn clause(words: Words<'_>) -> Option<Meaning> {
    let at = (1..words.len()).rev().find(|at| is_predicate(words, *at))?;
    // `opening or closing` begins with its first verb.
    let at = match at > 2 && words.at(at - 1) == Some("or") && doing(words.at(at - 2)?).is_some() {
        true => at - 2,
        false => at,
    };
    let (who, rest) = words.split_at(at);
    let is_like = |word: &String| {
        lexicon::is_adjective(word)
            || lexicon::is_determiner(word)
            || lexicon::verb_of_gerund(word).is_some()
    };
    if who.small.iter().all(is_like) || lexicon::is_preposition(who.at(at - 1)?) {
        return None;
    }
    let (verb_form, verb) = doing(rest.at(0)?)?;
    let mut what = verb_form;
    let mut object = rest.from(1);
    if object.at(0) == Some("or") {
        let (other, _) = doing(object.at(1)?)?;
        what = format!("{what} or {other}");
        object = object.from(2);
    }
    let what = match rest.at(0) {
        Some(PASSIVE) => rest.join(),
        _ => joined(&[&what, &noun_phrase(object)]),
    };
    let mut names = who.small.iter();
    let is_person = names.any(|word| lexicon::is_person(word) || lexicon::is_determiner(word));
    if matches!(verb, Verb::Hand | Verb::Tool) && !is_person && object.is_empty() {
        // What is done to it: nobody types but on a keyboard.
        let what = joined(&[&who.join(), &what]);
        return Some(Meaning::Done { what, who: None });
    }
    let head = head_of(who);
    Some(Meaning::Doing {
        many: is_plural(head) || matches!(who.at(0), Some("two" | "three" | "several" | "many")),
        who: noun_phrase(who),
        what,
    })
}

/// Whether the word at `at` says what those before it do.
fn is_predicate(words: Words<'_>, at: usize) -> bool {
    let Some(word) = words.at(at) else {
        return false;
    };
    if is_verb_at(words.small, at) || (word == PASSIVE && at + 1 < words.len()) {
        return true;
    }
    let (who, rest) = words.split_at(at);
    let is_person = who.small.iter().any(|word| lexicon::is_person(word));
    let next = rest.at(1);
    if lexicon::verb_of_gerund(word).is_some() {
        // With an object: `wind rustling leaves`, and no `hand washing machine`.
        let last = rest.at(rest.len() - 1).unwrap_or_default();
        let is_object = is_person || is_plural(last) || lexicon::is_mass(last);
        return is_object && !lexicon::is_made_for(last);
    }
    let base = match lexicon::base_of_finite(word) {
        Some(base) if is_finite(word) => base,
        _ => word,
    };
    // `a mouse click` is one, and `the dogs bark` are none.
    let has_article = who.at(0).is_some_and(lexicon::is_determiner);
    if has_article && !is_finite(word) && !is_plural(head_of(who)) {
        return false;
    }
    let before = words.at(at - 1).unwrap_or_default();
    let does = match lexicon::verb(base) {
        Some(Verb::Voice | Verb::Call(_) | Verb::Thing) => true,
        Some(Verb::Hand) => is_person,
        _ => false,
    };
    let ends = |next: &str| {
        next == "or"
            || next != "of" && (lexicon::is_preposition(next) || lexicon::is_particle(next))
    };
    does && next.is_none_or(ends) && !lexicon::is_compound(before, word)
}

/// The -ing form of a verb in any of its forms, and what kind it is.
fn doing(word: &str) -> Option<(String, Verb)> {
    if let Some(verb) = lexicon::verb(word) {
        return Some((gerund(word), verb));
    }
    if let Some(verb) = lexicon::verb_of_gerund(word) {
        return Some((word.to_owned(), verb));
    }
    if word == PASSIVE {
        return Some((word.to_owned(), Verb::Thing));
    }
    let base = lexicon::base_of_finite(word)?;
    Some((gerund(base), lexicon::verb(base)?))
}

/// Whether it is the form after he, she and it, or a plural of the same spelling, and no other.
fn is_finite(word: &str) -> bool {
    lexicon::verb(word).is_none()
        && lexicon::verb_of_gerund(word).is_none()
        && lexicon::base_of_finite(word).is_some()
}

/// Who does it when nobody is named.
fn agent(verb: Verb) -> Option<&'static str> {
    match verb {
        Verb::Voice | Verb::Hand | Verb::Tool => Some("someone"),
        Verb::Call(who) => Some(who),
        Verb::Thing => None,
    }
}

/// Where the first preposition after a noun stands, or the end.
fn end_of_noun(words: Words<'_>) -> usize {
    let mut rest = words.small.iter().skip(1);
    rest.position(|word| lexicon::is_preposition(word))
        .map_or(words.len(), |at| at + 1)
}

/// The noun that a noun phrase is about, in small letters.
fn head_of(words: Words<'_>) -> &str {
    words
        .at(end_of_noun(words).saturating_sub(1))
        .unwrap_or_default()
}

/// A noun phrase with the articles that it lacks: `a car horn`, `rain on a window`.
fn noun_phrase(words: Words<'_>) -> String {
    let Some(first) = words.at(0) else {
        return String::new();
    };
    if lexicon::is_preposition(first) || lexicon::is_particle(first) {
        let (between, noun) = words.split_at(1);
        let is_bare = noun
            .at(0)
            .is_some_and(|_| !lexicon::is_known(head_of(noun)));
        let noun = if is_bare {
            noun.join()
        } else {
            noun_phrase(noun)
        };
        return joined(&[&between.join(), &noun]);
    }
    let (noun, rest) = words.split_at(end_of_noun(words));
    let head = head_of(noun);
    let is_number = first.starts_with(|c: char| c.is_ascii_digit()) && is_plural(head);
    let is_complete = lexicon::is_determiner(first)
        || lexicon::is_pronoun(first)
        || is_number
        || lexicon::is_mass(head)
        || is_plural(head)
        || lexicon::verb_of_gerund(head).is_some();
    let before = match (is_complete, lexicon::is_unique(head) && noun.len() == 1) {
        (true, _) => "",
        (false, true) => "the",
        (false, false) => article(noun.shown.first().map_or("", String::as_str)),
    };
    joined(&[before, &noun.join(), &noun_phrase(rest)])
}

/// Those parts that are not empty, with spaces between.
fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}
