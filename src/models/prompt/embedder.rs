//! From phrases to embeddings: out of the cache where they are there, else by the text tower, which is
//! loaded for them and can be dropped again.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cache::PhraseCache;
use super::{InstalledClap, Prompt, PromptSet, background, sentences};
use crate::models::ModelError;
use crate::models::clap::{ClapText, LogitScale, mean_embedding};
use crate::models::layout::Layout;

/// The files that say how a text becomes tokens, and how many of them are heard.
const TOKENIZER: [&str; 5] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
];

/// The text side of a CLAP.
pub struct PhraseEmbedder {
    layout: Layout,
    name: Arc<str>,
    scale: f32,
    cache: PhraseCache,
    /// Whether a cache that cannot be written has been told of.
    is_told: bool,
    text: Option<ClapText>,
}

impl PhraseEmbedder {
    /// Opens the text side of `clap`; nothing is loaded before it is needed. `cache` is
    /// `$XDG_CACHE_HOME/hark`.
    ///
    /// # Errors
    /// When the directory is not that of a CLAP, or its files cannot be read.
    pub fn open(clap: &InstalledClap, cache: &Path) -> Result<Self, ModelError> {
        let layout = clap.layout()?;
        let sha256 = clap.sha256()?;
        let scale = LogitScale::load(&layout.params()?)?.a.exp();
        if !(scale.is_finite() && scale > 0.0) {
            return Err(ModelError::Format(format!(
                "{}: logit_scale_a: expected a number whose exponential is finite, got {scale}: the weights are damaged",
                layout.dir().display()
            )));
        }
        let tokenizer = fingerprint(layout.dir())?;
        Ok(PhraseEmbedder {
            cache: PhraseCache::new(cache, &sha256, tokenizer),
            name: clap.name.clone(),
            scale,
            is_told: false,
            text: None,
            layout,
        })
    }

    /// What the logits are of a cosine: `exp(logit_scale_a)`.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Whether the text tower is in memory.
    pub fn is_loaded(&self) -> bool {
        self.text.is_some()
    }

    /// Drops the text tower; it is loaded again when a phrase needs it.
    pub fn unload(&mut self) {
        self.text = None;
    }

