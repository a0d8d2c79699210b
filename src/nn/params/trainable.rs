//! Which tensors of a checkpoint are trained, and what has become of them.
//!
//! A variable is made when a layer first asks for its key, so that what a network does not use is not
//! trained. Statistics that a normalisation gathers while it is trained are kept here too: they are no
//! variables, but go back into the checkpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Var;

use super::Weight;

/// What layers do differently while a network is trained; as in PyTorch's `eval()` where both are off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mode {
    /// Batch normalisations that are trained take the statistics of the batch, and gather them.
    pub batch_statistics: bool,
    /// Values are dropped at random, as many as the configuration says.
    pub dropout: bool,
}

/// Mean and variance of every channel, as batches pass by.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningStatistics {
    /// Mean a channel.
    pub mean: Vec<f32>,
    /// Variance a channel.
    pub var: Vec<f32>,
    /// Batches that were gathered here; those before do not count.
    pub batches: usize,
}

/// Whether a key is trained.
type Chosen = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The trained tensors of a checkpoint.
pub struct Trainable {
    chosen: Chosen,
    variables: Mutex<BTreeMap<String, Var>>,
    statistics: Mutex<BTreeMap<String, Arc<Mutex<RunningStatistics>>>>,
    mode: Mutex<Mode>,
    rng: Mutex<fastrand::Rng>,
}

impl std::fmt::Debug for Trainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trainable")
            .field("variables", &lock(&self.variables).keys())
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}

/// What is in a mutex: nothing here is left half written by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trainable {
    pub(super) fn new(chosen: Chosen) -> Self {
        Trainable {
            chosen,
            variables: Mutex::default(),
            statistics: Mutex::default(),
            mode: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(0)),
        }
    }

    /// Whether the tensor of this whole key is trained.
    pub fn chooses(&self, key: &str) -> bool {
        (self.chosen)(key)
    }

    /// Every variable that a layer has asked for, by its whole key in the checkpoint: what an optimiser
    /// moves.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        lock(&self.variables).clone()
    }

    /// What layers do differently now; nothing at first.
    pub fn mode(&self) -> Mode {
        *lock(&self.mode)
    }

    /// Says what layers do differently from now on.
    pub fn set_mode(&self, mode: Mode) {
        *lock(&self.mode) = mode;
    }

    /// Begins the numbers by which values are dropped anew.
    pub fn seed(&self, seed: u64) {
        *lock(&self.rng) = fastrand::Rng::with_seed(seed);
    }

    /// The next of those numbers.
    pub fn draw(&self) -> u64 {
        lock(&self.rng).u64(..)
    }

    /// The variable of a whole key, made of `weight` when it is first asked for.
    pub(super) fn variable(&self, key: String, weight: &Weight) -> candle_core::Result<Var> {
        let mut variables = lock(&self.variables);
        if let Some(var) = variables.get(&key) {
            return Ok(var.clone());
        }
        let var = Var::from_tensor(&weight.tensor()?)?;
        variables.insert(key, var.clone());
        Ok(var)
    }

    /// The statistics of the normalisation at `prefix`, which begin with `start`.
    pub(super) fn statistics(
        &self,
        prefix: &str,
        start: RunningStatistics,
    ) -> Arc<Mutex<RunningStatistics>> {
        lock(&self.statistics)
            .entry(prefix.to_owned())
            .or_insert_with(|| Arc::new(Mutex::new(start)))
            .clone()
    }

    /// What normalisations have gathered, by the place of each, with its last dot.
    pub(super) fn gathered(&self) -> BTreeMap<String, RunningStatistics> {
        lock(&self.statistics)
            .iter()
            .map(|(prefix, statistics)| (prefix.clone(), lock(statistics).clone()))
            .filter(|(_, statistics)| statistics.batches > 0)
            .collect()
    }
}
