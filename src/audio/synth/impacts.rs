//! Things that are struck or break: bells, doorbells, knocks, glass, dishes, clocks, steps, keys.

use fastrand::Rng;

use super::alarms::buzzer;
use super::parts::{
    Biquad, Colour, Mode, RATE, add, chance, harmonics, log_range, modes, noise, pick, range,
    samples, strike, tone,
};

/// Partials of bodies as multiples of their lowest, with a spread that makes each body its own.
fn body(rng: &mut Rng, hz: f32, ratios: &[f32], t60: f32, spread: f32) -> Vec<Mode> {
    ratios
        .iter()
        .map(|ratio| Mode {
            hz: hz * ratio * (1.0 + spread * range(rng, -1.0, 1.0)),
            amp: range(rng, 0.2, 1.0) / ratio.max(1.0).powf(range(rng, 0.0, 1.0)),
            t60: t60 * ratio.max(0.5).powf(-range(rng, 0.3, 1.0)) * range(rng, 0.6, 1.4),
        })
        .collect()
}

/// Partials of a church bell: hum, prime, tierce, quint, nominal and above (Fletcher and Rossing).
const CHURCH: [f32; 12] = [
    0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.66, 3.01, 4.17, 5.43, 6.8, 8.2,
];
/// Partials of a small bell or gong.
const SMALL: [f32; 6] = [1.0, 2.4, 2.76, 4.1, 5.4, 8.2];
/// Partials of a struck bar (free at both ends).
const BAR: [f32; 4] = [1.0, 2.756, 5.404, 8.933];

/// A large bell, struck one to several times.
pub fn church_bell(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let mut at = range(rng, 0.0, 0.3) * seconds;
    let bells: Vec<Vec<Mode>> = (0..rng.u32(1..=4))
        .map(|_| {
            let (hz, t60) = (log_range(rng, 150.0, 700.0), log_range(rng, 4.0, 15.0));
            let partials = body(rng, hz, &CHURCH, t60, 0.01);
            // A cast bell is not quite round: each partial is two that beat.
            let twins: Vec<Mode> = partials
                .iter()
                .map(|mode| Mode {
                    hz: mode.hz + log_range(rng, 0.3, 4.0),
                    amp: mode.amp * range(rng, 0.3, 1.0),
                    ..*mode
                })
                .collect();
            [partials, twins].concat()
        })
        .collect();
    let gap = log_range(rng, 0.4, 3.0);
    while at < seconds {
        let bell = &bells[rng.usize(..bells.len())];
        clapper(&mut out, rng, samples(at), 1.0);
        let gain = range(rng, 0.6, 1.0);
        modes(&mut out, rng, samples(at), bell, gain);
        at += gap * range(rng, 0.9, 1.1);
    }
    out
}

/// A hand, desk, cow or bicycle bell.
pub fn small_bell(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let (hz, t60) = (log_range(rng, 600.0, 3_500.0), log_range(rng, 0.15, 2.5));
    let bell = body(rng, hz, &SMALL, t60, 0.04);
    let mut at = range(rng, 0.0, 0.3) * seconds;
    let gap = log_range(rng, 0.08, 1.0);
    for _ in 0..rng.u32(1..=12) {
        clapper(&mut out, rng, samples(at), 0.2);
        let gain = range(rng, 0.4, 1.0);
        modes(&mut out, rng, samples(at), &bell, gain);
        at += gap * range(rng, 0.6, 1.4);
    }
    out
}

/// A bell with an electric or spring-driven hammer at 12 to 35 strokes a second, all the time or
/// in a cadence of `(on, off)` seconds: alarm clocks, doors, schools, old telephones.
pub fn ringer(rng: &mut Rng, seconds: f32, cadence: Option<(f32, f32)>) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let (hz, t60) = (log_range(rng, 900.0, 3_500.0), log_range(rng, 0.1, 1.2));
    let twin = hz * range(rng, 1.05, 1.3);
    let gongs = [
        body(rng, hz, &SMALL, t60, 0.03),
        body(rng, twin, &SMALL, t60, 0.03),
    ];
    let both = chance(rng, 0.5);
    let rate = range(rng, 12.0, 35.0);
    let lead = range(rng, 0.0, 0.25) * seconds;
    let mut stroke = 0;
    let mut at = lead;
    while at < seconds {
        let rings = cadence.is_none_or(|(on, off)| (at - lead) % (on + off) < on);
        if rings {
            let gong = &gongs[if both { stroke % 2 } else { 0 }];
            clapper(&mut out, rng, samples(at), 0.1);
            let gain = range(rng, 0.7, 1.0);
            modes(&mut out, rng, samples(at), gong, gain);
            stroke += 1;
        }
        at += range(rng, 0.95, 1.05) / rate;
    }
    out
}

