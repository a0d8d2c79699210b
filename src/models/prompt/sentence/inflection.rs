//! How English words change: the article by the sound that follows, -ing, -s, plurals.
//!
//! The rules of school grammar with their exceptions in tables; what the words mean is in
//! [`super::lexicon`].

use super::lexicon;

/// Verbs of several syllables with the stress on the last, which doubles its consonant.
const STRESSED: [&str; 12] = [
    "begin", "refer", "prefer", "occur", "admit", "commit", "submit", "transmit", "control",
    "compel", "unzip", "unplug",
];

/// Verbs that keep their e, so that they are not read as others.
const KEEPS_E: [&str; 6] = ["singe", "tinge", "binge", "swinge", "dye", "whinge"];

/// Begin with a vowel and are spoken with a consonant: `a university`.
const SPOKEN_WITH_CONSONANT: [&str; 14] = [
    "uni", "use", "usu", "uti", "ura", "euro", "euph", "eul", "eucal", "ewe", "one", "once",
    "ukul", "ubiq",
];
/// Those of them that are spoken with a vowel after all: `an unimportant noise`.
const SPOKEN_WITH_VOWEL: [&str; 5] = ["unin", "unim", "unid", "onero", "onei"];

/// Begin with an h that is not spoken: `an hour`.
const SILENT_H: [&str; 5] = ["hour", "honest", "honor", "honour", "heir"];

fn is_vowel(c: char) -> bool {
    matches!(c, 'a' | 'e' | 'i' | 'o' | 'u')
}

/// The -ing form of the base form of a verb: `bark`, `run`, `make`, `lie`, `panic`.
pub fn gerund(base: &str) -> String {
    let letters: Vec<char> = base.chars().collect();
    let ends = |ending: &str| base.ends_with(ending);
    let stem = &base[..base.len() - letters.last().map_or(0, |c| c.len_utf8())];
    if KEEPS_E.contains(&base) {
        return format!("{base}ing");
    }
    if let Some(stem) = base.strip_suffix("ie") {
        return format!("{stem}ying");
    }
    if ends("e") && letters.len() > 2 && !ends("ee") && !ends("oe") && !ends("ye") {
        return format!("{stem}ing");
    }
    if ends("ic") {
        return format!("{base}king");
    }
    match letters.last() {
        Some(last) if doubles(&letters, base) => format!("{base}{last}ing"),
        _ => format!("{base}ing"),
    }
}

/// Whether the last consonant is doubled: it stands after a single vowel in a syllable with stress.
fn doubles(letters: &[char], base: &str) -> bool {
    let &[.., before, vowel, last] = letters else {
        return false;
    };
    // The u of qu is no vowel: quitting.
    let before_that = letters.len().checked_sub(4).map(|at| letters[at]);
    let is_single = !is_vowel(before) || (before == 'u' && before_that == Some('q'));
    let closed = is_vowel(vowel) && is_single && !is_vowel(last);
    let syllables = letters.iter().enumerate().filter(|(at, c)| {
        let vowel = |c: char| is_vowel(c) || c == 'y';
        vowel(**c) && !(*at > 0 && vowel(letters[at - 1]))
    });
    closed
        && !matches!(last, 'w' | 'x' | 'y' | 'h')
        && (syllables.count() == 1 || STRESSED.contains(&base))
}

/// The form after he, she and it: `barks`, `cries`, `crashes`.
pub fn third_person(base: &str) -> String {
    plain_plural(base)
}

/// A plural as most words have it.
pub fn plain_plural(word: &str) -> String {
    if let Some(stem) = word.strip_suffix('y')
        && !stem.ends_with(is_vowel)
    {
        return format!("{stem}ies");
    }
    let hissing = ["s", "x", "z", "ch", "sh"];
    match hissing.iter().any(|ending| word.ends_with(ending)) {
        true => format!("{word}es"),
        false => format!("{word}s"),
    }
}

/// Whether a noun in small letters is many.
pub fn is_plural(noun: &str) -> bool {
    if lexicon::is_irregular_plural(noun) {
        return true;
    }
    let is_one = ["ss", "us", "is"]
        .iter()
        .any(|ending| noun.ends_with(ending));
    noun.len() > 2 && noun.ends_with('s') && !is_one && !lexicon::is_singular_in_s(noun)
}

