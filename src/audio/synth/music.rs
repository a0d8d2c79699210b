//! Simple music: a key, a tempo, chords, a melody, a bass and drums, on instruments drawn anew for
//! every piece. Enough to teach what sets music apart from speech and noise, not to please.

use fastrand::Rng;

use super::parts::{
    Biquad, Colour, Mode, RATE, add, chance, gate, harmonics, log_range, modes, noise, pick, range,
    samples, strike, tone,
};

/// Scales in semitones from the tonic.
const SCALES: [&[i32]; 6] = [
    &[0, 2, 4, 5, 7, 9, 11],
    &[0, 2, 3, 5, 7, 8, 10],
    &[0, 2, 3, 5, 7, 9, 10],
    &[0, 2, 4, 7, 9],
    &[0, 3, 5, 7, 10],
    &[0, 3, 5, 6, 7, 10],
];

/// Chord progressions as degrees of a seven-note scale.
const PROGRESSIONS: [&[usize]; 8] = [
    &[0, 3, 4, 0],
    &[0, 4, 5, 3],
    &[0, 5, 3, 4],
    &[1, 4, 0, 0],
    &[0, 0, 3, 0, 4, 3, 0, 4],
    &[5, 3, 0, 4],
    &[0, 6, 5, 4],
    &[0],
];

/// How a note sounds.
#[derive(Debug, Clone)]
enum Instrument {
    /// A plucked string after Karplus and Strong; damping in `0.0..1.0`.
    Pluck { damping: f32 },
    /// A sustained spectrum: organ, reed, strings, square lead.
    Sustained {
        spectrum: Vec<f32>,
        attack: f32,
        vibrato: f32,
    },
    /// Two-operator frequency modulation: electric pianos, bells, brass.
    Fm { ratio: f32, index: f32, t60: f32 },
    /// Struck partials: piano-like, marimba, vibraphone.
    Struck {
        inharmonic: f32,
        slope: f32,
        t60: f32,
    },
}

impl Instrument {
    fn random(rng: &mut Rng) -> Instrument {
        match rng.u32(..4) {
            0 => Instrument::Pluck {
                damping: range(rng, 0.3, 0.7),
            },
            1 => Instrument::Sustained {
                spectrum: harmonics(rng.usize(3..30), range(rng, 0.5, 2.0), range(rng, 0.0, 1.2)),
                attack: log_range(rng, 0.005, 0.15),
                vibrato: if chance(rng, 0.5) {
                    range(rng, 0.0, 0.012)
                } else {
                    0.0
                },
            },
            2 => Instrument::Fm {
                ratio: *pick(rng, &[0.5, 1.0, 1.0, 2.0, 3.0, 3.5, 7.0]),
                index: log_range(rng, 0.3, 5.0),
                t60: log_range(rng, 0.4, 4.0),
            },
            _ => Instrument::Struck {
                inharmonic: log_range(rng, 1e-4, 0.3),
                slope: range(rng, 0.6, 2.0),
                t60: log_range(rng, 0.3, 4.0),
            },
        }
    }

