//! The contrastive loss of CLAP and the gradient of every parameter against the reference's.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{D, Tensor};
use harkd::features::clap_mel::ClapInput;
use harkd::models::clap::{ClapAudio, ClapText};
use harkd::models::layout::Layout;
use harkd::nn::params::{Mode, Params, Trainable};

use super::support::{Fixture, golden, max_abs_diff};

/// How far a gradient may be from the reference's, as a share of the largest value of the same gradient.
const SHARE: f32 = 1e-4;
/// A gradient that is nowhere larger than this share of the largest of all is held to as much of that:
/// it is what is left when larger ones cancel out. So measured, the reference is 1e-5 to 5e-5 away from
/// what it computes itself in f64.
const SMALL: f32 = 1e-2;

const CLIPS: usize = 4;
const FRAMES: usize = 250;
const MELS: usize = 64;

/// What `hashed` of `clap_gradients.py` is.
fn hashed(number: usize) -> f64 {
    let mut mixed = number as u32;
    for multiplier in [0x85eb_ca6b, 0xc2b2_ae35] {
        mixed ^= mixed >> 16;
        mixed = mixed.wrapping_mul(multiplier);
    }
    mixed ^= mixed >> 16;
    f64::from(mixed) / f64::from(1u32 << 31) - 1.0
}

/// What `features` of `clap_gradients.py` is, clip by clip.
fn features(views: usize, is_longer: &[bool]) -> Vec<ClapInput> {
    let value = |sound: usize, frame: usize, mel: usize| {
        let band = hashed(2_000_000 + sound * 8 + mel / 8);
        let block = hashed(sound * 1000 + frame / 25 * 8 + mel / 8);
        let noise = hashed(1_000_000 + (sound * FRAMES + frame) * MELS + mel);
        (-35.0 + 20.0 * band + 10.0 * block + 6.0 * noise) as f32
    };
    (0..CLIPS)
        .map(|clip| ClapInput {
            channels: views,
            frames: FRAMES,
            bins: MELS,
            values: (0..views * FRAMES * MELS)
                .map(|at| {
                    let (view, at) = (at / (FRAMES * MELS), at % (FRAMES * MELS));
                    value(clip * views + view + 1, at / MELS, at % MELS)
                })
                .collect(),
            is_longer: is_longer[clip],
        })
        .collect()
}

/// Both towers and the two scales, some of it trained.
struct Network {
    audio: ClapAudio,
    text: ClapText,
    scales: [Tensor; 2],
    params: Params,
    trainable: Arc<Trainable>,
}

fn load(case: &str, chosen: impl Fn(&str) -> bool + Send + Sync + 'static) -> Network {
    let layout = Layout::open(&golden("fixtures").join(case)).unwrap();
    let (params, trainable) = layout.params().unwrap().trainable(chosen);
    let scale = |key| params.parameter(key, &[]).unwrap().tensor().unwrap();
    Network {
        audio: ClapAudio::load(&layout, &params).unwrap(),
        text: ClapText::load(&layout, &params).unwrap(),
        scales: [scale("logit_scale_t"), scale("logit_scale_a")],
        params,
        trainable,
    }
}

/// The logits by prompt, and the loss: what every prompt's clip has among all clips, by either scale.
fn loss(network: &Network, fixture: &Fixture, case: &str) -> (Tensor, Tensor) {
    let prompts: Vec<String> = serde_json::from_value(fixture.json("prompts").unwrap()).unwrap();
    let longer: Vec<bool> = serde_json::from_value(fixture.json("is_longer").unwrap()).unwrap();
    let views = if case.contains("unfused") { 1 } else { 4 };
    let clips = network.audio.forward(&features(views, &longer)).unwrap();
    let ids: Vec<Vec<u32>> = prompts
        .iter()
        .map(|prompt| network.text.tokenizer().encode(prompt).unwrap())
        .collect();
    let phrases = network.text.forward(&ids).unwrap();
    let cosines = phrases.matmul(&clips.t().unwrap()).unwrap();
    let own = (phrases * clips).unwrap().sum(D::Minus1).unwrap();
    let [by_text, by_audio] = network.scales.each_ref().map(|scale| {
        let scale = scale.exp().unwrap();
        let logits = cosines.broadcast_mul(&scale).unwrap();
        let all = logits.exp().unwrap().sum(D::Minus1).unwrap().log().unwrap();
        (all - own.broadcast_mul(&scale).unwrap())
            .unwrap()
            .mean(0)
            .unwrap()
    });
    let scale = network.scales[0].exp().unwrap();
    let loss = ((by_text + by_audio).unwrap() * 0.5).unwrap();
    (cosines.broadcast_mul(&scale).unwrap(), loss)
}