/// The click of a clapper: a few milliseconds of noise.
fn clapper(out: &mut [f32], rng: &mut Rng, at: usize, gain: f32) {
    let length = log_range(rng, 0.002, 0.01);
    burst(out, rng, at, length, gain, 1_500.0);
}

/// A burst of noise above `high_pass_hz` that dies to -60 dB in `length` seconds.
pub(super) fn burst(
    out: &mut [f32],
    rng: &mut Rng,
    at: usize,
    length: f32,
    gain: f32,
    high_pass_hz: f32,
) {
    let mut click = noise(rng, samples(length), Colour::White);
    Biquad::high_pass(high_pass_hz, 0.7).run(&mut click);
    for (at, sample) in click.iter_mut().enumerate() {
        *sample *= strike(at as f32 / RATE, 0.0005, length);
    }
    add(out, &click, at, gain);
}

/// A doorbell: ding-dong, a buzzer, a trilling bell, Westminster chimes or an electronic tune.
pub fn doorbell(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    match rng.u32(..10) {
        0..5 => ding_dong(rng, seconds),
        5 => buzzer(rng, seconds),
        6 => {
            let on = log_range(rng, 0.3, 1.5);
            ringer(rng, seconds, Some((on, 1e3)))
        }
        7 => {
            // Westminster: the quarters in E major, as semitones from the tonic.
            let quarter = *pick(
                rng,
                &[[4, 2, 0, -5], [0, 4, 2, -5], [0, 2, 4, 0], [4, 0, 2, -5]],
            );
            chimes(rng, seconds, &quarter)
        }
        _ => {
            let scale = [0, 2, 4, 5, 7, 9, 11, 12];
            let tune: Vec<i32> = (0..rng.usize(3..9)).map(|_| *pick(rng, &scale)).collect();
            chimes(rng, seconds, &tune)
        }
    }
}

/// Two struck bars or their electronic likeness, the second a third or a fourth lower.
fn ding_dong(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let interval = *pick(rng, &[-4, -4, -4, -3, -5, -7]);
    let mut notes = vec![0, interval];
    if chance(rng, 0.3) {
        notes.extend([0, interval]);
    }
    chimes(rng, seconds, &notes)
}

/// Notes, in semitones from a random tonic, on bars or as electronic tones.
fn chimes(rng: &mut Rng, seconds: f32, notes: &[i32]) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let tonic = log_range(rng, 380.0, 1_300.0);
    let t60 = log_range(rng, 0.5, 3.0);
    let electronic = chance(rng, 0.35);
    let spectrum = harmonics(8, range(rng, 0.8, 2.5), range(rng, 0.0, 1.0));
    let gap = log_range(rng, 0.2, 0.8);
    let mut at = range(rng, 0.0, 0.25) * seconds;
    for &note in notes {
        let hz = tonic * (note as f32 / 12.0).exp2();
        let from = samples(at).min(out.len());
        if electronic {
            tone(
                &mut out[from..],
                &spectrum,
                |_| hz,
                |t| strike(t, 0.005, t60),
            );
        } else {
            let bar = body(rng, hz, &BAR, t60, 0.01);
            clapper(&mut out, rng, from, 0.1);
            modes(&mut out, rng, from, &bar, 1.0);
            modes(&mut out, rng, from, &[Mode { hz, amp: 1.0, t60 }], 1.0);
        }
        at += gap;
    }
    out
}

