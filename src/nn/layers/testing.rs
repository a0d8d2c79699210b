//! What the tests of the layers share.

use candle_core::{Device, Tensor, Var};

use crate::nn::params::{Parameter, Weight};

pub fn draw(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let data: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.f32() - 0.5)
        .collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

pub fn assert_close(a: &Tensor, b: &Tensor, tolerance: f32) {
    assert_eq!(a.dims(), b.dims());
    let diff = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    let diff = diff.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(diff <= tolerance, "differs by {diff}");
}

/// The values of a tensor as those of a checkpoint.
pub fn weight(values: &Tensor) -> Weight {
    Weight::from_values(
        values.flatten_all().unwrap().to_vec1().unwrap(),
        values.dims(),
    )
}

/// `x` to zero mean and unit variance over `dim`, by candle.
pub fn normal(x: &Tensor, dim: impl candle_core::shape::Dim + Copy, eps: f64) -> Tensor {
    let centred = x.broadcast_sub(&x.mean_keepdim(dim).unwrap()).unwrap();
    let var = centred.sqr().unwrap().mean_keepdim(dim).unwrap();
    centred
        .broadcast_div(&(var + eps).unwrap().sqrt().unwrap())
        .unwrap()
}

/// Asserts that the gradient of `f` by every input is what small steps of it say.
pub fn check_gradients<F>(inputs: &[Tensor], f: F)
where
    F: Fn(&[Var]) -> candle_core::Result<Tensor>,
{
    let vars: Vec<Var> = inputs
        .iter()
        .map(|input| Var::from_tensor(&input.contiguous().unwrap()).unwrap())
        .collect();
    let run = || f(&vars).unwrap();
    let weight = draw(99, run().dims());
    // Summed in f64, so that a small step shows.
    let loss = || -> f64 {
        let (out, weight) = (run().flatten_all().unwrap(), weight.flatten_all().unwrap());
        let pairs = out.to_vec1::<f32>().unwrap();
        let weights = weight.to_vec1::<f32>().unwrap();
        let pairs = pairs.iter().zip(&weights);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let grads = (run() * &weight).unwrap().sum_all().unwrap();
    let grads = grads.backward().unwrap();
    for (which, var) in vars.iter().enumerate() {
        let grad = grads
            .get(var)
            .unwrap_or_else(|| panic!("no gradient of {which}"));
        assert_eq!(grad.dims(), var.dims(), "{which}");
        let grad: Vec<f32> = grad.flatten_all().unwrap().to_vec1().unwrap();
        let scale = grad.iter().fold(0f32, |most, g| most.max(g.abs()));
        assert!(scale > 0.0, "the gradient of {which} is zero");
        let start: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
        let set = |values: Vec<f32>| {
            let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
        };
        for at in (0..start.len()).step_by(1 + start.len() / 23) {
            let moved = |by: f32| {
                let mut values = start.clone();
                values[at] += by;
                set(values);
                loss()
            };
            let step = 4e-3;
            // The slope by steps of two sizes, whose error of second order is taken off.
            let slope = |step: f32| (moved(step) - moved(-step)) / f64::from(2.0 * step);
            let numeric = (4.0 * slope(step) - slope(2.0 * step)) / 3.0;
            let error = (numeric - f64::from(grad[at])).abs();
            let allowed = 4e-3 * f64::from(scale) + 4e-4;
            assert!(
                error <= allowed,
                "{which}[{at}]: {numeric} by steps, {}",
                grad[at]
            );
        }
        set(start);
    }
}

/// One input of a layer as a test runs it.
pub enum Input {
    /// Nothing is trained.
    Fixed(Tensor),
    /// All is.
    Trained(Var),
    /// Weights are fixed, and gradients pass through them to what came in.
    Passed(Var),
}

impl Input {
    /// As a weight.
    pub fn parameter(&self) -> Parameter {
        match self {
            Input::Fixed(values) => weight(values).into(),
            Input::Trained(var) => var.clone().into(),
            Input::Passed(var) => weight(var.as_tensor()).into(),
        }
    }

    /// As what comes in.
    pub fn tensor(&self) -> Tensor {
        match self {
            Input::Fixed(values) => values.clone(),
            Input::Trained(var) | Input::Passed(var) => var.as_tensor().clone(),
        }
    }
}

/// Asserts that a layer gives the same whether or not it is trained, that its gradients are those of
/// small steps, and that the first input's gradient passes where all the weights are fixed.
pub fn check_layer<const N: usize, F>(inputs: &[Tensor; N], layer: F)
where
    F: Fn(&[Input; N]) -> candle_core::Result<Tensor>,
{
    let fixed = layer(&inputs.clone().map(Input::Fixed)).unwrap();
    assert!(!fixed.track_op());
    let vars = inputs
        .clone()
        .map(|input| Var::from_tensor(&input).unwrap());
    let trained = layer(&vars.clone().map(Input::Trained)).unwrap();
    assert!(trained.track_op());
    assert_close(&trained, &fixed, 1e-5);
    let passed = layer(&vars.clone().map(Input::Passed)).unwrap();
    assert_close(&passed, &fixed, 1e-5);
    let grad = |out: Tensor| {
        let loss = (&out * draw(99, out.dims())).unwrap().sum_all().unwrap();
        loss.backward().unwrap().get(&vars[0]).unwrap().clone()
    };
    assert_close(&grad(passed), &grad(trained), 1e-6);
    check_gradients(inputs, |vars| {
        layer(&std::array::from_fn(|i| Input::Trained(vars[i].clone())))
    });
}