/// The gradient of every variable, row-major.
fn gradients(network: &Network, loss: &Tensor) -> BTreeMap<String, Vec<f32>> {
    let grads = loss.backward().unwrap();
    network
        .trainable
        .variables()
        .into_iter()
        .map(|(key, var)| {
            let grad = grads
                .get(&var)
                .unwrap_or_else(|| panic!("{key}: no gradient"));
            assert_eq!(grad.dims(), var.dims(), "{key}");
            (key, grad.flatten_all().unwrap().to_vec1().unwrap())
        })
        .collect()
}

/// Whether what this parameter adds is taken off again behind it: the same to the score of every key,
/// or to a whole batch before its mean goes.
fn cancels(key: &str, training: bool) -> bool {
    let normalised = key.contains("fusion_model")
        && [".0.bias", ".3.bias"]
            .iter()
            .any(|end| key.contains("local_att") && key.ends_with(end))
        || [".1.bias", ".4.bias"]
            .iter()
            .any(|end| key.contains("global_att") && key.ends_with(end));
    key.ends_with("self.key.bias") || (training && normalised)
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// Asserts that the gradients are those of the reference, of which `name` is the prefix.
fn check_gradients(fixture: &Fixture, name: &str, gradients: &BTreeMap<String, Vec<f32>>) {
    let keys: Vec<String> =
        serde_json::from_value(fixture.json(&format!("{name}.keys")).unwrap()).unwrap();
    let norms = fixture.tensor(&format!("{name}/norms")).values;
    let most = fixture.tensor(&format!("{name}/largest")).values;
    let of_all = largest(&most);
    let training = name.ends_with("-training");
    let mut worst = (0.0, "");
    let mut compared = 0;
    for ((key, norm), most) in keys.iter().zip(norms).zip(most) {
        let Some(got) = gradients.get(key) else {
            continue;
        };
        compared += 1;
        assert!(got.iter().all(|value| value.is_finite()), "{key}");
        assert_eq!(
            largest(got) > 1e-5 * of_all,
            !cancels(key, training),
            "{key}: {}",
            largest(got)
        );
        let allowed = SHARE * most.max(SMALL * of_all);
        let path = format!("{name}/gradient/{key}");
        let off = fixture.difference(&path, &[got.len()], got);
        assert!(
            off <= allowed,
            "{name} {key}: differs by {off:e}, allowed {allowed:e}"
        );
        if off / allowed > worst.0 {
            worst = (off / allowed, key);
        }
        // The fixture has some values of each; the norm tells of all of them.
        let length = got.iter().map(|value| value * value).sum::<f32>().sqrt();
        let allowed = SHARE * norm.max(SMALL * of_all) + 1e-8;
        assert!(
            (length - norm).abs() <= allowed,
            "{name} {key}: norm {length}, expected {norm}"
        );
    }
    assert_eq!(
        compared,
        gradients.len(),
        "{name}: gradients that the reference has not"
    );
    eprintln!(
        "{name}: {compared} gradients, the farthest {:.2} of what is allowed: {}",
        worst.0, worst.1
    );
}

fn check(case: &str, mode: Mode) -> Network {
    let fixture = Fixture::open("clap-gradients");
    let name = match mode.batch_statistics {
        true => format!("{case}-training"),
        false => case.to_owned(),
    };
    let network = load(case, |_| true);
    network.trainable.set_mode(mode);
    let (logits, loss) = loss(&network, &fixture, case);
    let logits: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    fixture.check(&format!("{name}/logits"), &[CLIPS, CLIPS], &logits, 1e-4);
    fixture.check(
        &format!("{name}/loss"),
        &[1],
        &[loss.to_scalar().unwrap()],
        1e-4,
    );
    let gradients = gradients(&network, &loss);
    check_gradients(&fixture, &name, &gradients);
    // Nothing of the checkpoint is left out.
    let keys = fixture.json(&format!("{name}.keys")).unwrap();
    assert_eq!(gradients.len(), keys.as_array().unwrap().len());
    network
}

#[test]
fn every_gradient_of_clap_without_fusion_is_the_reference() {
    check("clap-unfused", Mode::default());
}

#[test]
fn every_gradient_of_clap_with_fusion_is_the_reference() {
    check("clap-fused", Mode::default());
}

#[test]
fn with_the_statistics_of_the_batch_gradients_and_running_statistics_are_the_reference() {
    let mode = Mode {
        batch_statistics: true,
        ..Mode::default()
    };
    let network = check("clap-fused", mode);
    let fixture = Fixture::open("clap-gradients");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    network.params.save(&path).unwrap();
    let saved = Params::open_file(&path).unwrap();
    let mut compared = 0;
    for key in fixture.keys("clap-fused-training/") {
        let key = key.strip_prefix("clap-fused-training/").unwrap();
        if key.ends_with("running_mean") || key.ends_with("running_var") {
            let shape = saved.shape(key).unwrap().to_vec();
            let values = saved.buffer(key, &shape).unwrap();
            let expected = fixture.tensor(&format!("clap-fused-training/{key}")).values;
            let off = max_abs_diff(values.values(), &expected);
            assert!(
                off <= 1e-5 * largest(&expected),
                "{key}: differs by {off:e}"
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 10);
    // All that was not moved is as it was.
    let first = Params::open_file(network.params.path()).unwrap();
    let key = "text_projection.linear1.weight";
    let shape = first.shape(key).unwrap();
    let (old, new) = (
        first.buffer(key, shape).unwrap(),
        saved.buffer(key, shape).unwrap(),
    );
    assert_eq!(old.values(), new.values());
    assert_eq!(first.keys().count(), saved.keys().count());
}

#[test]
fn gradients_pass_through_what_is_fixed_to_what_is_trained() {
    let fixture = Fixture::open("clap-gradients");
    let chosen = [
        "audio_model.audio_encoder.batch_norm.weight",
        "audio_model.audio_encoder.patch_embed.mel_conv2d.bias",
        "audio_model.audio_encoder.layers.1.blocks.1.attention.self.relative_position_bias_table",
        "text_model.embeddings.word_embeddings.weight",
        "text_model.encoder.layer.0.attention.self.value.bias",
        "logit_scale_a",
    ];
    let network = load("clap-fused", move |key| chosen.contains(&key));
    let (_, loss) = loss(&network, &fixture, "clap-fused");
    let gradients = gradients(&network, &loss);
    assert_eq!(gradients.len(), chosen.len());
    check_gradients(&fixture, "clap-fused", &gradients);
}

#[test]
fn dropout_comes_from_the_seed_and_leaves_fixed_towers_alone() {
    let fixture = Fixture::open("clap-gradients");
    let network = load("clap-fused", |key| key.starts_with("text_model"));
    let run = |dropout: bool, seed: u64| -> (f32, Tensor) {
        network.trainable.set_mode(Mode {
            dropout,
            ..Mode::default()
        });
        network.trainable.seed(seed);
        let clip = &features(4, &[false; 4])[..1];
        let audio = network.audio.forward(clip).unwrap();
        assert!(!audio.track_op());
        let (_, loss) = loss(&network, &fixture, "clap-fused");
        (loss.to_scalar().unwrap(), audio)
    };
    let (still, audio) = run(false, 1);
    assert_eq!(run(false, 2).0, still);
    let (dropped, same) = run(true, 1);
    assert_ne!(dropped, still);
    assert_eq!(run(true, 1).0, dropped);
    assert_ne!(run(true, 2).0, dropped);
    let off = (audio - same).unwrap().abs().unwrap().max_all().unwrap();
    assert_eq!(off.to_scalar::<f32>().unwrap(), 0.0);
}
