//! EfficientAT against its own code, on weights that both sides draw from the keys of the tensors;
//! `efficientat.py` says how.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};
use harkd::models::efficientat::EfficientAt;
use harkd::models::network::Network;
use safetensors::tensor::{Dtype, TensorView};

use crate::support::{Fixture, clip};

const TOLERANCE: f32 = 1e-4;
const CASES: [(&str, usize); 4] = [
    ("efficientat-mn04", 527),
    ("efficientat-mn01-fc", 10),
    ("efficientat-dymn04", 527),
    ("efficientat-dymn04-replace-se", 50),
];
/// Where the second input begins, as in `efficientat.py`.
const TAIL: usize = 30_000;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn fnv1a(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// `draw` of `efficientat.py`.
fn draw(key: &str, shape: &[usize]) -> Vec<f32> {
    let fan: usize = if shape[0] > 1 {
        shape[1..].iter().product()
    } else {
        16
    };
    let factor = (1.5 / (fan as f64).sqrt()) as f32;
    let mut state = fnv1a(key);
    (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            let value = ((z >> 40) as f64 / f64::from(1 << 23) - 1.0) as f32;
            match shape {
                _ if key.ends_with(".bias") => 0.1 * value,
                [_] => 1.0 + 0.25 * value,
                _ => factor * value,
            }
        })
        .collect()
}

/// The state dict of a case.
fn tensors(fixture: &Fixture) -> Tensors {
    let shapes: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(fixture.json("tensors").unwrap()).unwrap();
    let mut tensors: Tensors = shapes
        .into_iter()
        .map(|(key, shape)| {
            let values = draw(&key, &shape);
            (key, (shape, values))
        })
        .collect();
    for key in fixture.keys("weight.") {
        let stored = fixture.tensor(&key);
        let key = key.strip_prefix("weight.").unwrap().to_owned();
        tensors.insert(key, (stored.shape, stored.values));
    }
    tensors
}

/// Opens them from a file.
fn open(tensors: &Tensors) -> Result<EfficientAt, String> {
    let bytes: Vec<(&String, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(key, (shape, values))| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (key, &shape[..], bytes.collect())
        })
        .collect();
    let views = bytes.iter().map(|(key, shape, bytes)| {
        (
            key,
            TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap(),
        )
    });
    let file = safetensors::serialize(views, None::<HashMap<String, String>>).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    std::fs::write(&path, file).unwrap();
    EfficientAt::open_file(&path).map_err(|error| error.to_string())
}

#[test]
fn efficientat_is_that_of_its_authors() {
    for (case, labels) in CASES {
        let fixture = Fixture::open(case);
        let mut model = open(&tensors(&fixture)).unwrap();
        assert_eq!(model.labels(), labels);
        let pcm = clip(fixture.note("audio").unwrap()).pcm;
        let mel = model.front().compute(&pcm);
        let mel = Tensor::from_vec(mel.values, (1, mel.frames, mel.bins), &Device::Cpu).unwrap();
        if case == "efficientat-mn04" {
            // The reference has the bands first.
            let turned = mel.squeeze(0).unwrap().t().unwrap();
            let values: Vec<f32> = turned.flatten_all().unwrap().to_vec1().unwrap();
            fixture.check("mel", turned.dims(), &values, TOLERANCE);
        }
        let mut parts = 0;
        let logits = model.forward(&mel, |number, output| {
            if number % 4 == 0 {
                let output = output.permute((0, 3, 1, 2)).unwrap().flatten_all().unwrap();
                let values: Vec<f32> = output.to_vec1().unwrap();
                fixture.check(
                    &format!("map.{number}"),
                    &[values.len()],
                    &values,
                    TOLERANCE,
                );
                parts += 1;
            }
        });
        assert_eq!(parts, 5);
        let logits: Vec<f32> = logits.unwrap().squeeze(0).unwrap().to_vec1().unwrap();
        fixture.check("logits", &[labels], &logits, TOLERANCE);
        let logits = model.run(&pcm[TAIL..]).unwrap();
        fixture.check("logits.tail", &[labels], &logits, TOLERANCE);
    }
}

#[test]
fn clips_of_any_length_have_logits() {
    let mut model = open(&tensors(&Fixture::open("efficientat-dymn04"))).unwrap();
    assert_eq!((model.rate_hz(), model.window()), (32_000, 320_000));
    for samples in [0, 1, 513, 514, 5_000] {
        let logits = model.run(&vec![0.1; samples]).unwrap();
        assert!(logits.iter().all(|value| value.is_finite()), "{samples}");
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_an_error_that_names_it() {
    for (case, key, shape) in [
        ("efficientat-mn04", "features.0.0.weight", &[8, 2, 3, 3][..]),
        (
            "efficientat-mn04",
            "features.1.block.0.0.weight",
            &[8, 1, 3],
        ),
        (
            "efficientat-mn04",
            "features.4.block.1.0.weight",
            &[31, 1, 5, 5],
        ),
        (
            "efficientat-mn04",
            "features.4.block.2.conc_se_layers.0.fc2.weight",
            &[32, 9],
        ),
        ("efficientat-mn04", "features.7.block.2.1.running_var", &[3]),
        ("efficientat-mn04", "features.16.0.weight", &[384, 65, 1, 1]),
        ("efficientat-mn04", "classifier.5.weight", &[527, 511]),
        ("efficientat-mn01-fc", "classifier.0.weight", &[10, 7, 1, 1]),
        ("efficientat-dymn04", "in_c.1.bias", &[9]),
        (
            "efficientat-dymn04",
            "layers.1.exp_conv.weight",
            &[1, 1, 4, 191],
        ),
        (
            "efficientat-dymn04",
            "layers.1.depth_conv.weight",
            &[1, 1, 4, 217],
        ),
        (
            "efficientat-dymn04",
            "layers.3.depth_act.coef_net.0.weight",
            &[95, 16],
        ),
        (
            "efficientat-dymn04",
            "layers.5.context_gen.conv_t.weight",
            &[1, 16, 1, 1],
        ),
        ("efficientat-dymn04", "layers.9.proj_norm.weight", &[0]),
    ] {
        let whole = tensors(&Fixture::open(case));
        for shape in [Some(shape), None] {
            let mut changed = whole.clone();
            match shape {
                Some(shape) => {
                    let values = vec![0.0; shape.iter().product()];
                    changed.insert(key.to_owned(), (shape.to_vec(), values));
                }
                None => {
                    changed.remove(key);
                }
            }
            let error = open(&changed)
                .err()
                .unwrap_or_else(|| panic!("{key} {shape:?}"));
            let got = shape.map_or("no such tensor".to_owned(), |shape| format!("{shape:?}"));
            assert!(error.contains("expected"), "{error}");
            // Where a size is taken from one tensor, the next one is what does not fit.
            let near = key.rsplitn(3, '.').last().unwrap();
            assert!(
                error.contains(near) || error.contains(&got),
                "{key} {got}: {error}"
            );
        }
    }
}