    /// The embedding of each text as it stands, of length 1, in their order. A text that is too long for
    /// the tower is cut as the reference cuts it.
    ///
    /// # Errors
    /// When the text tower cannot be loaded or gives no numbers.
    pub fn embed(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>, ModelError> {
        self.embed_with(texts, &mut |_| {})
    }

    /// [`PhraseEmbedder::embed`] that says from time to time how many are done.
    ///
    /// # Errors
    /// As [`PhraseEmbedder::embed`].
    pub fn embed_with(
        &mut self,
        texts: &[String],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut embeddings: Vec<Option<Vec<f32>>> =
            texts.iter().map(|text| self.cache.get(text)).collect();
        let missing: Vec<usize> = (0..texts.len())
            .filter(|&at| embeddings[at].is_none())
            .collect();
        let known = texts.len() - missing.len();
        done(known);
        if !missing.is_empty() {
            let asked: Vec<&str> = missing.iter().map(|&at| texts[at].as_str()).collect();
            let made = self
                .tower()?
                .embed_truncated(&asked, &mut |count| done(known + count))?;
            for (&at, embedding) in missing.iter().zip(made) {
                if !embedding.iter().all(|value| value.is_finite()) {
                    return Err(ModelError::Format(format!(
                        "{}: expected numbers from the text tower, got none: its weights are damaged, verify them with hark models verify",
                        self.name
                    )));
                }
                self.keep(&texts[at], &embedding);
                embeddings[at] = Some(embedding);
            }
        }
        Ok(embeddings
            .into_iter()
            .map(Option::unwrap_or_default)
            .collect())
    }

    /// One embedding for each of `phrases`: the mean of those of its sentences, of length 1.
    ///
    /// # Errors
    /// As [`PhraseEmbedder::embed`].
    pub fn embed_phrases<S: AsRef<str>>(
        &mut self,
        phrases: &[S],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let groups: Vec<Vec<String>> = phrases
            .iter()
            .map(|phrase| sentences(phrase.as_ref()))
            .collect();
        self.embed_groups(&groups)
    }

    /// One embedding for each prompt: the mean of those of its phrases, of length 1.
    ///
    /// # Errors
    /// As [`PhraseEmbedder::embed`].
    pub fn embed_prompts(&mut self, prompts: &[Prompt]) -> Result<Vec<Vec<f32>>, ModelError> {
        let phrases: Vec<&str> = prompts
            .iter()
            .flat_map(|prompt| prompt.phrases.iter().map(String::as_str))
            .collect();
        let mut embeddings = self.embed_phrases(&phrases)?.into_iter();
        Ok(prompts
            .iter()
            .map(|prompt| {
                let own: Vec<Vec<f32>> = embeddings.by_ref().take(prompt.phrases.len()).collect();
                mean_embedding(&own)
            })
            .collect())
    }

    /// One embedding for each phrase of [`background`].
    ///
    /// # Errors
    /// As [`PhraseEmbedder::embed`].
    pub fn embed_background(&mut self) -> Result<Vec<Vec<f32>>, ModelError> {
        self.embed_phrases(background())
    }

    /// The set of `prompts`, ready to score; `room` holds embeddings of the room by the audio tower of
    /// the same model.
    ///
    /// # Errors
    /// As [`PhraseEmbedder::embed`].
    pub fn prompt_set(
        &mut self,
        prompts: &[Prompt],
        room: &[Vec<f32>],
    ) -> Result<PromptSet, ModelError> {
        if prompts.is_empty() {
            return Ok(PromptSet::default());
        }
        let embeddings = self.embed_prompts(prompts)?;
        let background = self.embed_background()?;
        Ok(PromptSet::new(
            prompts, embeddings, background, room, self.scale,
        ))
    }

    fn embed_groups(&mut self, groups: &[Vec<String>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let embeddings = self.embed(&groups.concat())?;
        let mut rest = embeddings.as_slice();
        Ok(groups
            .iter()
            .map(|group| {
                let (own, others) = rest.split_at(group.len());
                rest = others;
                mean_embedding(own)
            })
            .collect())
    }

    fn tower(&mut self) -> Result<&ClapText, ModelError> {
        let text = match self.text.take() {
            Some(text) => text,
            None => ClapText::load(&self.layout, &self.layout.params()?)?,
        };
        Ok(self.text.insert(text))
    }

    /// Keeps an embedding where that can be done; where it cannot, it is computed again next time.
    fn keep(&mut self, text: &str, embedding: &[f32]) {
        if let Err(error) = self.cache.put(text, embedding)
            && !self.is_told
        {
            self.is_told = true;
            tracing::warn!(
                "{}: embeddings of phrases are not kept ({error}); they are computed again when they are needed",
                self.cache.dir().display()
            );
        }
    }
}

/// A checksum over the files that make tokens.
fn fingerprint(dir: &Path) -> Result<[u8; 32], ModelError> {
    let mut hash = Sha256::new();
    for name in TOKENIZER {
        let path = dir.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(&bytes);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => hash.update([0xff; 8]),
            Err(error) => return Err(ModelError::Read(format!("{}: {error}", path.display()))),
        }
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::clap::Clap;

    fn fixture(case: &str) -> InstalledClap {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/fixtures")
            .join(case);
        InstalledClap::locate(dir.to_str()).unwrap()
    }

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn prompt(name: &str, phrases: &[&str]) -> Prompt {
        Prompt {
            name: name.into(),
            phrases: owned(phrases),
            threshold: 0.5,
        }
    }

    #[test]
    fn the_tower_is_loaded_for_what_is_not_kept_and_for_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let clap = fixture("clap-unfused");
        let texts = owned(&[
            "a dog barking",
            "rain",
            "a dog barking",
            "This is a sound of glass.",
        ]);
        let whole = Clap::load(&clap.layout().unwrap()).unwrap();
        let expected = whole.text.embed_all(&texts, &mut |_| {}).unwrap();

        let mut first = PhraseEmbedder::open(&clap, cache.path()).unwrap();
        assert!(!first.is_loaded());
        let mut steps = Vec::new();
        let made = first
            .embed_with(&texts, &mut |done| steps.push(done))
            .unwrap();
        assert_eq!(made, expected);
        assert_eq!((steps.first(), steps.last()), (Some(&0), Some(&4)));
        assert!(first.is_loaded());
        first.unload();
        assert!(!first.is_loaded());

        let mut second = PhraseEmbedder::open(&clap, cache.path()).unwrap();
        assert_eq!(second.embed(&texts).unwrap(), expected);
        assert!(!second.is_loaded());
        second.embed(&owned(&["rain", "snow"])).unwrap();
        assert!(second.is_loaded());
        assert!((second.scale() - whole.logit_scale.a.exp()).abs() < 1e-6);
    }

    #[test]
    fn another_model_or_another_tokenizer_has_other_embeddings() {
        let cache = tempfile::tempdir().unwrap();
        let texts = owned(&["a dog barking"]);
        let embed = |clap: &InstalledClap| {
            let mut embedder = PhraseEmbedder::open(clap, cache.path()).unwrap();
            let made = embedder.embed(&texts).unwrap();
            (made, embedder.is_loaded())
        };
        let (unfused, fused) = (
            embed(&fixture("clap-unfused")),
            embed(&fixture("clap-fused")),
        );
        assert!(unfused.1 && fused.1 && unfused.0 != fused.0);
        // The same weights with one more key in the settings of the tokenizer.
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&fixture("clap-unfused").dir).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let settings = copy.path().join("tokenizer_config.json");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(
            &settings,
            text.replacen('{', "{\"model_max_length\": 5, ", 1),
        )
        .unwrap();
        let changed = InstalledClap::locate(copy.path().to_str()).unwrap();
        assert_eq!(
            changed.sha256().unwrap(),
            fixture("clap-unfused").sha256().unwrap()
        );
        let mut embedder = PhraseEmbedder::open(&changed, cache.path()).unwrap();
        embedder.embed(&texts).unwrap();
        assert!(embedder.is_loaded());
    }

