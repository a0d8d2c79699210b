//! Names of AudioSet and other sets and everyday prompts, with the exact sentences that they become.

use proptest::prelude::*;

use super::*;
use crate::models::audioset::audioset_labels;
use crate::models::prompt::background;

/// `phrase` becomes the three templates: `what` in the first and last, and the second as it stands.
#[track_caller]
fn check(phrase: &str, what: &str, second: &str) {
    let expected = [
        format!("The sound of {what}."),
        second.to_owned(),
        format!("This is a sound of {what}."),
    ];
    assert_eq!(sentences(phrase), expected, "{phrase}");
}

/// `phrase` is a thing that can be heard.
#[track_caller]
fn check_thing(phrase: &str, what: &str) {
    check(
        phrase,
        what,
        &format!("{} can be heard.", capitalised(what)),
    );
}

/// `phrase` goes into the templates as it is.
#[track_caller]
fn check_other(phrase: &str) {
    let expected = [
        format!("The sound of {phrase}."),
        format!("This is a sound of {phrase}."),
    ];
    assert_eq!(sentences(phrase), expected);
}

#[track_caller]
fn check_sentence(phrase: &str) {
    assert_eq!(sentences(phrase), [phrase.trim()]);
}

#[test]
fn who_does_something_does_it() {
    for (phrase, what, second) in [
        ("dog bark", "a dog barking", "A dog is barking."),
        ("Dog barks", "a dog barking", "A dog is barking."),
        ("DOG BARK", "a dog barking", "A dog is barking."),
        ("dogs bark", "dogs barking", "Dogs are barking."),
        ("a dog barking", "a dog barking", "A dog is barking."),
        ("water running", "water running", "Water is running."),
        ("water drip", "water dripping", "Water is dripping."),
        ("baby_cry", "a baby crying", "A baby is crying."),
        ("Whimper (dog)", "a dog whimpering", "A dog is whimpering."),
        (
            "church bells ring",
            "church bells ringing",
            "Church bells are ringing.",
        ),
        ("phone ring", "a phone ringing", "A phone is ringing."),
        (
            "Telephone bell ringing",
            "a telephone bell ringing",
            "A telephone bell is ringing.",
        ),
        ("glass_breaking", "glass breaking", "Glass is breaking."),
        ("Toilet flush", "a toilet flushing", "A toilet is flushing."),
        ("Tire squeal", "a tire squealing", "A tire is squealing."),
        (
            "Train wheels squealing",
            "train wheels squealing",
            "Train wheels are squealing.",
        ),
        ("Keys jangling", "keys jangling", "Keys are jangling."),
        ("Coin (dropping)", "a coin dropping", "A coin is dropping."),
        (
            "Basketball bounce",
            "a basketball bouncing",
            "A basketball is bouncing.",
        ),
        ("Car passing by", "a car passing by", "A car is passing by."),
        (
            "engine start",
            "an engine starting",
            "An engine is starting.",
        ),
        ("clock_tick", "a clock ticking", "A clock is ticking."),
        ("door_close", "a door closing", "A door is closing."),
        (
            "fridge door open",
            "a fridge door opening",
            "A fridge door is opening.",
        ),
        (
            "Cupboard open or close",
            "a cupboard opening or closing",
            "A cupboard is opening or closing.",
        ),
        (
            "Children playing",
            "children playing",
            "Children are playing.",
        ),
        ("people talking", "people talking", "People are talking."),
        (
            "someone walking around",
            "someone walking around",
            "Someone is walking around.",
        ),
        (
            "man playing guitar",
            "a man playing a guitar",
            "A man is playing a guitar.",
        ),
        (
            "wind rustling leaves",
            "wind rustling leaves",
            "Wind is rustling leaves.",
        ),
        (
            "vacuum cleaner cleaning floors",
            "a vacuum cleaner cleaning floors",
            "A vacuum cleaner is cleaning floors.",
        ),
        (
            "washing machine running",
            "a washing machine running",
            "A washing machine is running.",
        ),
        (
            "smoke detector beeping",
            "a smoke detector beeping",
            "A smoke detector is beeping.",
        ),
        (
            "water dripping in sink",
            "water dripping in a sink",
            "Water is dripping in a sink.",
        ),
        (
            "a drawer being opened",
            "a drawer being opened",
            "A drawer is being opened.",
        ),
        (
            "furniture being moved",
            "furniture being moved",
            "Furniture is being moved.",
        ),
        ("two dogs bark", "two dogs barking", "Two dogs are barking."),
        ("UFO landing", "a UFO landing", "A UFO is landing."),
        (
            "cat meowing loudly",
            "a cat meowing loudly",
            "A cat is meowing loudly.",
        ),
    ] {
        check(phrase, what, second);
    }
}

