//! Training that was cut short: everything that a step depends on, in one file beside the model.
//!
//! `training.safetensors` holds the variables, the moments of the optimiser and how far it has come. What
//! is drawn in a step depends on the seed and the number of the step alone, so a run that was killed and
//! begun again goes on as if nothing had been.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor, Var};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::adamw::{AdamW, Moments};
use super::files;
use crate::models::ModelError;

/// The file in the output directory.
pub const FILE: &str = "training.safetensors";

const STEP: &str = "step";
const RECIPE: &str = "recipe";

/// What is stored of each variable.
const PARTS: [&str; 3] = ["value", "first", "second"];

/// Where the state of a run lies.
pub fn path(out: &Path) -> PathBuf {
    out.join(FILE)
}

/// Stores how far a run has come; `recipe` says what run it is.
///
/// # Errors
/// When the disk refuses; what was there before stays then.
pub fn save(
    out: &Path,
    recipe: &str,
    vars: &BTreeMap<String, Var>,
    optimiser: &AdamW,
) -> Result<(), ModelError> {
    let mut stored: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    for (key, var) in vars {
        let values: Vec<f32> = var.as_tensor().flatten_all()?.to_vec1()?;
        let shape = var.dims().to_vec();
        stored.push((format!("value.{key}"), shape.clone(), bytes(&values)));
        if let Some(Moments { first, second }) = optimiser.moments.get(key) {
            stored.push((format!("first.{key}"), shape.clone(), bytes(first)));
            stored.push((format!("second.{key}"), shape, bytes(second)));
        }
    }
    let failed = |error: safetensors::SafeTensorError| {
        ModelError::Format(format!("{}: {error}", path(out).display()))
    };
    let views = stored
        .iter()
        .map(|(key, shape, bytes)| Ok((key, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let notes = HashMap::from([
        (STEP.to_owned(), optimiser.steps.to_string()),
        (RECIPE.to_owned(), recipe.to_owned()),
    ]);
    let file = safetensors::serialize(views, Some(notes)).map_err(failed)?;
    files::write(&path(out), &file)
}

/// Takes up the run that `out` holds, if it holds one: variables and optimiser are as they were then.
/// Whether there was one.
///
/// # Errors
/// When the file is damaged, or belongs to another recipe.
pub fn resume(
    out: &Path,
    recipe: &str,
    vars: &BTreeMap<String, Var>,
    optimiser: &mut AdamW,
) -> Result<bool, ModelError> {
    let path = path(out);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(ModelError::Read(format!("{}: {error}", path.display()))),
    };
    let wrong = |what: &str| {
        ModelError::Format(format!(
            "{}: {what}; begin anew with --restart",
            path.display()
        ))
    };
    let damaged = |error: safetensors::SafeTensorError| {
        wrong(&format!("not a whole state of a training run ({error})"))
    };
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let notes = header.metadata().clone().unwrap_or_default();
    let step: usize = notes
        .get(STEP)
        .and_then(|step| step.parse().ok())
        .ok_or_else(|| wrong("expected the number of a step, got none"))?;
    if notes.get(RECIPE).map(String::as_str) != Some(recipe) {
        return Err(wrong(
            "the run in it had other data or options than this one",
        ));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let tensor = |part: &str, key: &str, count: usize| -> Result<Option<Vec<f32>>, ModelError> {
        let Ok(view) = file.tensor(&format!("{part}.{key}")) else {
            return Ok(None);
        };
        let values: Vec<f32> = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        match values.len() == count && values.iter().all(|value| value.is_finite()) {
            true => Ok(Some(values)),
            false => Err(wrong(&format!(
                "{part}.{key}: expected {count} numbers, got others"
            ))),
        }
    };
    let mut moments = BTreeMap::new();
    let mut values = Vec::new();
    for (key, var) in vars {
        let count = var.elem_count();
        let [value, first, second] = PARTS.map(|part| tensor(part, key, count));
        let value = value?.ok_or_else(|| wrong(&format!("{key}: expected a value, got none")))?;
        values.push((var, value));
        if let (Some(first), Some(second)) = (first?, second?) {
            moments.insert(key.clone(), Moments { first, second });
        }
    }
    for (var, value) in values {
        var.set(&Tensor::from_vec(value, var.dims(), &Device::Cpu)?)?;
    }
    optimiser.steps = step;
    optimiser.moments = moments;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::contrastive::adamw::Gradients;

    fn vars() -> BTreeMap<String, Var> {
        let var = |values: &[f32]| Var::new(values, &Device::Cpu).unwrap();
        BTreeMap::from([
            ("a".to_owned(), var(&[1.0, 2.0])),
            ("b".to_owned(), var(&[3.0])),
        ])
    }

    fn values(vars: &BTreeMap<String, Var>) -> Vec<Vec<f32>> {
        vars.values()
            .map(|var| var.as_tensor().to_vec1().unwrap())
            .collect()
    }

    #[test]
    fn a_run_that_was_killed_goes_on_as_if_nothing_had_been() {
        let dir = tempfile::tempdir().unwrap();
        let gradients = Gradients::from([("a".to_owned(), vec![0.5, -1.0])]);
        let (whole, cut) = (vars(), vars());
        let mut optimiser = AdamW::default();
        let mut before = AdamW::default();
        assert!(!resume(dir.path(), "r", &cut, &mut before).unwrap());
        for _ in 0..4 {
            optimiser.step(&whole, &gradients, 0.1).unwrap();
        }
        for _ in 0..2 {
            before.step(&cut, &gradients, 0.1).unwrap();
        }
        save(dir.path(), "r", &cut, &before).unwrap();
        let again = vars();
        let mut after = AdamW::default();
        assert!(resume(dir.path(), "r", &again, &mut after).unwrap());
        assert_eq!(after.steps, 2);
        for _ in 0..2 {
            after.step(&again, &gradients, 0.1).unwrap();
        }
        assert_eq!(values(&again), values(&whole));
    }

    #[test]
    fn another_recipe_and_a_damaged_file_are_refused_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), "r", &vars(), &AdamW::default()).unwrap();
        let mut optimiser = AdamW::default();
        let check = |expected: &str, optimiser: &mut AdamW| {
            let vars = vars();
            let error = resume(dir.path(), "s", &vars, optimiser).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().contains("--restart"));
            assert_eq!(values(&vars), [vec![1.0, 2.0], vec![3.0]]);
        };
        check("other data or options", &mut optimiser);
        let whole = std::fs::read(path(dir.path())).unwrap();
        std::fs::write(path(dir.path()), &whole[..whole.len() - 3]).unwrap();
        check("not a whole state", &mut optimiser);
    }
}
