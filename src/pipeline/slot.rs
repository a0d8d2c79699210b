//! A model that may break at run time: it is dropped, and made anew after a growing pause.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::models::ModelError;

/// Makes a model, at the start and again after it has failed.
pub type Factory<M> = Arc<dyn Fn() -> Result<Box<M>, ModelError> + Send + Sync>;

/// How long a failed model is left alone at first; doubled up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });
/// And at most.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// A model and the means to make it anew.
pub struct Slot<M: ?Sized> {
    model: Option<Box<M>>,
    make: Factory<M>,
    pause: Duration,
    not_before: Instant,
    reason: Arc<str>,
}

impl<M: ?Sized> Slot<M> {
    /// Makes the model for the first time.
    ///
    /// # Errors
    /// When it cannot be made: at the start that is an error, not something to retry.
    pub fn new(make: Factory<M>) -> Result<Self, ModelError> {
        Ok(Slot {
            model: Some(make()?),
            make,
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
            reason: "".into(),
        })
    }

    /// Runs `code` on the model. Where the model works, this adds nothing that is not real-time
    /// safe; a broken one is made anew here.
    ///
    /// # Errors
    /// When the model fails, panics, or is still left alone after it did; the text says why.
    pub fn run<T>(
        &mut self,
        code: impl FnOnce(&mut M) -> Result<T, ModelError>,
    ) -> Result<T, Arc<str>> {
        if self.model.is_none() && Instant::now() >= self.not_before {
            match guarded(|| (self.make)()) {
                Ok(model) => self.model = Some(model),
                Err(reason) => return Err(self.broken(&reason)),
            }
        }
        let Some(model) = self.model.as_deref_mut() else {
            return Err(self.reason.clone());
        };
        match guarded(|| code(model)) {
            Ok(value) => {
                self.pause = FIRST_PAUSE;
                Ok(value)
            }
            Err(reason) => Err(self.broken(&reason)),
        }
    }

    fn broken(&mut self, reason: &str) -> Arc<str> {
        tracing::warn!("{reason}; the model is started again in {:?}", self.pause);
        self.model = None;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LAST_PAUSE);
        self.reason = reason.into();
        self.reason.clone()
    }
}

/// Runs a model's code and turns a panic into text.
fn guarded<T>(code: impl FnOnce() -> Result<T, ModelError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let said = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(format!(
                "the model panicked: {}",
                said.unwrap_or("no message")
            ))
        }
    }
}