#[test]
fn what_is_done_is_done_by_whom_it_must_be() {
    for (phrase, what, second) in [
        ("sneezing", "sneezing", "Someone is sneezing."),
        ("Sneeze", "sneezing", "Someone is sneezing."),
        ("Cough", "coughing", "Someone is coughing."),
        ("Run", "running", "Someone is running."),
        ("Bark", "barking", "A dog is barking."),
        ("Hoot", "hooting", "An owl is hooting."),
        ("Purr", "purring", "A cat is purring."),
        ("Knock", "knocking", "Someone is knocking."),
        ("Typing", "typing", "Someone is typing."),
        (
            "knock on door",
            "knocking on a door",
            "Someone is knocking on a door.",
        ),
        (
            "brushing teeth",
            "brushing teeth",
            "Someone is brushing teeth.",
        ),
        (
            "Chopping (food)",
            "chopping food",
            "Someone is chopping food.",
        ),
        (
            "Shuffling cards",
            "shuffling cards",
            "Someone is shuffling cards.",
        ),
        (
            "playing electric guitar",
            "playing an electric guitar",
            "Someone is playing an electric guitar.",
        ),
        (
            "playing tennis",
            "playing tennis",
            "Someone is playing tennis.",
        ),
        ("Rattle", "rattling", "Rattling can be heard."),
        ("Drip", "dripping", "Dripping can be heard."),
        ("Tearing", "tearing", "Tearing can be heard."),
        (
            "Finger snapping",
            "finger snapping",
            "Finger snapping can be heard.",
        ),
        (
            "keyboard typing",
            "keyboard typing",
            "Keyboard typing can be heard.",
        ),
        (
            "Belly laugh",
            "belly laughing",
            "Belly laughing can be heard.",
        ),
        (
            "Synthetic singing",
            "synthetic singing",
            "Synthetic singing can be heard.",
        ),
        (
            "humming a tune",
            "humming a tune",
            "Humming a tune can be heard.",
        ),
        ("zorping", "zorping", "Zorping can be heard."),
    ] {
        check(phrase, what, second);
    }
}

#[test]
fn things_get_their_article() {
    for (phrase, what) in [
        ("car horn", "a car horn"),
        (
            "a vintage tube guitar amplifier",
            "a vintage tube guitar amplifier",
        ),
        ("an hour chime", "an hour chime"),
        ("my doorbell", "my doorbell"),
        ("glass", "glass"),
        ("Water", "water"),
        ("Rain on surface", "rain on a surface"),
        ("heavy rain on a tin roof", "heavy rain on a tin roof"),
        ("footsteps on snow", "footsteps on snow"),
        ("Thunder", "thunder"),
        ("Hammond organ", "a Hammond organ"),
        ("Electric guitar", "an electric guitar"),
        ("Ukulele", "a ukulele"),
        ("university bell", "a university bell"),
        ("FM radio", "an FM radio"),
        ("8-bit music", "8-bit music"),
        ("caf\u{e9} music", "caf\u{e9} music"),
        ("Church bells", "church bells"),
        ("Bagpipes", "bagpipes"),
        ("Fireworks", "fireworks"),
        ("Bus", "a bus"),
        ("Ocean", "the ocean"),
        ("Television", "the television"),
        ("Alarm clock", "an alarm clock"),
        ("Battle cry", "a battle cry"),
        ("Drum roll", "a drum roll"),
        ("Train whistle", "a train whistle"),
        ("Hammer", "a hammer"),
        ("Dentist's drill", "a dentist's drill"),
        ("Washing machine", "a washing machine"),
        ("Singing bowl", "a singing bowl"),
        ("crying_baby", "a crying baby"),
        ("Sliding door", "a sliding door"),
        ("Rustling leaves", "rustling leaves"),
        ("Reversing beeps", "reversing beeps"),
        ("pouring water", "pouring water"),
        ("Police car (siren)", "a police car siren"),
        ("Wind noise (microphone)", "wind noise"),
        ("Field recording", "a field recording"),
        ("Music of Africa", "music of Africa"),
        ("Rock and roll", "rock and roll"),
        ("Dishes, pots, and pans", "dishes, pots, and pans"),
        ("Inside, small room", "a small room"),
        ("the sound of rain", "rain"),
        ("sounds of a kettle", "a kettle"),
        ("three knocks", "three knocks"),
        ("drums", "drums"),
        ("loud knocks", "loud knocks"),
        ("a burp", "a burp"),
        ("a mouse click", "a mouse click"),
        ("an electronic beep", "an electronic beep"),
        ("a crackling fire", "a crackling fire"),
        ("hip hop", "hip hop"),
        ("beep beep", "beep beep"),
        ("Toyota engine", "a Toyota engine"),
        ("traffic in the distance", "traffic in the distance"),
    ] {
        check_thing(phrase, what);
    }
}

