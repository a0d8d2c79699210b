//! A step, a run and their ends, on three tones and three labels.

use super::*;
use crate::models::layout::Layout;
use crate::train::contrastive::small;

fn recipe(freeze: Freeze) -> Recipe {
    Recipe {
        freeze,
        form: Form::OneScale,
        steps: 6,
        batch: 3,
        part: 8,
        learning_rate: 1e-3,
        warm_up: 2,
        weight_decay: 0.05,
        clip: 1.0,
        bend: 1,
        dropout: true,
        text_weight: 0.5,
        text_batch: 2,
        seed: 7,
    }
}

fn pairs() -> Pairs {
    let mut pairs = Pairs::default();
    for label in ["dog", "church bell", "rain"] {
        pairs.add_labels(label, &[], None);
    }
    pairs
}

/// Tones of different pitch.
fn sound(item: usize) -> Vec<f32> {
    let step = 0.1 + 0.3 * item as f32;
    (0..8_000).map(|n| 0.3 * (n as f32 * step).sin()).collect()
}

fn directory(pairs: &Pairs) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let names = pairs.names.all().iter();
    let texts: Vec<String> = names.flat_map(|name| name.texts.clone()).collect();
    let clips: Vec<Vec<f32>> = (0..3).map(sound).collect();
    let statistics = small::statistics(clips.iter().map(Vec::as_slice));
    small::write(dir.path(), &texts, &statistics, 1).unwrap();
    dir
}

fn trainer<'a>(
    dir: &Path,
    recipe: Recipe,
    pairs: &'a Pairs,
    sounds: &'a Sounds<'a>,
) -> Trainer<'a> {
    let layout = Layout::open(dir).unwrap();
    let towers = Towers::open(&layout, recipe.freeze).unwrap();
    Trainer::new(towers, recipe, pairs, None, sounds, &mut |_, _| {}).unwrap()
}

fn values(trainer: &Trainer<'_>) -> BTreeMap<String, Vec<f32>> {
    let vars = trainer.towers.vars().iter();
    vars.map(|(key, var)| {
        let flat = var.as_tensor().flatten_all().unwrap();
        (key.clone(), flat.to_vec1().unwrap())
    })
    .collect()
}

#[test]
fn a_batch_in_parts_gives_the_gradients_of_the_whole() {
    let pairs = pairs();
    let dir = directory(&pairs);
    let gradients = |part| {
        let recipe = Recipe {
            part,
            // Parts drop other values than the whole does.
            dropout: false,
            ..recipe(Freeze::Nothing)
        };
        let trainer = trainer(dir.path(), recipe, &pairs, &sound);
        let mut rng = trainer.rng(1, 0);
        let drawn = pairs.draw(3, &mut rng);
        trainer.sound_loss(&drawn, &mut rng).unwrap()
    };
    let ((whole_loss, whole), (loss, parts)) = (gradients(3), gradients(2));
    assert!((whole_loss - loss).abs() < 1e-5);
    assert_eq!(whole.len(), parts.len());
    let longest = whole
        .values()
        .flatten()
        .fold(0f32, |most, v| most.max(v.abs()));
    for (key, values) in &whole {
        for (a, b) in values.iter().zip(&parts[key]) {
            assert!((a - b).abs() < 1e-4 * longest.max(1.0), "{key}: {a} {b}");
        }
    }
    // Every trained tensor but the scale that the loss does not use has a gradient.
    let trainer = trainer(dir.path(), recipe(Freeze::Nothing), &pairs, &sound);
    let without: Vec<&String> = trainer
        .towers
        .vars()
        .keys()
        .filter(|key| !whole.contains_key(*key))
        .collect();
    assert_eq!(without, ["logit_scale_t"]);
}

#[test]
fn a_run_that_was_cut_short_ends_where_a_whole_one_does() {
    let pairs = pairs();
    let dir = directory(&pairs);
    let out = tempfile::tempdir().unwrap();
    let recipe = recipe(Freeze::Nothing);
    let mut whole = trainer(dir.path(), recipe.clone(), &pairs, &sound);
    let mut cut = trainer(dir.path(), recipe.clone(), &pairs, &sound);
    let first = whole.step().unwrap();
    assert_eq!(cut.step().unwrap(), first);
    cut.save(out.path(), "r").unwrap();
    drop(cut);
    let mut again = trainer(dir.path(), recipe, &pairs, &sound);
    let (towers, optimiser) = (&again.towers, &mut again.optimiser);
    assert!(state::resume(out.path(), "r", towers.vars(), optimiser).unwrap());
    assert_eq!(again.step().unwrap(), whole.step().unwrap());
    // The scale that the loss does not use follows the other only when it is written.
    let (mut left, mut right) = (values(&again), values(&whole));
    left.remove("logit_scale_t");
    right.remove("logit_scale_t");
    assert_eq!(left, right);
}

#[test]
fn frozen_towers_stay_as_they_are_and_the_loss_falls() {
    let pairs = pairs();
    let dir = directory(&pairs);
    let recipe = Recipe {
        learning_rate: 1e-3,
        steps: 120,
        bend: 0,
        ..recipe(Freeze::Towers)
    };
    let mut trainer = trainer(dir.path(), recipe, &pairs, &sound);
    let keys: Vec<&String> = trainer.towers.vars().keys().collect();
    assert!(
        keys.iter().all(|key| !key.contains("_model.")) && keys.len() == 10,
        "{keys:?}"
    );
    let first = trainer.step().unwrap().loss;
    let last = (0..119)
        .map(|_| trainer.step().unwrap().loss)
        .last()
        .unwrap();
    assert!(last < 0.5 * first, "{first} {last}");
}

#[test]
fn a_loss_that_is_no_number_stops_and_leaves_the_weights() {
    let pairs = pairs();
    let dir = directory(&pairs);
    let mut trainer = trainer(dir.path(), recipe(Freeze::Towers), &pairs, &sound);
    let bias = &trainer.towers.vars()["audio_projection.linear2.bias"];
    let endless = Tensor::full(f32::INFINITY, bias.dims(), &Device::Cpu).unwrap();
    bias.set(&endless).unwrap();
    let before = values(&trainer);
    let error = trainer.step().unwrap_err().to_string();
    assert!(
        error.contains("of step 1 is NaN") && error.contains("--learning-rate"),
        "{error}"
    );
    assert_eq!(values(&trainer), before);
}
