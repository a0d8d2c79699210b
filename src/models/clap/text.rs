//! The text tower: RoBERTa (Liu et al., *RoBERTa: A Robustly Optimized BERT Pretraining Approach*,
//! 2019) and the projection behind it, as `ClapTextModel` and `ClapProjectionLayer` of transformers
//! 5.23 compute them.

use candle_core::{Device, Tensor};

use super::config::{Config, TextConfig, activation};
use super::{Projection, RobertaTokenizer};
use crate::models::ModelError;
use crate::models::layout::Layout;
use crate::nn::layers::{Activation, Dropout, Embedding, LayerNorm, Linear, attention_dropping};
use crate::nn::params::Params;

/// Tokens that go through the tower together at most, in phrases of one length.
const BATCH_TOKENS: usize = 512;

/// What a token is and where it stands.
struct Embeddings {
    word_embeddings: Embedding,
    token_type_embeddings: Embedding,
    position_embeddings: Embedding,
    layer_norm: LayerNorm,
    dropout: Dropout,
    pad_token_id: u32,
}

impl Embeddings {
    fn load(params: &Params, config: &TextConfig) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let table = |key, rows| Embedding::load(&params.pp(key), rows, hidden);
        Ok(Embeddings {
            word_embeddings: table("word_embeddings", config.vocab_size)?,
            token_type_embeddings: table("token_type_embeddings", config.type_vocab_size)?,
            position_embeddings: table("position_embeddings", config.max_position_embeddings)?,
            layer_norm: LayerNorm::load(&params.pp("LayerNorm"), hidden, config.layer_norm_eps)?,
            dropout: Dropout::at(params, config.hidden_dropout_prob),
            pad_token_id: config.pad_token_id,
        })
    }

    /// Phrases of one number of tokens to `(phrases, tokens, hidden)`.
    fn forward(&self, phrases: &[&[u32]]) -> candle_core::Result<Tensor> {
        let ids = phrases.concat();
        let positions: Vec<u32> = phrases
            .iter()
            .flat_map(|ids| positions(ids, self.pad_token_id))
            .collect();
        let words = self.word_embeddings.forward(&ids)?;
        let places = self.position_embeddings.forward(&positions)?;
        let kind = self.token_type_embeddings.forward(&[0])?;
        let sum = (words.broadcast_add(&kind)? + places)?;
        let (_, hidden) = sum.dims2()?;
        let tokens = phrases.first().map_or(0, |ids| ids.len());
        let sum = sum.reshape((phrases.len(), tokens, hidden))?;
        self.dropout.forward(&self.layer_norm.forward(&sum)?)
    }
}

/// Positions count from the number of the padding token, which itself stands at its own number.
fn positions(ids: &[u32], pad: u32) -> Vec<u32> {
    let mut last = pad;
    ids.iter()
        .map(|&id| {
            if id == pad {
                return pad;
            }
            last = last.saturating_add(1);
            last
        })
        .collect()
}

/// Every token looks at all others.
struct SelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    heads: usize,
    /// `head_dim ** -0.5`.
    scale: f32,
    dropout: Dropout,
}