    const LONG: &str = "a dog barking at another dog ";

    #[test]
    fn a_text_that_is_too_long_is_cut_and_the_cache_need_not_be_there() {
        let dir = tempfile::tempdir().unwrap();
        // A folder cannot be made where a file is: what a full disk comes to.
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let clap = fixture("clap-unfused");
        let mut embedder = PhraseEmbedder::open(&clap, &file).unwrap();
        let long = LONG.repeat(500);
        let longer = format!("{long} and then it rains");
        let made = embedder.embed(&[long, longer]).unwrap();
        assert_eq!(made[0], made[1]);
        let tokenizer = embedder.tower().unwrap().tokenizer();
        let cut = tokenizer.encode_truncated(&LONG.repeat(500)).unwrap();
        let short = tokenizer.encode("a").unwrap();
        assert_eq!(cut.len(), tokenizer.max_tokens());
        assert_eq!((cut.first(), cut.last()), (short.first(), short.last()));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 0);
    }

    #[test]
    fn a_prompt_is_the_mean_of_its_phrases_of_length_1() {
        let cache = tempfile::tempdir().unwrap();
        let mut embedder = PhraseEmbedder::open(&fixture("clap-unfused"), cache.path()).unwrap();
        let prompts = [
            prompt(
                "dog",
                &["a dog is barking outside.", "a dog is growling at me."],
            ),
            prompt("rain", &["heavy rain is falling now."]),
        ];
        let made = embedder.embed_prompts(&prompts).unwrap();
        let texts: Vec<String> = prompts
            .iter()
            .flat_map(|prompt| prompt.phrases.clone())
            .collect();
        let each = embedder.embed_phrases(&texts).unwrap();
        assert_eq!(made[1], each[2]);
        assert_eq!(made[0], mean_embedding(&each[..2]));
        let length: f32 = made[0].iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }

    #[test]
    fn a_set_scores_what_its_prompts_are_nearest_to_highest() {
        let cache = tempfile::tempdir().unwrap();
        let mut embedder = PhraseEmbedder::open(&fixture("clap-unfused"), cache.path()).unwrap();
        assert!(embedder.prompt_set(&[], &[]).unwrap().is_empty());
        assert!(!embedder.is_loaded());
        let prompts = [
            prompt("dog", &["a dog barking"]),
            prompt("amp", &["a tube amplifier"]),
        ];
        let set = embedder.prompt_set(&prompts, &[]).unwrap();
        for (at, embedding) in embedder.embed_prompts(&prompts).unwrap().iter().enumerate() {
            let explained = set.explain(embedding);
            assert!((explained[at].cosine - 1.0).abs() < 1e-5);
            assert!(explained[at].rival.is_some() && !explained[at].is_rejected());
            assert!(
                explained[at].probability > explained[1 - at].probability,
                "{explained:?}"
            );
        }
    }

    #[test]
    fn what_is_no_clap_is_refused_by_name() {
        let refused = |model: &str| InstalledClap::locate(Some(model)).unwrap_err().to_string();
        assert!(refused("hark-event").contains("not prompts"));
        assert!(refused("/no/such/model").contains("/no/such/model"));
        let ast = fixture("ast-event");
        let error = PhraseEmbedder::open(&ast, Path::new("/nowhere"))
            .err()
            .unwrap();
        assert!(error.to_string().contains("expected \"clap\""), "{error}");
    }
}
