//! Every transformer with all of it trained: it gives what it gives untrained, and the gradient of every
//! parameter is what a small step along it does.
//!
//! The gradients of CLAP are compared with the reference's in `clap_gradients`; these go through the
//! same layers.

use candle_core::Tensor;
use harkd::models::ast::Ast;
use harkd::models::layout::Layout;
use harkd::models::speech_encoder::SpeechModel;
use harkd::models::whisper::Whisper;
use harkd::models::{ModelError, hubert, wav2vec2, wavlm};

use super::support::golden;

/// What turns features into outputs.
type Forward = Box<dyn Fn(&Tensor) -> Tensor>;

/// What a step should change: enough to be seen in f32, and too little to pass many corners of a
/// rectifier.
const CHANGE: f64 = 5e-3;
/// How far what a step does may be from what its gradient says.
const SHARE: f64 = 0.03;

fn draw(seed: u64, shape: &[usize], scale: f32) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| (rng.f32() * 2.0 - 1.0) * scale)
        .collect();
    Tensor::from_vec(values, shape, &candle_core::Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// A bias of keys adds the same to every key's score, which a softmax does not see.
fn cancels(key: &str) -> bool {
    key.ends_with("k_proj.bias") || key.ends_with("key.bias")
}

/// A weighted sum takes the last layer of the large networks before its normalisation.
fn is_left_out(case: &str, key: &str) -> bool {
    case == "wav2vec2-stable" && key.contains("encoder.layer_norm.")
}

fn check(case: &str, load: impl Fn(&Layout) -> Forward, features: &Tensor) {
    let fixed = Layout::open(&golden("fixtures").join(case)).unwrap();
    let (layout, trainable) = fixed.trainable(|_| true).unwrap();
    let (fixed, trained) = (load(&fixed), load(&layout));
    let (expected, out) = (fixed(features), trained(features));
    assert!(out.track_op() && !expected.track_op());
    let scale = values(&expected)
        .iter()
        .fold(1f32, |most, v| most.max(v.abs()));
    for (got, expected) in values(&out).iter().zip(values(&expected)) {
        assert!(
            (got - expected).abs() <= 1e-5 * scale,
            "{case}: {got} {expected}"
        );
    }
    let weight = draw(7, out.dims(), 1.0);
    let grads = (&out * &weight).unwrap().sum_all().unwrap();
    let grads = grads.backward().unwrap();
    let weight = values(&weight);
    let loss = || dot(&values(&trained(features)), &weight);
    let mut variables = trainable.variables();
    variables.retain(|key, var| {
        let left_out = is_left_out(case, key);
        assert_eq!(grads.get(var).is_none(), left_out, "{case} {key}");
        !left_out
    });
    let norm = |values: &[f32]| dot(values, values).sqrt();
    let of = |key: &String| values(grads.get(&variables[key]).unwrap());
    let most = variables
        .keys()
        .map(|key| norm(&of(key)))
        .fold(0.0, f64::max);
    let mut stepped = 0;
    for (key, var) in &variables {
        let (grad, start) = (of(key), values(var));
        let length = norm(&grad);
        assert!(length.is_finite(), "{case} {key}");
        assert_eq!(
            length > 1e-5 * most,
            !cancels(key),
            "{case} {key}: {length:e} of {most:e}"
        );
        if length <= 1e-3 * most {
            continue;
        }
        // A step along the gradient, small against the parameter.
        let step = (CHANGE / length).min(0.01 * norm(&start).max(0.1)) / length;
        let at = |by: f64| {
            let moved = start
                .iter()
                .zip(&grad)
                .map(|(v, g)| v + (by * f64::from(*g)) as f32);
            let moved = Tensor::from_vec(moved.collect(), var.shape(), var.device()).unwrap();
            var.set(&moved).unwrap();
            loss()
        };
        // What the roundoff of the outputs alone may look like.
        let noise = 1e-5 * f64::from(scale) / step;
        if noise > 0.1 * length * length {
            continue;
        }
        let slope = (at(step) - at(-step)) / (2.0 * step);
        at(0.0);
        let off = (slope - length * length).abs();
        assert!(
            off <= SHARE * length * length + noise,
            "{case} {key}: a step says {slope:e}, the gradient {:e}",
            length * length
        );
        stepped += 1;
    }
    assert!(
        stepped * 2 > variables.len(),
        "{case}: {stepped} of {}",
        variables.len()
    );
}

fn check_speech(case: &str, load: fn(&Layout) -> Result<SpeechModel, ModelError>) {
    let load = |layout: &Layout| -> Forward {
        let model = load(layout).unwrap();
        Box::new(move |wave| model.forward(wave, &mut |_, _| Ok(())).unwrap())
    };
    check(case, load, &draw(1, &[2, 6000, 1], 1.0));
}

#[test]
fn wav2vec2_can_be_trained() {
    for case in [
        "wav2vec2-group",
        "wav2vec2-stable",
        "wav2vec2-attention-adapter",
        "wav2vec2-adapter",
    ] {
        check_speech(case, wav2vec2::load);
    }
}

#[test]
fn hubert_can_be_trained() {
    for case in ["hubert-sequence", "hubert-batch-norm", "distilhubert-genre"] {
        check_speech(case, hubert::load);
    }
}

#[test]
fn wavlm_can_be_trained() {
    for case in ["wavlm-sv", "wavlm-sequence", "wavlm-stable"] {
        check_speech(case, wavlm::load);
    }
}

#[test]
fn the_audio_spectrogram_transformer_can_be_trained() {
    let load = |layout: &Layout| -> Forward {
        let ast = Ast::load(layout).unwrap();
        Box::new(move |x| ast.logits_of(&ast.pooled(x).unwrap()).unwrap())
    };
    check("ast-keyword", load, &draw(1, &[2, 128, 128], 1.0));
}

#[test]
fn whisper_can_be_trained() {
    let load = |layout: &Layout| -> Forward {
        let whisper = Whisper::load(layout).unwrap();
        Box::new(move |x| {
            let pooled = whisper.pooled(&whisper.encode(x).unwrap()).unwrap();
            whisper.logits_of(&pooled).unwrap()
        })
    };
    check("whisper-weighted", load, &draw(1, &[1, 1000, 80], 1.0));
}
