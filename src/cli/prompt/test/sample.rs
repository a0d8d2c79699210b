//! Figures for the tests of what is shown: a prompt in two phrasings on two files.

use std::path::Path;

use super::figures::{Figures, Heard};
use super::phrasings::{Form, Phrasing};
use crate::models::prompt::{Prompt, Rival, Scored};

fn scored(cosine: f32, rival: f32, probability: f32) -> Scored {
    Scored {
        name: "kettle".into(),
        cosine,
        rival: Some(Rival {
            phrase: "rain",
            cosine: rival,
        }),
        margin: 10.0 * (cosine - rival),
        shift: 0.0,
        probability,
        calibrated: false,
        threshold: 0.5,
    }
}

/// A prompt in two phrasings on two files, against another prompt.
pub fn figures() -> Figures {
    let prompt = |name: &str| Prompt {
        name: name.into(),
        phrases: vec!["a kettle".into()],
        threshold: 0.5,
    };
    let phrasing = |text: &str, form| Phrasing {
        text: text.into(),
        phrase: "a kettle".into(),
        form,
    };
    let phrasings = [
        phrasing("a kettle", Form::Phrase),
        phrasing("The sound of a <kettle> & more.", Form::Sentence),
    ];
    let others = [prompt("door")];
    let mut heard = Heard::new(2, 1);
    let other = Scored {
        name: "door".into(),
        ..scored(0.25, 0.0, 0.4)
    };
    heard.begin(Path::new("one.wav"));
    // The first phrasing loses to rain, the second to the other prompt, all together wins.
    let windows = [
        scored(0.1, 0.2, 0.3),
        scored(0.22, 0.2, 0.55),
        scored(0.3, 0.2, 0.75),
        other.clone(),
    ];
    heard.window(0.0, &windows);
    // Everything wins.
    let windows = [
        scored(0.5, 0.2, 0.9),
        scored(0.4, 0.2, 0.8),
        scored(0.5, 0.2, 0.95),
        other.clone(),
    ];
    heard.window(2.0, &windows);
    heard.end();
    heard.begin(Path::new("silent.wav"));
    heard.end();
    heard.begin(Path::new("two.wav"));
    let windows = [
        scored(0.3, 0.2, 0.7),
        scored(0.1, 0.2, 0.2),
        scored(0.3, 0.2, 0.7),
        other,
    ];
    heard.window(0.0, &windows);
    heard.end();
    Figures::new(&prompt("kettle"), "tiny", &phrasings, &others, heard)
}
