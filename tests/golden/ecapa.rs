//! ECAPA-TDNN against speechbrain: every part on the first clip, the embeddings of all.

use candle_core::{Device, Tensor};
use harkd::models::ecapa::Ecapa;
use harkd::models::network::Network;

use crate::support::{Fixture, clip, golden};

const TOLERANCE: f32 = 1e-4;

#[test]
fn ecapa_is_that_of_speechbrain() {
    let fixture = Fixture::open("ecapa");
    let mut model = Ecapa::open_dir(&golden("fixtures/ecapa")).unwrap();
    let name = fixture.note("audio").unwrap();
    let features = model.front().compute(&clip(name).pcm);
    let shape = [features.frames, features.bins];
    fixture.check(
        &format!("features/{name}"),
        &shape,
        &features.values,
        TOLERANCE,
    );
    let features =
        Tensor::from_vec(features.values, (1, shape[0], shape[1]), &Device::Cpu).unwrap();
    let mut parts = 0;
    model
        .forward(&features, |part, output| {
            // The reference has the channels first.
            let output = output.squeeze(0).unwrap().t().unwrap();
            let values: Vec<f32> = output.flatten_all().unwrap().to_vec1().unwrap();
            fixture.check(&format!("{part}/{name}"), output.dims(), &values, TOLERANCE);
            parts += 1;
        })
        .unwrap();
    assert_eq!(parts, 7);

    let clips: Vec<String> = serde_json::from_value(fixture.json("clips").unwrap()).unwrap();
    let embeddings: Vec<Vec<f32>> = clips
        .iter()
        .map(|name| {
            let mut embedding = model.run(&clip(name).pcm).unwrap();
            fixture.check(&format!("embedding/{name}"), &[24], &embedding, TOLERANCE);
            let as_is = embedding.clone();
            model.centre(&mut embedding);
            fixture.check(
                &format!("embedding.centred/{name}"),
                &[24],
                &embedding,
                TOLERANCE,
            );
            as_is
        })
        .collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let cosines: Vec<f32> = embeddings
        .iter()
        .flat_map(|a| embeddings.iter().map(move |b| (a, b)))
        .map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
        .collect();
    fixture.check("cosine", &[3, 3], &cosines, TOLERANCE);
}