#[test]
fn every_name_of_a_list_has_its_sentences() {
    assert_eq!(
        sentences("Baby cry, infant cry"),
        [
            "The sound of a baby crying.",
            "A baby is crying.",
            "This is a sound of a baby crying.",
            "The sound of an infant crying.",
            "An infant is crying.",
            "This is a sound of an infant crying.",
        ]
    );
    assert_eq!(sentences("Bee, wasp, etc.").len(), 6);
    assert_eq!(sentences("bell, Bell, bell").len(), 3);
    assert_eq!(
        sentences("a, b, c, d, e, f, g").len(),
        sentences("a, b, c, d").len()
    );
}

#[test]
fn sentences_are_left_alone() {
    for phrase in [
        "someone knocking at the door",
        "several people talking at once",
        "A dog barks.",
        "a dog is barking",
        "  Is that the doorbell?  ",
        "a door bell rings twice",
        "a person speaks and music plays",
        "a group of people laughing and clapping",
        "Ein Hund bellt im Hof.",
        "\u{72d7}\u{5728}\u{53eb}\u{3002}",
        "birds rain wind thunder cars trucks planes bells horns sirens engines pumps fans",
    ] {
        check_sentence(phrase);
    }
}

#[test]
fn what_is_not_understood_is_not_bent() {
    for phrase in [
        "Hund bellt",
        "le chien aboie",
        "perro ladrando",
        "la sirena de la alarma",
        "Klingel an der Haust\u{fc}r",
        "\u{72d7}\u{53eb}\u{58f0}",
        "\u{43c}\u{44f}\u{443}",
        "theorbo",
    ] {
        check_other(phrase);
    }
    // What has no words is itself.
    for phrase in ["", "   ", "!!!", "...", ", ,"] {
        check_sentence(phrase);
    }
}

#[test]
fn every_name_of_audioset_is_understood() {
    for label in audioset_labels() {
        let got = sentences(label.name);
        assert!(
            got.len() >= 3 && got.len().is_multiple_of(3),
            "{} {got:?}",
            label.name
        );
        assert!(
            got.iter()
                .all(|one| one.ends_with('.') && !one.contains("  ")),
            "{got:?}"
        );
    }
}

#[test]
fn the_background_is_in_plain_english() {
    for phrase in background() {
        for sentence in sentences(phrase) {
            let padded = format!(" {}", sentence.to_lowercase());
            for wrong in [" a is ", " an is ", " a a ", " a the ", " a humming "] {
                assert!(!padded.contains(wrong), "{sentence}");
            }
        }
        assert!(
            !matches!(sentences(phrase).len(), 2),
            "{phrase} is not understood"
        );
    }
}

proptest! {
    #[test]
    fn any_text_has_sentences_and_they_are_sentences(phrase in any::<String>()) {
        let got = sentences(&phrase);
        prop_assert!(!got.is_empty() && got.len() <= 3 * MAX_NAMES);
        prop_assert_eq!(&got, &sentences(&phrase));
        for (at, one) in got.iter().enumerate() {
            prop_assert!(!got[..at].contains(one));
        }
    }

    #[test]
    fn words_in_any_order_have_sentences(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "dog", "bark", "barking", "a", "the", "of", "or", "and", "opening", "on", "by", "washing",
                "machine", "the sound", "(", ")", "(dog)", ",", "people", "is", "Loud", "water", "hammer",
                "etc.", "\u{e9}", "playing", "-", "knocks", "_",
            ]),
            0..9,
        ),
    ) {
        let got = sentences(&words.join(" "));
        prop_assert!(!got.is_empty());
        if got.len() > 1 {
            for one in &got {
                prop_assert_eq!(sentences(one), vec![one.clone()]);
            }
        }
    }
}
