//! A tokenizer of RoBERTa's kind learnt from the texts at hand: byte-level byte pair encoding (Sennrich
//! et al., *Neural Machine Translation of Rare Words with Subword Units*, 2016), written as the files
//! that `RobertaTokenizer` of transformers 5.23 reads.
//!
//! All 256 bytes are in it, so that no phrase has an unknown token: a word that was never seen falls
//! into pieces that were.

use std::path::Path;

use serde_json::json;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerImpl,
};

use crate::models::ModelError;

/// The special tokens in RoBERTa's order: their places are the numbers in its configuration.
const SPECIAL: [&str; 5] = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];

/// A pair of pieces that stands in the texts less often is no piece of its own.
const MIN_FREQUENCY: u64 = 2;

type Bpe = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Learns a vocabulary of at most `size` tokens from `texts` and writes `tokenizer.json` and
/// `tokenizer_config.json` into `dir`; gives the number of tokens.
///
/// # Errors
/// When the texts make no vocabulary or the files cannot be written.
pub fn write(
    dir: &Path,
    texts: &[String],
    size: usize,
    max_tokens: usize,
) -> Result<usize, ModelError> {
    let failed = |error: tokenizers::Error| ModelError::Format(format!("the vocabulary: {error}"));
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(size)
        .min_frequency(MIN_FREQUENCY)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(SPECIAL.map(|token| AddedToken::from(token, true)).into())
        .build();
    let mut bpe: Bpe = TokenizerImpl::new(BPE::default());
    bpe.with_pre_tokenizer(Some(PreTokenizerWrapper::from(ByteLevel::new(
        false, true, true,
    ))));
    bpe.with_post_processor(Some(PostProcessorWrapper::from(ByteLevel::default())));
    bpe.with_decoder(Some(DecoderWrapper::from(ByteLevel::default())));
    bpe.train(&mut trainer, texts.iter()).map_err(failed)?;
    let text = bpe.to_string(true).map_err(failed)?;
    let mut whole: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| ModelError::Format(format!("the vocabulary: {error}")))?;
    // The order of training, so that the same texts give the same bytes, is that of the numbers; the
    // two special tokens around a phrase are put there by whoever reads this.
    whole["post_processor"] = json!({
        "type": "RobertaProcessing",
        "sep": ["</s>", 2],
        "cls": ["<s>", 0],
        "trim_offsets": true,
        "add_prefix_space": false,
    });
    let config = json!({
        "tokenizer_class": "RobertaTokenizer",
        "add_prefix_space": false,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "errors": "replace",
        "mask_token": "<mask>",
        "model_max_length": max_tokens,
        "pad_token": "<pad>",
        "processor_class": "ClapProcessor",
        "sep_token": "</s>",
        "trim_offsets": true,
        "unk_token": "<unk>",
    });
    for (name, value) in [
        ("tokenizer.json", &whole),
        ("tokenizer_config.json", &config),
    ] {
        super::files::write(&dir.join(name), format!("{value:#}\n").as_bytes())?;
    }
    Ok(bpe.get_vocab_size(true))
}
