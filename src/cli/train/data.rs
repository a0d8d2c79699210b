//! What a CLAP is trained on: the clips of a data set, made sounds, and texts without sounds.

use rayon::prelude::*;

use super::Args;
use crate::audio::AudioError;
use crate::audio::file::decode_mono;
use crate::audio::synth;
use crate::cli::{UsageError, out};
use crate::clock::PIPELINE_RATE_HZ;
use crate::models::ModelError;
use crate::models::audioset::audioset_labels;
use crate::models::prompt::sentence::sentences;
use crate::models::verify::hex_sha256;
use crate::train::contrastive::ontology::Ontology;
use crate::train::contrastive::pairs::{Pairs, is_held_out};
use crate::train::contrastive::small;
use crate::train::contrastive::texts::TextPairs;
use crate::train::contrastive::towers::Towers;
use crate::train::{Clip, Manifest, Split};

/// Length of a made sound, in seconds.
const MADE_S: f32 = 5.0;
/// Clips that the statistics of the mel bands are taken over.
const STATISTICS_OF: usize = 400;

/// The sounds and texts of a run.
pub struct Data {
    /// The whole data set.
    pub manifest: Manifest,
    /// The clips that are heard, before the made ones.
    pub clips: Vec<Clip>,
    /// Which sounds have which names.
    pub pairs: Pairs,
    /// Texts without sounds.
    pub texts: Option<TextPairs>,
    /// Samples by the number of the item, as 16 bits.
    sounds: Vec<Vec<i16>>,
}

impl Data {
    /// Decodes the training clips at `rate_hz`, but for those that are held out, and makes what is made.
    ///
    /// # Errors
    /// When a file cannot be read, or an option does not go with the data.
    pub fn open(args: &Args, rate_hz: u32) -> anyhow::Result<Self> {
        let options = &args.contrast;
        let manifest = Manifest::open(&args.data)?;
        let ontology = options
            .ontology
            .as_deref()
            .map(Ontology::read)
            .transpose()?;
        let clips: Vec<Clip> = manifest
            .clips
            .iter()
            .filter(|clip| clip.split == Split::Train)
            .filter(|clip| options.sets.is_empty() || options.sets.contains(&clip.set))
            .filter(|clip| !is_held_out(&names_of(clip), &options.hold_out))
            .cloned()
            .collect();
        for held in &options.hold_out {
            let known = |clip: &Clip| is_held_out(&names_of(clip), std::slice::from_ref(held));
            if !manifest.clips.iter().any(known) {
                return Err(UsageError(format!(
                    "--hold-out {held}: no clip of the data set has this label"
                ))
                .into());
            }
        }
        let mut pairs = Pairs::default();
        for clip in &clips {
            pairs.add(clip, ontology.as_ref());
        }
        let mut sounds: Vec<Vec<i16>> = clips
            .par_iter()
            .map(|clip| Ok(to_16_bits(&decode_mono(&clip.path, rate_hz)?)))
            .collect::<Result<_, AudioError>>()?;
        if let Some(made) = options.made.filter(|made| *made > 0) {
            if rate_hz != PIPELINE_RATE_HZ {
                return Err(UsageError(format!(
                    "--made: the synthesiser makes sounds of {} Hz, and this model hears {rate_hz} Hz",
                    PIPELINE_RATE_HZ
                ))
                .into());
            }
            let mut rng = fastrand::Rng::with_seed(args.seed);
            for sound in synth::Sound::ALL {
                let names = synth::labels(sound);
                let [first, more @ ..] = names else { continue };
                if is_held_out(names, &options.hold_out) {
                    continue;
                }
                for _ in 0..made {
                    pairs.add_labels(first, more, ontology.as_ref());
                    sounds.push(to_16_bits(&synth::render(sound, &mut rng, MADE_S)));
                }
            }
        }
        Ok(Data {
            manifest,
            clips,
            pairs,
            texts: ontology.as_ref().map(TextPairs::of),
            sounds,
        })
    }

    /// Writes the small CLAP with random weights, for these texts and sounds.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_small(&self, args: &Args) -> Result<(), ModelError> {
        let names = audioset_labels().iter().map(|label| label.name);
        let mut texts: Vec<String> = names.flat_map(sentences).collect();
        for name in self.pairs.names.all() {
            texts.extend(name.texts.iter().cloned());
        }
        if let Some(pairs) = &self.texts {
            texts.extend(pairs.all().map(str::to_owned));
        }
        let every = (self.sounds.len() / STATISTICS_OF).max(1);
        let clips: Vec<Vec<f32>> = self
            .sounds
            .iter()
            .step_by(every)
            .map(|sound| to_floats(sound))
            .collect();
        let statistics = small::statistics(clips.iter().map(Vec::as_slice));
        small::write(&args.out, &texts, &statistics, args.seed)
    }

    /// Leaves out the texts that have more tokens than the model takes, and says so.
    pub fn drop_long_texts(&mut self, towers: &Towers) {
        let fits = |text: &str| towers.tokens(text).is_ok();
        let (gone, kept) = self.pairs.retain_texts(fits);
        if gone > 0 {
            out::note(format_args!(
                "{gone} texts are too long for the model and are left out, and {} clips with them",
                self.sounds.len() - kept.len()
            ));
        }
        if kept.len() < self.sounds.len() {
            self.sounds = kept
                .into_iter()
                .map(|at| std::mem::take(&mut self.sounds[at]))
                .collect();
        }
        if let Some(texts) = &mut self.texts {
            texts.retain_texts(fits);
        }
    }

    /// The samples of a sound by its number.
    pub fn pcm(&self, item: usize) -> Vec<f32> {
        to_floats(&self.sounds[item])
    }

    /// What tells one set of pairs from another.
    pub fn fingerprint(&self) -> String {
        let mut all = String::new();
        for clip in &self.clips {
            all.push_str(&format!(
                "{}\t{}\t{:?}\n",
                clip.name, clip.label, clip.captions
            ));
        }
        all.push_str(&format!("{:?}\n", self.pairs.counts()));
        for text in self.texts.iter().flat_map(TextPairs::all) {
            all.push_str(text);
        }
        hex_sha256(all.as_bytes())
    }
}

/// All names of a clip.
pub fn names_of(clip: &Clip) -> Vec<&str> {
    let more = clip.audioset_labels.iter().chain(&clip.captions);
    std::iter::once(&clip.label)
        .chain(more)
        .map(String::as_str)
        .collect()
}

fn to_16_bits(pcm: &[f32]) -> Vec<i16> {
    pcm.iter()
        .map(|x| (x * 32_768.0).round().clamp(-32_768.0, 32_767.0) as i16)
        .collect()
}

fn to_floats(sound: &[i16]) -> Vec<f32> {
    sound.iter().map(|x| f32::from(*x) / 32_768.0).collect()
}
