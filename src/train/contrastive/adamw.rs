//! AdamW (Loshchilov and Hutter, *Decoupled Weight Decay Regularization*, 2019) over named variables,
//! with a state that can be stored and taken up again.
//!
//! Norms, offsets and scales do not decay, as in LAION's training: what has fewer than two dimensions.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};

/// Gradients by the key of their variable, row-major.
pub type Gradients = BTreeMap<String, Vec<f32>>;

/// How far the moments look back, and what keeps the division from nothing: LAION's values.
const BETAS: (f32, f32) = (0.9, 0.98);
const EPS: f32 = 1e-6;

/// Running means of a variable's gradient and of its square.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

/// The optimiser.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    /// Share of a weight that a step at learning rate 1 takes away.
    pub weight_decay: f64,
    /// Steps taken.
    pub steps: usize,
    /// By the key of the variable.
    pub moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// One step down the gradients. A variable without a gradient stays as it is.
    ///
    /// # Errors
    /// When a gradient has another number of values than its variable.
    pub fn step(
        &mut self,
        vars: &BTreeMap<String, Var>,
        gradients: &Gradients,
        learning_rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let correction = |beta: f32| 1.0 - f64::from(beta).powi(self.steps as i32);
        let rate = (learning_rate / correction(BETAS.0)) as f32;
        let spread = correction(BETAS.1) as f32;
        for (key, gradient) in gradients {
            let Some(var) = vars.get(key) else { continue };
            let mut values: Vec<f32> = var.as_tensor().flatten_all()?.to_vec1()?;
            if values.len() != gradient.len() {
                return Err(candle_core::Error::Msg(format!(
                    "{key}: expected a gradient of {} values, got {}",
                    values.len(),
                    gradient.len()
                )));
            }
            let moments = self.moments.entry(key.clone()).or_insert_with(|| Moments {
                first: vec![0.0; gradient.len()],
                second: vec![0.0; gradient.len()],
            });
            let keep = match var.dims().len() {
                0 | 1 => 1.0,
                _ => (1.0 - learning_rate * self.weight_decay) as f32,
            };
            for (((value, gradient), first), second) in values
                .iter_mut()
                .zip(gradient)
                .zip(&mut moments.first)
                .zip(&mut moments.second)
            {
                *first += (1.0 - BETAS.0) * (gradient - *first);
                *second += (1.0 - BETAS.1) * (gradient * gradient - *second);
                *value = keep * *value - rate * *first / ((*second / spread).sqrt() + EPS);
            }
            var.set(&Tensor::from_vec(values, var.dims(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}

/// Scales gradients so that they are together no longer than `most`; says how long they were.
pub fn clip(gradients: &mut Gradients, most: f32) -> f32 {
    let square: f64 = gradients
        .values()
        .flatten()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum();
    let length = square.sqrt() as f32;
    if length > most && length.is_finite() {
        let factor = most / length;
        for value in gradients.values_mut().flatten() {
            *value *= factor;
        }
    }
    length
}

/// The learning rate of step `at` of `all`, of the highest: up over `warm_up` steps, then down along a
/// cosine to nothing.
pub fn schedule(at: usize, all: usize, warm_up: usize) -> f64 {
    if at < warm_up {
        return (at + 1) as f64 / warm_up as f64;
    }
    let share = (at - warm_up) as f64 / all.saturating_sub(warm_up).max(1) as f64;
    0.5 + 0.5 * (std::f64::consts::PI * share.min(1.0)).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn var(values: &[f32], shape: &[usize]) -> Var {
        Var::from_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    #[test]
    fn three_steps_equal_torchs() {
        // torch.optim.AdamW([{"params": [w], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0}],
        // lr=0.01, betas=(0.9, 0.98), eps=1e-6) with gradients w: (1, -2) * step, b: 0.5
        let vars = BTreeMap::from([
            ("w".to_owned(), var(&[0.5, -0.25], &[1, 2])),
            ("b".to_owned(), var(&[1.0], &[1])),
        ]);
        let mut optimiser = AdamW {
            weight_decay: 0.1,
            ..AdamW::default()
        };
        for step in 1..=3 {
            let step = step as f32;
            let gradients = Gradients::from([
                ("w".to_owned(), vec![step, -2.0 * step]),
                ("b".to_owned(), vec![0.5]),
            ]);
            optimiser.step(&vars, &gradients, 0.01).unwrap();
        }
        let values = |key: &str| -> Vec<f32> {
            let flat = vars[key].as_tensor().flatten_all().unwrap();
            flat.to_vec1().unwrap()
        };
        for (got, expected) in values("w").iter().zip(EXPECTED_W) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
        assert!(
            (values("b")[0] - EXPECTED_B).abs() < 1e-6,
            "{:?}",
            values("b")
        );
    }

    const EXPECTED_W: [f32; 2] = [0.469_379_13, -0.220_128_37];
    const EXPECTED_B: f32 = 0.97;

    #[test]
    fn gradients_are_cut_together_and_not_each_by_itself() {
        let mut gradients =
            Gradients::from([("a".to_owned(), vec![3.0]), ("b".to_owned(), vec![4.0])]);
        assert_eq!(clip(&mut gradients, 1.0), 5.0);
        assert!((gradients["a"][0] - 0.6).abs() < 1e-6 && (gradients["b"][0] - 0.8).abs() < 1e-6);
        assert_eq!(clip(&mut gradients, 2.0), 1.0);
    }

    #[test]
    fn the_rate_rises_and_falls() {
        assert_eq!(schedule(0, 100, 10), 0.1);
        assert_eq!(schedule(10, 100, 10), 1.0);
        assert!((schedule(55, 100, 10) - 0.5).abs() < 1e-9);
        assert!(schedule(100, 100, 10) < 1e-9);
        assert_eq!(schedule(0, 1, 0), 1.0);
    }
}
