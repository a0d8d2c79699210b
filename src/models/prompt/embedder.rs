//! From phrases to embeddings: out of the cache where they are there, else by the text tower, which is
//! loaded for them and can be dropped again.

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cache::PhraseCache;
use super::{InstalledClap, Prompt, PromptSet, background, sentences};
use crate::models::ModelError;
use crate::models::clap::{ClapText, LogitScale, normalise};
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
                mean(&own)
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
                mean(own)
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

/// The mean of embeddings, of length 1.
pub(super) fn mean(embeddings: &[Vec<f32>]) -> Vec<f32> {
    if let [one] = embeddings {
        return one.clone();
    }
    let mut sum = vec![0.0; embeddings.first().map_or(0, Vec::len)];
    for embedding in embeddings {
        for (sum, value) in sum.iter_mut().zip(embedding) {
            *sum += value;
        }
    }
    normalise(sum)
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
