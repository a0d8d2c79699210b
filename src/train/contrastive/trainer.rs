//! The loop: batches of sounds and texts through both towers, the loss, a step.
//!
//! A frozen tower is asked once for each sound or text and what it said is kept in memory. Of a trained
//! audio tower a batch may be cut into parts, because the loss needs all embeddings of a batch but their
//! graphs do not fit into memory together: the embeddings are computed first without keeping graphs, the
//! loss gives each a gradient, and each part is computed again to carry its own back (Gao et al., *Scaling
//! Deep Contrastive Learning Batch Size under Memory Limited Setup*, 2021). Both ways give the same step.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor, Var, backprop::GradStore};
use fastrand::Rng;

use super::adamw::{AdamW, Gradients, clip, schedule};
use super::bend::{bend, cover};
use super::directory::WEIGHTS;
use super::loss::{Form, info_nce};
use super::pairs::{Drawn, Pairs};
use super::state;
use super::texts::TextPairs;
use super::towers::{Freeze, Towers, rows};
use crate::features::clap_mel::ClapInput;
use crate::models::ModelError;

/// How a CLAP is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Recipe {
    /// What stays as it is.
    pub freeze: Freeze,
    /// How the scales enter the loss.
    pub form: Form,
    /// Steps in all.
    pub steps: usize,
    /// Sounds a step.
    pub batch: usize,
    /// Sounds whose graphs are in memory together, where the audio tower is trained.
    pub part: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps on which it rises.
    pub warm_up: usize,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// The longest that all gradients together may be.
    pub clip: f32,
    /// Versions of a clip that are heard: 0 as it is; else as many bent ones of a frozen tower, and a new
    /// one each time of a trained one.
    pub bend: usize,
    /// Whether trained towers drop values at random, as many as their configuration says.
    pub dropout: bool,
    /// What the loss between texts counts, where there are such.
    pub text_weight: f64,
    /// Pairs of texts a step.
    pub text_batch: usize,
    /// Where the random numbers start.
    pub seed: u64,
}

/// What goes wrong while training.
#[derive(Debug, thiserror::Error)]
pub enum ContrastError {
    /// The model or the disk.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The loss or the gradients are no numbers any more.
    #[error(
        "training: the {what} of step {step} is {value}: the weights are still those of the step before; lower --learning-rate"
    )]
    Diverged {
        /// `loss` or `gradient`.
        what: &'static str,
        /// The step, from 1.
        step: usize,
        /// What it was.
        value: f32,
    },
}

impl From<candle_core::Error> for ContrastError {
    fn from(error: candle_core::Error) -> Self {
        ContrastError::Model(error.into())
    }
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Steps done.
    pub done: usize,
    /// Its loss between sounds and texts.
    pub loss: f32,
    /// Its loss between texts; 0 where there are none.
    pub text_loss: f32,
    /// Length of all gradients together, before they were cut.
    pub gradient: f32,
}

/// Gives the samples of a sound by its number, at the rate of the front end.
pub type Sounds<'a> = dyn Fn(usize) -> Vec<f32> + 'a;

/// A run.
pub struct Trainer<'a> {
    /// The model.
    pub towers: Towers,
    /// The optimiser, and with it how many steps were done.
    pub optimiser: AdamW,
    recipe: Recipe,
    pairs: &'a Pairs,
    texts: Option<&'a TextPairs>,
    sounds: &'a Sounds<'a>,
    /// What a frozen audio tower said of each sound: its versions, `(hidden)` each.
    heard: Vec<Vec<Vec<f32>>>,
    /// What a frozen text tower said of a text.
    read: HashMap<String, Vec<f32>>,
}

/// Clips that go through a frozen tower together.
const TOGETHER: usize = 4;

