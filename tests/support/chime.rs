//! A sound of nobody's but the tests': what they teach.

use std::f32::consts::TAU;

/// A chime of two falling notes at 16 kHz, 0.9 s; each `n` is a little higher, louder and later.
pub fn chime(n: usize) -> Vec<f32> {
    let pitch = 1.0 + 0.01 * (n % 5) as f32;
    let gain = 0.25 + 0.05 * (n % 4) as f32;
    let lead = 160 * (n % 3);
    let mut pcm = vec![0.0; lead];
    pcm.extend((0..14_400).map(|at| {
        let time = at as f32 / 16_000.0;
        // A note, and half a second later a lower one.
        let (hz, since) = match time < 0.45 {
            true => (1_320.0, time),
            false => (990.0, time - 0.45),
        };
        let partials = [(1.0, 1.0), (2.76, 0.5), (5.4, 0.25)];
        let wave: f32 = partials
            .iter()
            .map(|(ratio, part)| part * (TAU * hz * pitch * ratio * since).sin())
            .sum();
        gain * wave * (-6.0 * since).exp()
    }));
    pcm
}