    /// A note of `hz` held for `length` seconds, with its dying away.
    fn note(&self, rng: &mut Rng, hz: f32, length: f32) -> Vec<f32> {
        match self {
            Instrument::Pluck { damping } => {
                let n = samples(length + 0.3);
                let period = samples(1.0 / hz).max(2);
                let mut line = noise(rng, period, Colour::White);
                Biquad::low_pass(8.0 * hz, 0.7).run(&mut line);
                (0..n)
                    .map(|at| {
                        let here = at % period;
                        let next = (at + 1) % period;
                        let value = line[here];
                        line[here] = 0.998 * (damping * line[here] + (1.0 - damping) * line[next]);
                        value * gate(at as f32 / RATE, 0.0, length + 0.3, 0.002)
                    })
                    .collect()
            }
            Instrument::Sustained {
                spectrum,
                attack,
                vibrato,
            } => {
                let release = 0.08;
                let mut out = vec![0.0; samples(length + release)];
                let depth = *vibrato;
                tone(
                    &mut out,
                    spectrum,
                    |t| hz * (1.0 + depth * (std::f32::consts::TAU * 5.5 * t).sin()),
                    |t| {
                        (t / attack)
                            .min((length + release - t) / release)
                            .clamp(0.0, 1.0)
                    },
                );
                out
            }
            Instrument::Fm { ratio, index, t60 } => {
                let n = samples(length + 0.2);
                let carrier = std::f32::consts::TAU * hz;
                // Sidebands beyond the band would fold back, so high notes get less of them.
                let index = index.min((7_500.0 / hz - 1.0).max(0.0) / ratio.max(1.0));
                (0..n)
                    .map(|at| {
                        let t = at as f32 / RATE;
                        let level = strike(t, 0.004, *t60) * gate(t, 0.0, length + 0.2, 0.003);
                        let modulator = index * level * (carrier * ratio * t).sin();
                        level * (carrier * t + modulator).sin()
                    })
                    .collect()
            }
            Instrument::Struck {
                inharmonic,
                slope,
                t60,
            } => {
                let mut out = vec![0.0; samples(length + 0.2)];
                let partials: Vec<Mode> = (1..=10u8)
                    .map(|k| {
                        let k = f32::from(k);
                        Mode {
                            hz: hz * k * (1.0 + inharmonic * (k - 1.0)).sqrt(),
                            amp: k.powf(-slope),
                            t60: t60 / k.sqrt(),
                        }
                    })
                    .collect();
                modes(&mut out, rng, 0, &partials, 1.0);
                let n = out.len();
                let fade = samples(0.05).min(n);
                for (left, sample) in out[n - fade..].iter_mut().rev().enumerate() {
                    *sample *= left as f32 / fade as f32;
                }
                out
            }
        }
    }
}

/// Semitones of a degree of a scale, octaves and all.
fn degree(scale: &[i32], degree: usize) -> f32 {
    let octave = degree / scale.len();
    (scale[degree % scale.len()] + 12 * octave as i32) as f32
}

/// A stretch of a piece of music.
pub fn music(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let tonic = log_range(rng, 110.0, 220.0);
    let scale = *pick(rng, &SCALES);
    let beat = 60.0 / log_range(rng, 55.0, 180.0);
    let progression = *pick(rng, &PROGRESSIONS);
    let per_bar = *pick(rng, &[4usize, 4, 4, 3, 6]);
    // The clip opens anywhere in the bar.
    let offset = -rng.f32() * beat * per_bar as f32;
    let parts = rng.u32(1..16);
    if parts & 1 != 0 {
        chords(
            rng,
            &mut out,
            tonic,
            scale,
            progression,
            beat,
            per_bar,
            offset,
        );
    }
    if parts & 2 != 0 || parts == 4 {
        melody(rng, &mut out, tonic * 2.0, scale, beat, offset);
    }
    if parts & 4 != 0 {
        bass(
            rng,
            &mut out,
            tonic / 2.0,
            scale,
            progression,
            beat,
            per_bar,
            offset,
        );
    }
    if parts & 8 != 0 {
        drums(rng, &mut out, beat, per_bar, offset);
    }
    if out.iter().all(|x| x.abs() < 1e-3) {
        melody(rng, &mut out, tonic * 2.0, scale, beat, 0.0);
    }
    out
}

/// Adds a note that may begin before the clip.
fn place(out: &mut [f32], note: &[f32], at: f32, gain: f32) {
    if at >= 0.0 {
        add(out, note, samples(at), gain);
    } else if let Some(rest) = note.get(samples(-at)..) {
        add(out, rest, 0, gain);
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the score of the piece, told once"
)]
fn chords(
    rng: &mut Rng,
    out: &mut [f32],
    tonic: f32,
    scale: &[i32],
    progression: &[usize],
    beat: f32,
    per_bar: usize,
    offset: f32,
) {
    let instrument = Instrument::random(rng);
    let pattern = rng.u32(..3);
    let end = out.len() as f32 / RATE;
    let bar = beat * per_bar as f32;
    let mut at = offset;
    let mut count = 0;
    while at < end {
        let root = progression[count % progression.len()];
        let notes = [root, root + 2, root + 4];
        match pattern {
            // Held, struck on every beat, or broken into single notes.
            0 => {
                for step in notes {
                    let hz = tonic * (degree(scale, step) / 12.0).exp2();
                    let note = instrument.note(rng, hz, bar);
                    place(out, &note, at, 0.35);
                }
            }
            1 => {
                for step in notes {
                    let hz = tonic * (degree(scale, step) / 12.0).exp2();
                    let note = instrument.note(rng, hz, 0.8 * beat);
                    for strike in 0..per_bar {
                        place(out, &note, at + strike as f32 * beat, 0.3);
                    }
                }
            }
            _ => {
                for strike in 0..2 * per_bar {
                    let step = notes[strike % 3] + scale.len() * (strike % 2);
                    let hz = tonic * (degree(scale, step) / 12.0).exp2();
                    let note = instrument.note(rng, hz, beat);
                    place(out, &note, at + strike as f32 * 0.5 * beat, 0.4);
                }
            }
        }
        at += bar;
        count += 1;
    }
}