/// Knocks on a door: two to six strokes on wood, metal or a hollow panel.
pub fn knock(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let (low, t60, bright) = *pick(
        rng,
        &[
            (110.0, 0.09, 0.4),
            (180.0, 0.06, 0.6),
            (90.0, 0.14, 0.25),
            (320.0, 0.12, 0.9),
        ],
    );
    let low = low * log_range(rng, 0.7, 1.6);
    let ratios = [1.0, 1.6, 2.3, 3.1, 4.4, 6.0, 8.5, 12.0];
    let t60 = t60 * range(rng, 0.7, 1.5);
    let panel = body(rng, low, &ratios, t60, 0.1);
    let mut at = range(rng, 0.0, 0.3) * seconds;
    let gap = log_range(rng, 0.1, 0.4);
    for _ in 0..rng.u32(2..=6) {
        let gain = range(rng, 0.5, 1.0);
        let at_sample = samples(at);
        let length = log_range(rng, 0.004, 0.02);
        burst(&mut out, rng, at_sample, length, gain * bright * 0.5, 300.0);
        // Knuckles hit a little elsewhere each time, so the modes are excited anew.
        let struck: Vec<Mode> = panel
            .iter()
            .map(|mode| Mode {
                amp: mode.amp * range(rng, 0.6, 1.4),
                ..*mode
            })
            .collect();
        modes(&mut out, rng, at_sample, &struck, gain);
        at += gap * range(rng, 0.85, 1.2);
    }
    out
}

/// Breaking glass: a dull blow, a dense onset of ringing splinters, then debris that tinkles and
/// thins out. Panes, bottles and tumblers differ in their low part and in the number of pieces.
pub fn glass_break(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let at = range(rng, 0.0, 0.35) * seconds;
    if chance(rng, 0.6) {
        let thump: Vec<Mode> = (0..4)
            .map(|_| Mode {
                hz: log_range(rng, 80.0, 900.0),
                amp: range(rng, 0.2, 1.0),
                t60: log_range(rng, 0.03, 0.15),
            })
            .collect();
        let gain = log_range(rng, 0.3, 3.0);
        modes(&mut out, rng, samples(at), &thump, gain);
    }
    // The crash: one to six cracks, each a burst of noise, as the pane gives way piece by piece.
    let crash = log_range(rng, 0.03, 0.35);
    let edge = log_range(rng, 800.0, 3_000.0);
    let loud = log_range(rng, 1.0, 8.0);
    for crack in 0..rng.u32(1..=6) {
        let late = if crack == 0 { 0.0 } else { crash * rng.f32() };
        let (length, gain) = (log_range(rng, 0.03, 0.3), loud * range(rng, 0.3, 1.0));
        burst(&mut out, rng, samples(at + late), length, gain, edge);
    }
    let pieces = log_range(rng, 60.0, 700.0) as usize;
    let tail = log_range(rng, 0.15, 0.9);
    let falling = range(rng, 0.2, 0.7);
    let lowest = log_range(rng, 1_000.0, 3_000.0);
    let ring = log_range(rng, 0.008, 0.12);
    for _ in 0..pieces {
        // Some pieces break off at once, the others fall and break on the floor.
        let late = if chance(rng, falling) {
            crash - tail * (1.0 - rng.f32()).ln()
        } else {
            crash * rng.f32().powi(2)
        };
        let size = log_range(rng, 0.05, 1.0);
        let fading = (-late / (1.5 * tail)).exp();
        splinter(&mut out, rng, at + late, lowest, ring, size * fading);
    }
    out
}

/// One splinter: a few modes high in the band and a tiny click.
fn splinter(out: &mut [f32], rng: &mut Rng, at: f32, lowest: f32, ring: f32, gain: f32) {
    let hz = log_range(rng, lowest, 7_000.0);
    let piece: Vec<Mode> = (0..rng.u32(2..=4))
        .map(|k| Mode {
            hz: hz * (1.0 + 0.55 * k as f32 * range(rng, 0.6, 1.4)),
            amp: range(rng, 0.2, 1.0),
            t60: ring * log_range(rng, 0.3, 3.0),
        })
        .collect();
    modes(out, rng, samples(at), &piece, gain);
    burst(out, rng, samples(at), 0.004, gain * 0.3, 2_500.0);
}