/// `a` or `an`, by the sound that `word` begins with; in its own capitals, which tell `an FM radio`.
pub fn article(word: &str) -> &'static str {
    let of = |vowel: bool| if vowel { "an" } else { "a" };
    let part: String = word.chars().take_while(|c| c.is_alphanumeric()).collect();
    let lower = part.to_lowercase();
    if part.starts_with(|c: char| c.is_ascii_digit()) {
        let number: String = part.chars().take_while(char::is_ascii_digit).collect();
        return of(number.starts_with('8') || number == "11" || number == "18");
    }
    let is_spelled = part.chars().all(|c| c.is_ascii_uppercase())
        && (part.len() <= 3 || !lower.contains(is_vowel));
    if is_spelled && !part.is_empty() {
        return of(part.starts_with(|c| "AEFHILMNORSX".contains(c)));
    }
    let begins = |table: &[&str]| table.iter().any(|start| lower.starts_with(start));
    if begins(&SILENT_H) {
        return "an";
    }
    let with_consonant = begins(&SPOKEN_WITH_CONSONANT) && !begins(&SPOKEN_WITH_VOWEL);
    of(lower.starts_with(is_vowel) && !with_consonant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_get_their_ing() {
        for (base, expected) in [
            ("bark", "barking"),
            ("run", "running"),
            ("cry", "crying"),
            ("ring", "ringing"),
            ("sneeze", "sneezing"),
            ("make", "making"),
            ("lie", "lying"),
            ("dye", "dyeing"),
            ("singe", "singeing"),
            ("flee", "fleeing"),
            ("panic", "panicking"),
            ("mimic", "mimicking"),
            ("drip", "dripping"),
            ("quit", "quitting"),
            ("hum", "humming"),
            ("whir", "whirring"),
            ("purr", "purring"),
            ("rev", "revving"),
            ("rattle", "rattling"),
            ("open", "opening"),
            ("begin", "beginning"),
            ("unzip", "unzipping"),
            ("gargle", "gargling"),
            ("meow", "meowing"),
            ("play", "playing"),
            ("fix", "fixing"),
            ("beep", "beeping"),
            ("moo", "mooing"),
            ("yodel", "yodeling"),
            ("hiccup", "hiccuping"),
            ("squeak", "squeaking"),
            ("baa", "baaing"),
            ("tear", "tearing"),
        ] {
            assert_eq!(gerund(base), expected);
        }
    }

    #[test]
    fn the_article_goes_by_the_sound() {
        for (word, expected) in [
            ("dog", "a"),
            ("alarm", "an"),
            ("hour", "an"),
            ("house", "a"),
            ("university", "a"),
            ("ukulele", "a"),
            ("umbrella", "an"),
            ("unimportant", "an"),
            ("European", "a"),
            ("one-way", "a"),
            ("owl", "an"),
            ("honest", "an"),
            ("8-bit", "an"),
            ("11", "an"),
            ("18th", "an"),
            ("110", "a"),
            ("80s", "an"),
            ("FM", "an"),
            ("X-ray", "an"),
            ("UFO", "a"),
            ("ATM", "an"),
            ("USB", "a"),
            ("SUV", "an"),
            ("NASA", "a"),
            ("", "a"),
        ] {
            assert_eq!(article(word), expected, "{word}");
        }
    }

    #[test]
    fn many_are_told_from_one() {
        for many in [
            "bells",
            "people",
            "footsteps",
            "dishes",
            "scissors",
            "geese",
            "boxes",
        ] {
            assert!(is_plural(many), "{many}");
        }
        for one in [
            "bus", "glass", "walrus", "tennis", "bell", "gas", "chorus", "s",
        ] {
            assert!(!is_plural(one), "{one}");
        }
        assert_eq!(plain_plural("baby"), "babies");
        assert_eq!(plain_plural("key"), "keys");
        assert_eq!(third_person("crash"), "crashes");
    }
}
