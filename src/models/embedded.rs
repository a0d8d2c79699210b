//! The weights that ship inside the program.

use std::sync::Arc;

use super::embedding::ColumnEmbedder;
use super::{
    Classifier, Embedder, ModelError, Spotter, event::EventModel, keyword::KeywordModel,
    verify::hex_sha256,
};
use crate::nn::weights::Checkpoint;

/// `models/hark-keyword.safetensors`, described in `models/hark-keyword.md`.
static KEYWORD: &[u8] = include_bytes!("../../models/hark-keyword.safetensors");
/// `models/hark-event.safetensors`, described in `models/hark-event.md`.
static EVENT: &[u8] = include_bytes!("../../models/hark-event.safetensors");

/// Checksums of both, in the format of `sha256sum`.
const CHECKSUMS: &str = include_str!("../../models/SHA256SUMS");

/// The embedded keyword model.
///
/// # Errors
/// When the embedded weights are damaged.
pub fn embedded_keyword() -> Result<Box<dyn Spotter>, ModelError> {
    let (checkpoint, sha256) = read(KEYWORD, "hark-keyword")?;
    Ok(Box::new(KeywordModel::new(&checkpoint, sha256)?))
}

/// The embedded event model.
///
/// # Errors
/// When the embedded weights are damaged.
pub fn embedded_event() -> Result<Box<dyn Classifier>, ModelError> {
    let (checkpoint, sha256) = read(EVENT, "hark-event")?;
    Ok(Box::new(EventModel::new(&checkpoint, sha256)?))
}

/// What the embedded event model sees before it names it.
///
/// # Errors
/// When the embedded weights are damaged.
pub fn embedded_event_embedder() -> Result<Box<dyn Embedder>, ModelError> {
    let (checkpoint, sha256) = read(EVENT, "hark-event")?;
    Ok(Box::new(ColumnEmbedder::new(&checkpoint, sha256)?))
}

/// What the embedded keyword model sees before it names it, over the course of a word.
///
/// # Errors
/// When the embedded weights are damaged.
pub fn embedded_keyword_embedder() -> Result<Box<dyn Embedder>, ModelError> {
    let (checkpoint, sha256) = read(KEYWORD, "hark-keyword")?;
    Ok(Box::new(ColumnEmbedder::new(&checkpoint, sha256)?))
}

/// An embedded checkpoint and its SHA-256, which must be the one that was built in.
fn read(bytes: &[u8], name: &str) -> Result<(Checkpoint, Arc<str>), ModelError> {
    let sha256 = hex_sha256(bytes);
    let listed = CHECKSUMS
        .lines()
        .any(|line| line == format!("{sha256}  {name}.safetensors"));
    if !listed {
        return Err(ModelError::Format(format!(
            "embedded {name}: its SHA-256 {sha256} is not the one in models/SHA256SUMS; build again from a clean checkout"
        )));
    }
    let checkpoint = Checkpoint::from_bytes(bytes, &format!("embedded {name}"))?;
    Ok((checkpoint, sha256.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{LogMel, N_MELS};

    #[test]
    fn digital_silence_is_silence_and_no_word() {
        let frames = LogMel::batch(&[0.0; 16_240]);
        let mut keyword = embedded_keyword().unwrap();
        let mut scores = vec![0.0; keyword.info().labels.len()];
        frames
            .chunks_exact(N_MELS)
            .for_each(|frame| keyword.step(frame, &mut scores));
        assert!((scores.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let words: f32 = keyword
            .info()
            .labels
            .iter()
            .zip(&scores)
            .filter(|(label, _)| !label.starts_with('_'))
            .map(|(_, score)| score)
            .sum();
        assert!(words < 0.5, "{scores:?}");
        let mut event = embedded_event().unwrap();
        event.classify(&frames, &mut scores).unwrap();
        let silence = event
            .info()
            .labels
            .iter()
            .position(|label| &**label == "Silence")
            .unwrap();
        assert!(scores[silence] > 0.5, "{scores:?}");
    }
}