/// Dishes, cutlery and clinking glasses that do not break: one to many single blows that ring.
pub fn dishes(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let mut at = range(rng, 0.0, 0.4) * seconds;
    let gap = log_range(rng, 0.1, 1.0);
    let things: Vec<Vec<Mode>> = (0..rng.u32(1..=4))
        .map(|_| {
            let (hz, t60) = (log_range(rng, 500.0, 4_500.0), log_range(rng, 0.03, 1.0));
            body(rng, hz, &[1.0, 1.7, 2.3, 2.9, 4.0], t60, 0.15)
        })
        .collect();
    while at < seconds {
        let gain = log_range(rng, 0.2, 1.0);
        let thing = &things[rng.usize(..things.len())];
        clapper(&mut out, rng, samples(at), gain * 0.4);
        modes(&mut out, rng, samples(at), thing, gain);
        at += gap * log_range(rng, 0.15, 3.0);
    }
    out
}

/// A clock or watch: alternating clicks at an even rate.
pub fn clock_tick(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let rate = *pick(rng, &[1.0, 1.0, 2.0, 2.0, 4.0, 5.0, 6.0]);
    let mut works = || {
        let hz = log_range(rng, 700.0, 4_500.0);
        body(rng, hz, &[1.0, 1.5, 2.2, 3.3], 0.03, 0.2)
    };
    let (tick, tock) = (works(), works());
    let length = log_range(rng, 0.002, 0.015);
    let second = chance(rng, 0.5);
    let mut at = range(rng, 0.0, (0.4 * seconds).min(1.0 / rate));
    let mut beat = 0;
    while at < seconds {
        let gain = range(rng, 0.8, 1.0);
        let modal = if second && beat % 2 == 1 {
            &tock
        } else {
            &tick
        };
        burst(&mut out, rng, samples(at), length, gain, 1_000.0);
        modes(&mut out, rng, samples(at), modal, gain * 0.7);
        // An escapement drops back a moment after it has let go.
        let recoil = samples(at + 0.02);
        burst(&mut out, rng, recoil, length, gain * 0.3, 1_500.0);
        at += 1.0 / rate;
        beat += 1;
    }
    out
}

/// Steps: a heel with a low thump, then a softer sole.
pub fn footsteps(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let gap = 1.0 / range(rng, 1.4, 2.8);
    let hard = rng.f32();
    let mut at = range(rng, 0.0, gap.min(0.4 * seconds));
    while at < seconds {
        let gain = range(rng, 0.6, 1.0);
        let heel: Vec<Mode> = (0..4)
            .map(|_| Mode {
                hz: log_range(rng, 60.0, 500.0 + 1_500.0 * hard),
                amp: range(rng, 0.3, 1.0),
                t60: log_range(rng, 0.015, 0.06),
            })
            .collect();
        modes(&mut out, rng, samples(at), &heel, 0.6 * gain);
        burst(
            &mut out,
            rng,
            samples(at),
            0.02,
            gain * (0.2 + hard),
            200.0 + 1_800.0 * hard,
        );
        let sole = samples(at + range(rng, 0.06, 0.14));
        let (scuff, soft) = (range(rng, 0.05, 0.15), gain * range(rng, 0.05, 0.4));
        burst(&mut out, rng, sole, scuff, soft, 500.0);
        at += gap * range(rng, 0.92, 1.08);
    }
    out
}

/// Typing: irregular small clicks, each key down and up.
pub fn typing(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let mut at = range(rng, 0.0, 0.2f32.min(0.4 * seconds));
    let gap = log_range(rng, 0.08, 0.25);
    let hz = log_range(rng, 500.0, 2_500.0);
    while at < seconds {
        let gain = range(rng, 0.4, 1.0);
        let key = body(rng, hz, &[1.0, 1.8, 2.7, 4.1], 0.03, 0.2);
        burst(&mut out, rng, samples(at), 0.008, gain, 800.0);
        modes(&mut out, rng, samples(at), &key, gain * 0.5);
        let up = samples(at + range(rng, 0.05, 0.1));
        burst(&mut out, rng, up, 0.005, gain * 0.4, 1_500.0);
        at += gap * log_range(rng, 0.5, 2.0);
        if chance(rng, 0.08) {
            at += range(rng, 0.2, 0.8);
        }
    }
    out
}
