//! The contrastive loss and its gradients against PyTorch's.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use harkd::nn::layers::{Activation, Linear};
use harkd::nn::params::Params;
use harkd::train::contrastive::loss::{Form, LogScales, info_nce};

use crate::support::{Fixture, golden};

/// What the sums of six rows leave of single precision.
const TOLERANCE: f32 = 1e-4;

fn tensor(fixture: &Fixture, key: &str) -> Tensor {
    let stored = fixture.tensor(key);
    Tensor::from_vec(stored.values, stored.shape, &Device::Cpu).unwrap()
}

fn check(case: &str, right: &str, form: Form) {
    let fixture = Fixture::open("clap-loss");
    let params = Params::open_file(&golden("fixtures/clap-loss/expected.safetensors")).unwrap();
    let (params, trainable) = params.trainable(|key| key.contains("_projection."));
    let project = |side: &str, pooled: &Tensor| {
        let place = params.pp(format!("{side}_projection"));
        let inputs = pooled.dim(1).unwrap();
        let dim = params.shape("audio_projection.linear2.bias").unwrap()[0];
        let linear1 = Linear::load(&place.pp("linear1"), inputs, dim).unwrap();
        let linear2 = Linear::load(&place.pp("linear2"), dim, dim).unwrap();
        let inner = linear1.forward_act(pooled, Activation::Relu).unwrap();
        linear2.forward(&inner).unwrap()
    };
    let var = |key: &str| Var::from_tensor(&tensor(&fixture, key)).unwrap();
    let scales = LogScales {
        a: var("logit_scale_a"),
        t: var("logit_scale_t"),
    };
    let pooled = [var("audio"), var("text")];
    let embeds = [project("audio", &pooled[0]), project("text", &pooled[1])];
    let right = tensor(&fixture, right);
    let loss = info_nce(&embeds[0], &embeds[1], &right, &scales, form).unwrap();
    let value = loss.to_scalar::<f32>().unwrap();
    fixture.check(&format!("{case}.loss"), &[1], &[value], TOLERANCE);

    let grads = loss.backward().unwrap();
    let mut trained: BTreeMap<String, Tensor> = [
        ("audio", &pooled[0]),
        ("text", &pooled[1]),
        ("logit_scale_a", &scales.a),
        ("logit_scale_t", &scales.t),
    ]
    .into_iter()
    .filter_map(|(key, var)| Some((key.to_owned(), grads.get(var)?.clone())))
    .collect();
    for (key, var) in trainable.variables() {
        trained.insert(key, grads.get(&var).unwrap().clone());
    }
    // Gradients of what lies between are not kept, so the embeddings are variables once more.
    let embeds = embeds.map(|embeds| Var::from_tensor(&embeds.detach()).unwrap());
    let loss = info_nce(&embeds[0], &embeds[1], &right, &scales, form).unwrap();
    let grads = loss.backward().unwrap();
    for (key, embeds) in ["audio_embeds", "text_embeds"].into_iter().zip(&embeds) {
        trained.insert(key.to_owned(), grads.get(embeds).unwrap().clone());
    }
    let keys = fixture.keys(&format!("{case}.grad."));
    assert!(keys.len() >= 13, "{case}: only {keys:?}");
    for key in keys {
        let name = key.strip_prefix(&format!("{case}.grad.")).unwrap();
        let grad = &trained[name];
        let values: Vec<f32> = grad.flatten_all().unwrap().to_vec1().unwrap();
        fixture.check(&key, grad.dims(), &values, TOLERANCE);
    }
}

#[test]
fn the_loss_of_transformers_and_its_gradients_are_ours() {
    check("clap_model", "right.own", Form::TwoScales);
}

#[test]
fn the_loss_of_laion_and_its_gradients_are_ours() {
    check("laion", "right.own", Form::OneScale);
}

#[test]
fn shared_targets_are_those_of_torchs_cross_entropy() {
    check("laion_shared", "right.shared", Form::OneScale);
}