impl<'a> Trainer<'a> {
    /// Begins a run. Of frozen towers everything is asked here, `asked` is told how much of it.
    ///
    /// # Errors
    /// When a sound or a text does not go through its tower.
    pub fn new(
        towers: Towers,
        recipe: Recipe,
        pairs: &'a Pairs,
        texts: Option<&'a TextPairs>,
        sounds: &'a Sounds<'a>,
        asked: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, ContrastError> {
        let optimiser = AdamW {
            weight_decay: recipe.weight_decay,
            ..AdamW::default()
        };
        let mut trainer = Trainer {
            towers,
            optimiser,
            recipe,
            pairs,
            texts,
            sounds,
            heard: Vec::new(),
            read: HashMap::new(),
        };
        if !trainer.recipe.freeze.trains_audio() {
            trainer.hear(asked)?;
        }
        if !trainer.recipe.freeze.trains_text() {
            trainer.read()?;
        }
        Ok(trainer)
    }

    /// Stores the run and writes the model, in this order: a run that is killed between the two goes on from
    /// the newer. With one scale in the loss the other is written equal to it, as both are of the same
    /// logits.
    ///
    /// # Errors
    /// When the disk refuses; what was there before stays then.
    pub fn save(&self, out: &Path, run: &str) -> Result<(), ContrastError> {
        if self.recipe.form == Form::OneScale {
            let scales = self.towers.scales();
            scales.t.set(scales.a.as_tensor())?;
        }
        state::save(out, run, self.towers.vars(), &self.optimiser)?;
        Ok(self.towers.save(&out.join(WEIGHTS))?)
    }

    /// The random numbers of a purpose, which nothing before them moves.
    fn rng(&self, purpose: u64, number: usize) -> Rng {
        // Odd multipliers of the golden ratio and of SplitMix64 keep neighbours apart.
        let mixed = (number as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(purpose.wrapping_mul(0xBF58_476D_1CE4_E5B9));
        Rng::with_seed(self.recipe.seed ^ mixed)
    }

    /// The features of a sound, bent or as it is.
    fn features(&self, item: usize, bent: Option<&mut Rng>) -> ClapInput {
        let front_end = self.towers.audio().front_end();
        let pcm = (self.sounds)(item);
        let Some(rng) = bent else {
            return front_end.compute(&pcm);
        };
        let mut input = front_end.compute(&bend(rng, &pcm, front_end.window_samples()));
        let view = input.frames * input.bins;
        for values in input.values.chunks_exact_mut(view.max(1)) {
            cover(rng, values, input.bins);
        }
        input
    }

    fn hear(&mut self, asked: &mut dyn FnMut(usize, usize)) -> Result<(), ContrastError> {
        let versions = self.recipe.bend.max(1);
        let all = self.pairs.items.len() * versions;
        let work: Vec<(usize, usize)> = (0..self.pairs.items.len())
            .flat_map(|item| (0..versions).map(move |version| (item, version)))
            .collect();
        let mut heard = vec![Vec::with_capacity(versions); self.pairs.items.len()];
        for (done, together) in work.chunks(TOGETHER).enumerate() {
            let inputs: Vec<ClapInput> = together
                .iter()
                .map(|&(item, version)| {
                    let mut rng = self.rng(2, item * versions + version);
                    self.features(item, (self.recipe.bend > 0).then_some(&mut rng))
                })
                .collect();
            let pooled = self.towers.audio().pooled(&inputs)?;
            let pooled: Vec<Vec<f32>> = pooled.to_vec2()?;
            for (&(item, _), row) in together.iter().zip(pooled) {
                heard[item].push(row);
            }
            asked((done * TOGETHER + together.len()).min(all), all);
        }
        self.heard = heard;
        Ok(())
    }

    fn read(&mut self) -> Result<(), ContrastError> {
        let mut all: Vec<String> = Vec::new();
        for name in self.pairs.names.all() {
            all.extend(name.texts.iter().cloned());
        }
        if let Some(texts) = self.texts {
            all.extend(texts.all().map(str::to_owned));
        }
        all.sort();
        all.dedup();
        for text in &all {
            let tokens = self.towers.tokens(text)?;
            let pooled = self.towers.text().pooled(&[tokens])?;
            let row: Vec<f32> = pooled.squeeze(0)?.to_vec1()?;
            self.read.insert(text.clone(), row);
        }
        Ok(())
    }

    /// Texts in the common space, `(texts, dim)`.
    fn embed_texts(&self, texts: &[String]) -> Result<Tensor, ContrastError> {
        if !self.recipe.freeze.trains_text() {
            let known: Vec<&[f32]> = texts
                .iter()
                .map(|text| self.read.get(text).map_or(&[][..], Vec::as_slice))
                .collect();
            return Ok(self.towers.text().project(&rows(&known)?)?);
        }
        let tokens = texts
            .iter()
            .map(|text| self.towers.tokens(text))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.towers.text().forward(&tokens)?)
    }

    /// Where that is asked for, values are dropped from here on, the same in every run of this step.
    fn drop_values(&self, purpose: u64, number: usize) {
        if self.recipe.dropout {
            self.towers.drop_values(self.rng(purpose, number).u64(..));
        }
    }

    /// Part `part` of the sounds of step `number` in the common space, `(clips, dim)`.
    fn embed_sounds(
        &self,
        inputs: &[ClapInput],
        number: usize,
        part: usize,
    ) -> Result<Tensor, ContrastError> {
        // When a part is computed again, the same values must be missing.
        self.drop_values(4 + part as u64, number);
        Ok(self.towers.audio().forward(inputs)?)
    }

    /// One step.
    ///
    /// # Errors
    /// When a tower fails, or the loss or the gradients are no numbers; the weights are then as they were.
    pub fn step(&mut self) -> Result<Step, ContrastError> {
        let number = self.optimiser.steps;
        self.drop_values(3, number);
        let mut rng = self.rng(1, number);
        let drawn = self.pairs.draw(self.recipe.batch, &mut rng);
        let (loss, mut gradients) = self.sound_loss(&drawn, &mut rng)?;
        let mut text_loss = 0.0;
        if let Some(texts) = self.texts {
            let value = self.text_loss(texts, &mut rng)?;
            text_loss = value.to_scalar()?;
            let weighted = (value * self.recipe.text_weight)?;
            self.gather(&weighted.backward()?, &mut gradients)?;
        }
        let diverged = |what, value| ContrastError::Diverged {
            what,
            step: number + 1,
            value,
        };
        for value in [loss, text_loss] {
            if !value.is_finite() {
                return Err(diverged("loss", value));
            }
        }
        let gradient = clip(&mut gradients, self.recipe.clip);
        if !gradient.is_finite() {
            return Err(diverged("gradient", gradient));
        }
        let Recipe {
            steps,
            warm_up,
            learning_rate,
            ..
        } = self.recipe;
        let rate = learning_rate * schedule(number, steps, warm_up);
        self.optimiser.step(self.towers.vars(), &gradients, rate)?;
        self.towers.scales().clamp()?;
        Ok(Step {
            done: number + 1,
            loss,
            text_loss,
            gradient,
        })
    }

    fn sound_loss(&self, drawn: &Drawn, rng: &mut Rng) -> Result<(f32, Gradients), ContrastError> {
        let shape = (drawn.items.len(), drawn.texts.len());
        let right = Tensor::from_slice(&drawn.right, shape, &Device::Cpu)?;
        let text = self.embed_texts(&drawn.texts)?;
        let loss_of =
            |audio: &Tensor| info_nce(audio, &text, &right, self.towers.scales(), self.recipe.form);
        let number = self.optimiser.steps;
        let mut gradients = Gradients::new();
        if !self.recipe.freeze.trains_audio() {
            let heard: Vec<&[f32]> = drawn
                .items
                .iter()
                .map(|&item| {
                    let versions = &self.heard[item];
                    versions[rng.usize(0..versions.len())].as_slice()
                })
                .collect();
            let loss = loss_of(&self.towers.audio().project(&rows(&heard)?)?)?;
            self.gather(&loss.backward()?, &mut gradients)?;
            return Ok((loss.to_scalar()?, gradients));
        }
        let inputs: Vec<ClapInput> = drawn
            .items
            .iter()
            .map(|&item| self.features(item, (self.recipe.bend > 0).then_some(&mut *rng)))
            .collect();
        let part = self.recipe.part.clamp(1, inputs.len().max(1));
        if part >= inputs.len() {
            let loss = loss_of(&self.embed_sounds(&inputs, number, 0)?)?;
            self.gather(&loss.backward()?, &mut gradients)?;
            return Ok((loss.to_scalar()?, gradients));
        }
        let embedded = inputs
            .chunks(part)
            .enumerate()
            .map(|(at, inputs)| Ok(self.embed_sounds(inputs, number, at)?.detach()))
            .collect::<Result<Vec<_>, ContrastError>>()?;
        let audio = Var::from_tensor(&Tensor::cat(&embedded, 0)?)?;
        let loss = loss_of(audio.as_tensor())?;
        let store = loss.backward()?;
        self.gather(&store, &mut gradients)?;
        let Some(pull) = store.get(&audio) else {
            return Ok((loss.to_scalar()?, gradients));
        };
        for (at, inputs) in inputs.chunks(part).enumerate() {
            let pull = pull.narrow(0, at * part, inputs.len())?.detach();
            let pulled = (self.embed_sounds(inputs, number, at)? * pull)?.sum_all()?;
            self.gather(&pulled.backward()?, &mut gradients)?;
        }
        Ok((loss.to_scalar()?, gradients))
    }

    /// Texts that mean the same against all others of as many.
    fn text_loss(&self, texts: &TextPairs, rng: &mut Rng) -> Result<Tensor, ContrastError> {
        let (first, second) = texts.draw(self.recipe.text_batch, rng);
        let right = Tensor::eye(first.len(), candle_core::DType::F32, &Device::Cpu)?;
        let (first, second) = (self.embed_texts(&first)?, self.embed_texts(&second)?);
        Ok(info_nce(
            &first,
            &second,
            &right,
            self.towers.scales(),
            Form::OneScale,
        )?)
    }

    /// Adds the gradients of what is trained.
    fn gather(&self, store: &GradStore, to: &mut Gradients) -> Result<(), ContrastError> {
        let vars: &BTreeMap<String, Var> = self.towers.vars();
        for (key, var) in vars {
            let Some(gradient) = store.get(var) else {
                continue;
            };
            let values: Vec<f32> = gradient.flatten_all()?.to_vec1()?;
            match to.get_mut(key) {
                Some(sum) => sum.iter_mut().zip(values).for_each(|(sum, v)| *sum += v),
                None => {
                    to.insert(key.clone(), values);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
