//! The nearest known name to a misspelled one.

/// The name among `known` that `wrong` was probably meant to be.
///
/// Case does not count, a part of a longer name is enough (`alarm` finds
/// `Smoke detector, smoke alarm`), and otherwise the spelling must be near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    known
        .into_iter()
        .map(|name| (closeness(&wrong, &name.to_lowercase()), name))
        .filter(|(closeness, _)| *closeness >= NEAR)
        // The first of equals wins: the order of the model or the section.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, name)| name)
}

/// Below this Jaro-Winkler similarity a suggestion would be a guess.
const NEAR: f64 = 0.75;

fn closeness(wrong: &str, name: &str) -> f64 {
    if wrong == name {
        return 2.0;
    }
    if wrong.len() >= 3 && name.contains(wrong) {
        // Between certain and merely similar; the shorter the rest, the nearer.
        return 1.0 + wrong.len() as f64 / name.len() as f64;
    }
    strsim::jaro_winkler(wrong, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let labels = ["Smoke detector, smoke alarm", "Alarm clock", "Dog", "Siren"];
        let check = |wrong: &str, expected: Option<&str>| {
            assert_eq!(nearest(wrong, labels), expected, "{wrong}");
        };
        check("dog", Some("Dog"));
        check("smoke alarm", Some("Smoke detector, smoke alarm"));
        check("alarm", Some("Alarm clock"));
        check("Sirene", Some("Siren"));
        check("xylophone", None);
        check("", None);
    }
}
