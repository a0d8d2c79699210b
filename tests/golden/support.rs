//! Opens fixtures, reads the sounds they were made from, and compares.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use harkd::audio::decode::Decoder;
use harkd::models::layout::Layout;
use harkd::models::network::Network;
use safetensors::SafeTensors;
use serde_json::Value;

/// A file or folder below `tests/golden`.
pub fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(path)
}

/// A mono clip of `tests/golden/audio` at its own rate.
pub struct Clip {
    pub rate_hz: u32,
    pub pcm: Vec<f32>,
}

/// Decodes a mono clip without resampling it.
pub fn clip(name: &str) -> Clip {
    let mut decoder = Decoder::open(&golden("audio").join(name)).unwrap();
    assert_eq!(decoder.format().channels, 1, "{name}");
    let rate_hz = decoder.format().rate_hz;
    let mut pcm = Vec::new();
    while let Some(block) = decoder.next_block().unwrap() {
        pcm.extend_from_slice(block);
    }
    assert_eq!(decoder.damage(), None, "{name}");
    Clip { rate_hz, pcm }
}

/// A tensor of f32 in row-major order.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// What a reference library computed: `fixtures/<case>/expected.safetensors`.
pub struct Fixture {
    bytes: Vec<u8>,
    notes: HashMap<String, String>,
    case: String,
}

impl Fixture {
    /// Reads the expectations of a case.
    pub fn open(case: &str) -> Self {
        let path = golden("fixtures").join(case).join("expected.safetensors");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        Fixture {
            notes: header.metadata().clone().unwrap_or_default(),
            bytes,
            case: case.to_owned(),
        }
    }

    /// The keys of all tensors that start with `prefix`, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let mut keys: Vec<String> = tensors
            .names()
            .into_iter()
            .filter(|key| key.starts_with(prefix))
            .map(|key| key.to_string())
            .collect();
        keys.sort();
        keys
    }

    /// A tensor as stored, which may be every n-th slice of what the reference gave.
    pub fn tensor(&self, key: &str) -> Tensor {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors
            .tensor(key)
            .unwrap_or_else(|error| panic!("{} {key}: {error}", self.case));
        assert_eq!(view.dtype(), safetensors::Dtype::F32, "{key}");
        let (words, _) = view.data().as_chunks::<4>();
        Tensor {
            shape: view.shape().to_vec(),
            values: words.iter().copied().map(f32::from_le_bytes).collect(),
        }
    }

    /// A line of the metadata, such as `<tensor>.audio`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// A line of the metadata that holds JSON.
    pub fn json(&self, key: &str) -> Option<Value> {
        Some(serde_json::from_str(self.note(key)?).unwrap())
    }

    fn number(&self, key: &str) -> Option<usize> {
        Some(usize::try_from(self.json(key)?.as_u64()?).unwrap())
    }

    /// The largest difference between `actual (shape)` and the tensor `key`, after taking the same
    /// slices of `actual` that the fixture keeps.
    pub fn difference(&self, key: &str, shape: &[usize], actual: &[f32]) -> f32 {
        let expected = self.tensor(key);
        assert_eq!(shape.iter().product::<usize>(), actual.len(), "{key}");
        let Some(stride) = self.number(&format!("{key}.stride")) else {
            assert_eq!(shape, expected.shape, "{key}: shape");
            return max_abs_diff(actual, &expected.values);
        };
        let axis = self.number(&format!("{key}.axis")).unwrap();
        assert_eq!(
            Some(shape[axis]),
            self.number(&format!("{key}.length")),
            "{key}: length of axis {axis}"
        );
        let inner: usize = shape[axis + 1..].iter().product();
        let kept: Vec<f32> = actual
            .chunks_exact(shape[axis] * inner)
            .flat_map(|outer| outer.chunks_exact(inner).step_by(stride).flatten())
            .copied()
            .collect();
        let mut kept_shape = shape.to_vec();
        kept_shape[axis] = shape[axis].div_ceil(stride);
        assert_eq!(kept_shape, expected.shape, "{key}: shape");
        max_abs_diff(&kept, &expected.values)
    }

    /// Asserts that [`Fixture::difference`] is at most `tolerance`.
    pub fn check(&self, key: &str, shape: &[usize], actual: &[f32], tolerance: f32) {
        let difference = self.difference(key, shape, actual);
        eprintln!("{} {key}: max abs diff {difference:.1e}", self.case);
        assert!(
            difference <= tolerance,
            "{} {key}: differs by {difference:e}, allowed {tolerance:e}",
            self.case
        );
    }
}

/// Asserts that a state of one sequence `(1, ..)` is the tensor `key`, as [`Fixture::check`] does.
pub fn check_state(fixture: &Fixture, key: &str, state: &candle_core::Tensor, tolerance: f32) {
    let state = state.squeeze(0).unwrap();
    let values: Vec<f32> = state.flatten_all().unwrap().to_vec1().unwrap();
    fixture.check(key, state.dims(), &values, tolerance);
}

/// Asserts that `network` gives the logits and the scores of every clip that the fixture has.
pub fn check_scores(fixture: &Fixture, layout: &Layout, network: &mut dyn Network, tolerance: f32) {
    let labels = layout.labels().unwrap().len();
    let keys = fixture.keys("logits/");
    assert!(!keys.is_empty(), "{}: no logits", fixture.case);
    for key in keys {
        let name = key.strip_prefix("logits/").unwrap();
        let clip = clip(name);
        assert_eq!(clip.rate_hz, network.rate_hz(), "{name}");
        let mut outputs = network.run(&clip.pcm).unwrap();
        fixture.check(&key, &[labels], &outputs, tolerance);
        layout.scores().apply(&mut outputs);
        fixture.check(&format!("scores/{name}"), &[labels], &outputs, tolerance);
    }
}

/// The largest absolute difference; infinite where one of the two is not a number.
pub fn max_abs_diff(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    actual
        .iter()
        .zip(expected)
        .map(|(a, e)| (a - e).abs())
        .fold(0.0, |most, diff| {
            if diff.is_nan() {
                f32::INFINITY
            } else {
                most.max(diff)
            }
        })
}

#[test]
fn a_difference_that_is_not_a_number_is_no_agreement() {
    assert_eq!(max_abs_diff(&[1.0, 2.5], &[1.0, 2.0]), 0.5);
    assert_eq!(max_abs_diff(&[f32::NAN, 1.0], &[0.0, 1.0]), f32::INFINITY);
}