impl SelfAttention {
    fn load(params: &Params, config: &TextConfig) -> Result<Self, ModelError> {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        let part = |key| Linear::load(&params.pp(key), hidden, hidden);
        Ok(SelfAttention {
            query: part("query")?,
            key: part("key")?,
            value: part("value")?,
            heads,
            scale: ((hidden / heads) as f32).powf(-0.5),
            dropout: Dropout::at(params, config.attention_probs_dropout_prob),
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (q, k, v) = (
            self.query.forward(x)?,
            self.key.forward(x)?,
            self.value.forward(x)?,
        );
        let dropped = self.dropout.of_weights();
        attention_dropping(&q, &k, &v, self.heads, self.scale, None, dropped)
    }
}

/// A linear layer, its residual, and the normalisation of their sum.
struct Output {
    dense: Linear,
    dropout: Dropout,
    layer_norm: LayerNorm,
}

impl Output {
    fn load(params: &Params, inputs: usize, config: &TextConfig) -> Result<Self, ModelError> {
        let (hidden, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Output {
            dense: Linear::load(&params.pp("dense"), inputs, hidden)?,
            dropout: Dropout::at(params, config.hidden_dropout_prob),
            layer_norm: LayerNorm::load(&params.pp("LayerNorm"), hidden, eps)?,
        })
    }

    fn forward(&self, x: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
        let sum = self.dense.forward_drop_add(x, &self.dropout, residual)?;
        self.layer_norm.forward(&sum)
    }
}

/// One layer: attention, then two linear layers, the normalisations behind.
struct Layer {
    attention: SelfAttention,
    attention_output: Output,
    intermediate: Linear,
    hidden_act: Activation,
    output: Output,
}

impl Layer {
    fn load(
        params: &Params,
        config: &TextConfig,
        hidden_act: Activation,
    ) -> Result<Self, ModelError> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let attention = params.pp("attention");
        Ok(Layer {
            attention: SelfAttention::load(&attention.pp("self"), config)?,
            attention_output: Output::load(&attention.pp("output"), hidden, config)?,
            intermediate: Linear::load(&params.pp("intermediate.dense"), hidden, inner)?,
            hidden_act,
            output: Output::load(&params.pp("output"), inner, config)?,
        })
    }

    /// `(phrases, tokens, hidden)` to the same.
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let seen = self.attention.forward(x)?;
        let x = self.attention_output.forward(&seen, x)?;
        let inner = self.intermediate.forward_act(&x, self.hidden_act)?;
        self.output.forward(&inner, &x)
    }
}

/// The text tower with its tokenizer.
pub struct ClapText {
    tokenizer: RobertaTokenizer,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Linear,
    projection: Projection,
}

