//! Makes the table of background that ships for an embedder: `taught_background MODEL KIND DATA OUT`.
//!
//! MODEL is a registry name or a weights file, KIND `sound` or `word`, DATA a folder with a manifest.csv
//! whose training clips are heard, each in faint noise and on the beat of live listening. Clips whose
//! label stands behind a further `--without LABEL` are left out. `models/background.md` describes the
//! tables.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use harkd::command::TaughtKind;
use harkd::models::registry::open_embedder;
use harkd::models::taught::background::{Background, BackgroundCard};
use harkd::models::taught::{Beat, Clip};
use harkd::train::Split;
use harkd::train::library::Library;

/// What a clip is. Whole sentences are all sorts of things, which a `_` in front says.
fn label(name: &str, label: &str) -> String {
    match name.starts_with("speech/") {
        true => "_speech_".to_owned(),
        false => label.to_owned(),
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = "taught_background MODEL KIND DATA OUT [--without LABEL]...";
    let [model, kind, data, out, rest @ ..] = &args[..] else {
        anyhow::bail!(usage);
    };
    ensure!(
        rest.chunks(2)
            .all(|pair| pair.len() == 2 && pair[0] == "--without"),
        usage
    );
    let without: Vec<&String> = rest.iter().skip(1).step_by(2).collect();
    let kind: TaughtKind = kind.parse().map_err(anyhow::Error::msg)?;
    let mut embedder = open_embedder(model)?;
    let info = embedder.info().clone();
    let beat = Beat::of(kind, &info);
    let library = Library::open(Path::new(data), |clip| {
        clip.split == Split::Train && !without.contains(&&clip.label)
    })?;
    let (mut vectors, mut labels, mut seconds) = (Vec::new(), Vec::new(), 0.0);
    let mut names: Vec<String> = Vec::new();
    for sound in &library.sounds {
        // What is too short or silent is no example of anything.
        let Ok(clip) = Clip::new(&sound.clip.name, sound.pcm()) else {
            continue;
        };
        seconds += clip.seconds();
        let name = label(&sound.clip.name, &sound.clip.label);
        let number = names.iter().position(|known| *known == name);
        let number = number.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        let number = u8::try_from(number).context("more labels than a table has room for")?;
        for window in clip.cut(kind, info.input, beat)?.phases.swap_remove(0) {
            let mut embedding = Vec::new();
            embedder.embed(&window, &mut embedding)?;
            vectors.push(embedding);
            labels.push(number);
        }
    }
    let card = BackgroundCard {
        embedder: info.name.to_string(),
        sha256: info.sha256.to_string(),
        windows: vectors.len() as u64,
        hop_s: beat.hop_frames as f64 / 100.0,
        material: format!(
            "{} training clips ({:.0} minutes): household sounds, words, speech, noise",
            library.sounds.len(),
            seconds / 60.0
        ),
        licence: "Apache-2.0".to_owned(),
        labels: names,
    };
    let background = Background::labelled(card, &vectors, &labels).map_err(anyhow::Error::msg)?;
    let bytes = background.to_bytes().map_err(anyhow::Error::msg)?;
    std::fs::write(out, &bytes).with_context(|| out.clone())?;
    // A pipe that has closed is no reason to fail.
    let _ = std::io::Write::write_fmt(
        &mut std::io::stdout(),
        format_args!(
            "{out}: {} axes of {}, {} points of {} windows, {} bytes\n",
            background.axes(),
            background.dim(),
            background.points().len(),
            vectors.len(),
            bytes.len()
        ),
    );
    Ok(())
}