fn melody(rng: &mut Rng, out: &mut [f32], tonic: f32, scale: &[i32], beat: f32, offset: f32) {
    let instrument = Instrument::random(rng);
    let end = out.len() as f32 / RATE;
    let mut at = offset;
    let mut step = rng.usize(..2 * scale.len());
    while at < end {
        let length = beat * *pick(rng, &[0.25, 0.5, 0.5, 1.0, 1.0, 1.5, 2.0]);
        if chance(rng, 0.9) {
            let hz = tonic * (degree(scale, step) / 12.0).exp2();
            let note = instrument.note(rng, hz, length);
            let gain = range(rng, 0.5, 0.8);
            place(out, &note, at, gain);
        }
        step = (step + rng.usize(..5))
            .saturating_sub(2)
            .min(3 * scale.len());
        at += length;
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the score of the piece, told once"
)]
fn bass(
    rng: &mut Rng,
    out: &mut [f32],
    tonic: f32,
    scale: &[i32],
    progression: &[usize],
    beat: f32,
    per_bar: usize,
    offset: f32,
) {
    let instrument = Instrument::random(rng);
    let end = out.len() as f32 / RATE;
    let division = *pick(rng, &[0.5, 1.0, 1.0, 2.0]);
    let mut at = offset;
    while at < end {
        let bar = ((at - offset) / (beat * per_bar as f32)) as usize;
        let root = progression[bar % progression.len()];
        let step = root + *pick(rng, &[0, 0, 0, 4]);
        let hz = tonic * (degree(scale, step) / 12.0).exp2();
        let note = instrument.note(rng, hz, 0.9 * division * beat);
        place(out, &note, at, 0.7);
        at += division * beat;
    }
}

fn drums(rng: &mut Rng, out: &mut [f32], beat: f32, per_bar: usize, offset: f32) {
    let kick = {
        let mut out = vec![0.0; samples(0.3)];
        let (low, drop) = (range(rng, 40.0, 70.0), range(rng, 60.0, 250.0));
        let t60 = range(rng, 0.15, 0.5);
        tone(
            &mut out,
            &[1.0],
            |t| low + drop * (-t / 0.03).exp(),
            |t| strike(t, 0.001, t60),
        );
        out
    };
    let rattle = |rng: &mut Rng, high_pass: f32, t60: f32| {
        let mut out = noise(rng, samples(t60), Colour::White);
        Biquad::high_pass(high_pass, 0.7).run(&mut out);
        for (at, sample) in out.iter_mut().enumerate() {
            *sample *= 0.5 * strike(at as f32 / RATE, 0.0005, t60);
        }
        out
    };
    let t60 = log_range(rng, 0.1, 0.35);
    let mut snare = rattle(rng, 900.0, t60);
    let shell = Mode {
        hz: range(rng, 150.0, 260.0),
        amp: 0.6,
        t60: 0.12,
    };
    modes(&mut snare, rng, 0, &[shell], 1.0);
    let t60 = log_range(rng, 0.03, 0.3);
    let hat = rattle(rng, 5_000.0, t60);
    let swing = if chance(rng, 0.3) { 0.16 } else { 0.0 };
    let (hat_gain, busy) = (range(rng, 0.2, 0.7), rng.f32() * 0.4);
    let end = out.len() as f32 / RATE;
    let mut at = offset;
    let mut eighth = 0;
    while at < end {
        let time = at + if eighth % 2 == 1 { swing * beat } else { 0.0 };
        let place_in_bar = eighth % (2 * per_bar);
        if place_in_bar == 0 || (place_in_bar.is_multiple_of(2) && chance(rng, busy)) {
            place(out, &kick, time, 1.0);
        }
        if place_in_bar % 4 == 2 || chance(rng, 0.3 * busy) {
            place(out, &snare, time, 0.8);
        }
        place(out, &hat, time, hat_gain);
        at += 0.5 * beat;
        eighth += 1;
    }
}