impl ClapText {
    /// Loads it from the tensors of a directory.
    ///
    /// # Errors
    /// When the configuration makes no network, the tokenizer is missing or wrong, or a tensor is
    /// missing or misshapen.
    pub fn load(layout: &Layout, params: &Params) -> Result<Self, ModelError> {
        let whole = Config::read(layout)?;
        let config = &whole.text_config;
        config.check(layout)?;
        let hidden_act = activation(layout, "text_config.hidden_act", &config.hidden_act)?;
        let hidden = config.hidden_size;
        let model = params.pp("text_model");
        let embeddings = Embeddings::load(&model.pp("embeddings"), config)?;
        let layers = model.pp("encoder.layer");
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&layers.pp(index), config, hidden_act))
            .collect::<Result<_, _>>()?;
        Ok(ClapText {
            tokenizer: RobertaTokenizer::load(layout, config.max_tokens())?,
            embeddings,
            layers,
            pooler: Linear::load(&model.pp("pooler.dense"), hidden, hidden)?,
            projection: Projection::load(&params.pp("text_projection"), layout, &whole, hidden)?,
        })
    }

    /// What makes tokens of a phrase.
    pub fn tokenizer(&self) -> &RobertaTokenizer {
        &self.tokenizer
    }

    /// The embedding of a phrase, of length 1.
    ///
    /// # Errors
    /// When the phrase has more tokens than there are positions.
    pub fn embed(&self, phrase: &str) -> Result<Vec<f32>, ModelError> {
        let mut embeddings = self.embed_all(&[phrase], &mut |_| {})?;
        Ok(embeddings.pop().unwrap_or_default())
    }

    /// The embeddings of many phrases, each of length 1, in their order; says how many are done from
    /// time to time.
    ///
    /// # Errors
    /// When a phrase has more tokens than there are positions.
    pub fn embed_all<S: AsRef<str>>(
        &self,
        phrases: &[S],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let ids = phrases
            .iter()
            .map(|phrase| self.tokenizer.encode(phrase.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        self.embed_each(&ids, done)
    }

    /// [`ClapText::embed_all`] of phrases of any length: one that is too long is cut, as the reference
    /// does with `truncation=True`.
    ///
    /// # Errors
    /// When a phrase cannot be made into tokens.
    pub fn embed_truncated<S: AsRef<str>>(
        &self,
        phrases: &[S],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let ids = phrases
            .iter()
            .map(|phrase| self.tokenizer.encode_truncated(phrase.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        self.embed_each(&ids, done)
    }

    /// The embeddings of the tokens of phrases, in their order.
    fn embed_each(
        &self,
        ids: &[Vec<u32>],
        done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut embeddings = vec![Vec::new(); ids.len()];
        let mut finished = 0;
        for batch in batches(ids) {
            let batch_ids: Vec<&[u32]> = batch.iter().map(|&at| ids[at].as_slice()).collect();
            let pooled = self.run_ids(&batch_ids, &mut |_| {})?;
            let rows: Vec<Vec<f32>> = self.project(&pooled)?.to_vec2()?;
            for (&at, row) in batch.iter().zip(rows) {
                embeddings[at] = row;
            }
            finished += batch.len();
            done(finished);
        }
        Ok(embeddings)
    }

    /// The embeddings of the tokens of some phrases, `(phrases, dim)`, each of length 1: what
    /// [`ClapText::embed_all`] gives of their text, as a tensor through which gradients pass.
    ///
    /// # Errors
    /// When a token has no embedding, or a phrase more tokens than there are positions.
    pub fn forward(&self, ids: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        self.project(&self.pooled(ids)?)
    }

    /// What the tower makes of the tokens of some phrases before the projection, `(phrases, hidden)`.
    ///
    /// # Errors
    /// The same.
    pub fn pooled(&self, ids: &[Vec<u32>]) -> Result<Tensor, ModelError> {
        let batches = batches(ids);
        // The row of every phrase in what the batches give.
        let mut rows = vec![0u32; ids.len()];
        for (row, &phrase) in batches.iter().flatten().enumerate() {
            rows[phrase] = row as u32;
        }
        let parts = batches
            .iter()
            .map(|batch| {
                let ids: Vec<&[u32]> = batch.iter().map(|&at| ids[at].as_slice()).collect();
                self.run_ids(&ids, &mut |_| {})
            })
            .collect::<Result<Vec<_>, _>>()?;
        let rows = Tensor::from_slice(&rows, ids.len(), &Device::Cpu)?;
        Ok(Tensor::cat(&parts, 0)?.index_select(&rows, 0)?)
    }

    /// From [`ClapText::pooled`] to embeddings of length 1, `(phrases, dim)`.
    ///
    /// # Errors
    /// When the shape is another.
    pub fn project(&self, pooled: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.projection.embed(pooled)?)
    }

    /// Everything on the way for the tokens of one phrase: what [`RobertaTokenizer::encode`] gives, to
    /// the embeddings, the output of every layer, both `(1, tokens, hidden)`, and the pooled first token
    /// `(1, hidden)`.
    ///
    /// # Errors
    /// When a token has no embedding.
    pub fn hidden_states(&self, ids: &[u32]) -> Result<Vec<Tensor>, ModelError> {
        let mut states = Vec::new();
        let pooled = self.run_ids(&[ids], &mut |state| states.push(state.clone()))?;
        states.push(pooled);
        Ok(states)
    }

    /// Phrases of one number of tokens to `(phrases, hidden)`.
    fn run_ids(
        &self,
        phrases: &[&[u32]],
        seen: &mut dyn FnMut(&Tensor),
    ) -> Result<Tensor, ModelError> {
        let mut x = self.embeddings.forward(phrases)?;
        seen(&x);
        for layer in &self.layers {
            x = layer.forward(&x)?;
            seen(&x);
        }
        let first = x.narrow(1, 0, 1)?.squeeze(1)?;
        Ok(self.pooler.forward_act(&first, Activation::Tanh)?)
    }
}

/// Phrases that go together, by their number: they have one length, so that none needs padding.
fn batches(ids: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_by_key(|&phrase| ids[phrase].len());
    order
        .chunk_by(|&a, &b| ids[a].len() == ids[b].len())
        .flat_map(|same| {
            let together = (BATCH_TOKENS / ids[same[0]].len().max(1)).max(1);
            same.chunks(together).map(<[usize]>::to_vec)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_of_one_length_go_together_up_to_so_many_tokens() {
        let ids = [vec![0; 3], vec![0; 2], vec![0; 3]];
        assert_eq!(batches(&ids), [vec![1], vec![0, 2]]);
        let many = vec![vec![0; 100]; 11];
        let lengths: Vec<usize> = batches(&many).iter().map(Vec::len).collect();
        assert_eq!(lengths, [5, 5, 1]);
        assert!(batches(&[]).is_empty());
    }

    #[test]
    fn positions_begin_behind_that_of_padding_and_skip_it() {
        assert_eq!(positions(&[0, 72, 302, 2], 1), [2, 3, 4, 5]);
        assert_eq!(positions(&[0, 1, 7, 1, 2], 1), [2, 1, 3, 1, 4]);
        assert!(positions(&[], 1).is_empty());
    }
}
