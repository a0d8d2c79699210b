//! Shots, explosions, fireworks and thunder: noise that bursts and darkens as it dies away.

use fastrand::Rng;

use super::impacts::burst;
use super::parts::{
    Biquad, Colour, Mode, RATE, add, chance, drift, log_range, modes, noise, normalise, range,
    samples, strike,
};

/// A shot: a crack of a few milliseconds, a short roar and echoes; sometimes a salvo.
pub fn gunshot(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut shot = noise(rng, n, Colour::White);
    let (crack, roar) = (log_range(rng, 0.02, 0.12), log_range(rng, 0.3, 1.5));
    let low_pass = log_range(rng, 900.0, 5_000.0);
    let mut low = shot.clone();
    Biquad::low_pass(low_pass, 0.7).run(&mut low);
    let share = log_range(rng, 0.4, 3.0);
    for (at, (sample, low)) in shot.iter_mut().zip(low).enumerate() {
        let t = at as f32 / RATE;
        *sample = *sample * strike(t, 0.0003, crack) + share * low * strike(t, 0.002, roar);
    }
    let mut out = vec![0.0; n];
    let salvo = chance(rng, 0.35);
    let gap = log_range(rng, 0.07, 0.8);
    let mut at = range(rng, 0.0, 0.3) * seconds;
    for _ in 0..if salvo { rng.u32(2..=8) } else { 1 } {
        let gain = range(rng, 0.7, 1.0);
        add(&mut out, &shot, samples(at), gain);
        let echo = samples(at + range(rng, 0.08, 0.4));
        let back = range(rng, 0.02, 0.25);
        add(&mut out, &shot, echo, back);
        at += gap * range(rng, 0.9, 1.1);
    }
    out
}

/// An explosion or a firework: a deep blow with a long, darkening roar and crackles.
pub fn explosion(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let at = range(rng, 0.0, 0.3) * seconds;
    let length = log_range(rng, 0.6, 4.0);
    let bright = log_range(rng, 500.0, 4_000.0);
    let mut out = roar(rng, seconds, at, 0.003, length, bright);
    let blow = Mode {
        hz: log_range(rng, 35.0, 110.0),
        amp: range(rng, 0.3, 1.5),
        t60: log_range(rng, 0.2, 1.0),
    };
    modes(&mut out, rng, samples(at), &[blow], 1.0);
    for _ in 0..if chance(rng, 0.4) { rng.u32(5..60) } else { 0 } {
        let late = samples(at + length * rng.f32());
        let gain = log_range(rng, 0.02, 0.3);
        burst(&mut out, rng, late, 0.02, gain, 800.0);
    }
    out
}

/// Thunder: a crack or none, then seconds of rolling low noise.
pub fn thunder(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let at = range(rng, 0.0, 0.2) * seconds;
    let near = rng.f32();
    let attack = log_range(rng, 0.005, 0.6) * (1.1 - near);
    let length = log_range(rng, 2.0, 10.0);
    let mut out = roar(
        rng,
        seconds,
        at,
        attack,
        length,
        150.0 + 1_500.0 * near * near,
    );
    let n = out.len();
    for (sample, roll) in out.iter_mut().zip(drift(rng, n, 0.25)) {
        *sample *= 0.2 + (1.0 + roll).powi(2) * 0.4;
    }
    for _ in 0..(near * 30.0) as usize {
        let late = samples(at + rng.f32() * 0.4);
        let gain = range(rng, 0.05, 0.4) * near;
        burst(&mut out, rng, late, 0.05, gain, 500.0);
    }
    out
}

/// Noise whose top falls from `bright` hertz towards 80 as it dies away; peak 1.
fn roar(rng: &mut Rng, seconds: f32, at: f32, attack: f32, length: f32, bright: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = vec![0.0; n];
    let (mut one, mut two) = (0.0f32, 0.0f32);
    let source = noise(rng, n, Colour::White);
    for (index, (sample, white)) in out.iter_mut().zip(source).enumerate().skip(samples(at)) {
        let t = index as f32 / RATE - at;
        let edge = 80.0 + (bright - 80.0) * (-3.0 * t / length).exp();
        let pole = (-std::f32::consts::TAU * edge / RATE).exp();
        one = white + pole * (one - white);
        two = one + pole * (two - one);
        *sample = two * strike(t, attack, length) / (1.0 - pole).sqrt();
    }
    normalise(&mut out, 1.0);
    out
}
