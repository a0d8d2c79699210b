//! Things that beep, wail or ring on purpose: smoke and CO alarms, alarm clocks, sirens, horns,
//! telephones, and the beeps that must not be taken for alarms.

use fastrand::Rng;

use super::impacts::ringer;
use super::parts::{
    Biquad, Colour, Spectrum, chance, drift, gate, harmonics, log_range, noise, pick, range,
    samples, strike, tone,
};

/// A tone in groups of beeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Beeper {
    /// Frequency in hertz.
    pub hz: f32,
    /// Amplitudes of its harmonics.
    pub spectrum: Spectrum,
    /// Beeps in a group.
    pub beeps: u32,
    /// Length of a beep in seconds.
    pub on_s: f32,
    /// Silence between two beeps of a group, in seconds.
    pub off_s: f32,
    /// Silence after a group, in seconds.
    pub pause_s: f32,
    /// Seconds before the first group; negative: so far into it already.
    pub lead_s: f32,
    /// Depth of a warble as a part of the frequency, 0 for none.
    pub warble: f32,
    /// Rate of the warble in hertz.
    pub warble_hz: f32,
    /// Rise and fall of a beep in seconds.
    pub ramp_s: f32,
}

impl Beeper {
    /// A smoke alarm, most often in the temporal-three pattern of ISO 8201: three beeps of 0.5 s
    /// with 0.5 s between them and 1.5 s after them, within 10 %. Piezo horns about 3.1 kHz, or
    /// the 520 Hz square tone of NFPA 72 for bedrooms; some older ones beep on without a pattern.
    pub fn smoke_alarm(rng: &mut Rng, seconds: f32) -> Beeper {
        let low = chance(rng, 0.15);
        let mut beeper = Beeper {
            hz: if low {
                range(rng, 495.0, 545.0)
            } else {
                range(rng, 2_750.0, 3_550.0)
            },
            spectrum: if low {
                harmonics(15, range(rng, 0.6, 1.4), range(rng, 0.0, 0.3))
            } else {
                vec![1.0, log_range(rng, 0.01, 0.5)]
            },
            beeps: 3,
            on_s: range(rng, 0.45, 0.55),
            off_s: range(rng, 0.45, 0.55),
            pause_s: range(rng, 1.35, 1.65),
            lead_s: 0.0,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: log_range(rng, 0.001, 0.02),
        };
        if chance(rng, 0.15) {
            // A beep without end, fast or slow, as old stand-alone alarms have it.
            beeper.beeps = 1;
            beeper.on_s = log_range(rng, 0.05, 1.0);
            beeper.off_s = 0.0;
            beeper.pause_s = beeper.on_s * range(rng, 0.2, 1.2);
        }
        if !low && chance(rng, 0.25) {
            beeper.warble = range(rng, 0.02, 0.15);
            beeper.warble_hz = log_range(rng, 3.0, 60.0);
        }
        beeper.lead_in(rng, seconds)
    }

    /// A carbon monoxide alarm in the temporal-four pattern of UL 2034: four beeps of 0.1 s with
    /// 0.1 s between them and 5 s after them, within 10 %.
    pub fn co_alarm(rng: &mut Rng, seconds: f32) -> Beeper {
        Beeper {
            hz: range(rng, 2_750.0, 3_550.0),
            spectrum: vec![1.0, log_range(rng, 0.01, 0.5)],
            beeps: 4,
            on_s: range(rng, 0.09, 0.11),
            off_s: range(rng, 0.09, 0.11),
            pause_s: range(rng, 4.5, 5.5),
            lead_s: 0.0,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: log_range(rng, 0.001, 0.01),
        }
        .lead_in(rng, seconds)
    }

    /// A digital alarm clock or watch: quick beeps about 2 kHz, most often four a second.
    pub fn digital_clock(rng: &mut Rng, seconds: f32) -> Beeper {
        let on_s = log_range(rng, 0.04, 0.14);
        Beeper {
            hz: log_range(rng, 1_000.0, 4_200.0),
            spectrum: harmonics(6, range(rng, 0.8, 2.0), range(rng, 0.0, 1.0)),
            beeps: *pick(rng, &[2, 2, 3, 4, 4, 4, 4]),
            on_s,
            off_s: on_s * range(rng, 0.6, 1.4),
            pause_s: range(rng, 0.25, 0.8),
            lead_s: 0.0,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: log_range(rng, 0.001, 0.01),
        }
        .lead_in(rng, seconds)
    }

    /// A microwave oven or a washing machine: a few long beeps of one pitch, seldom repeated.
    pub fn appliance(rng: &mut Rng, seconds: f32) -> Beeper {
        Beeper {
            hz: log_range(rng, 800.0, 4_500.0),
            spectrum: harmonics(6, range(rng, 0.8, 2.5), range(rng, 0.0, 1.0)),
            beeps: rng.u32(1..=5),
            on_s: log_range(rng, 0.04, 0.9),
            off_s: log_range(rng, 0.1, 1.0),
            pause_s: range(rng, 3.0, 30.0),
            lead_s: 0.0,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: log_range(rng, 0.002, 0.03),
        }
        .lead_in(rng, seconds)
    }

    /// A lorry that backs up: about one beep a second between 600 Hz and 1.6 kHz.
    pub fn reversing(rng: &mut Rng, seconds: f32) -> Beeper {
        let on_s = range(rng, 0.3, 0.7);
        Beeper {
            hz: log_range(rng, 600.0, 1_600.0),
            spectrum: harmonics(8, range(rng, 0.6, 1.8), range(rng, 0.0, 0.6)),
            beeps: 1,
            on_s,
            off_s: 0.0,
            pause_s: on_s * range(rng, 0.8, 1.3),
            lead_s: 0.0,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: log_range(rng, 0.002, 0.02),
        }
        .lead_in(rng, seconds)
    }

    /// Chooses the start so that a beep is heard in the first half of a clip of `seconds`: either
    /// within a beep of the first group, or with a short silence before it.
    fn lead_in(mut self, rng: &mut Rng, seconds: f32) -> Beeper {
        self.lead_s = if chance(rng, 0.5) {
            let beep = rng.u32(..self.beeps) as f32;
            -(beep * (self.on_s + self.off_s) + range(rng, 0.0, 0.7) * self.on_s)
        } else {
            range(rng, 0.0, 0.4 * seconds)
        };
        self
    }

    /// Whether a beep sounds at `t` seconds, as a gain.
    fn level(&self, t: f32) -> f32 {
        let since = t - self.lead_s;
        if since < 0.0 {
            return 0.0;
        }
        let beat = self.on_s + self.off_s;
        let period = self.beeps as f32 * beat - self.off_s + self.pause_s;
        let within = since % period;
        let beep = (within / beat).floor().min(self.beeps as f32 - 1.0);
        gate(within - beep * beat, 0.0, self.on_s, self.ramp_s)
    }

    /// `n` samples of it.
    pub fn render(&self, n: usize) -> Vec<f32> {
        let mut out = vec![0.0; n];
        let hz = |t: f32| {
            self.hz * (1.0 + self.warble * (std::f32::consts::TAU * self.warble_hz * t).sin())
        };
        tone(&mut out, &self.spectrum, hz, |t| self.level(t));
        out
    }
}

/// An alarm clock: digital beeps, a mechanical bell or an electric buzzer.
pub fn alarm_clock(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    match rng.u32(..10) {
        0..5 => Beeper::digital_clock(rng, seconds).render(samples(seconds)),
        5..8 => ringer(rng, seconds, None),
        _ => buzzer(rng, seconds),
    }
}

/// An electric buzzer: a coil at mains frequency or a reed, in one burst or several.
pub fn buzzer(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let hz = if chance(rng, 0.6) {
        2.0 * *pick(rng, &[50.0, 60.0])
    } else {
        log_range(rng, 150.0, 500.0)
    };
    let from = range(rng, 0.0, 0.3) * seconds;
    let burst = log_range(rng, 0.3, 2.0);
    let gap = if chance(rng, 0.5) {
        range(rng, 0.1, 0.6)
    } else {
        1e3
    };
    let jitter = drift(rng, out.len(), 0.03);
    tone(
        &mut out,
        &harmonics(60, range(rng, 0.2, 0.9), range(rng, 0.4, 1.0)),
        |_| hz,
        |t| {
            if t < from {
                0.0
            } else {
                gate((t - from) % (burst + gap), 0.0, burst, 0.004)
            }
        },
    );
    for (sample, wobble) in out.iter_mut().zip(jitter) {
        *sample *= 1.0 + 0.2 * wobble;
    }
    Biquad::peak(log_range(rng, 800.0, 4_000.0), 2.0, range(rng, 3.0, 15.0)).run(&mut out);
    out
}

/// A siren: wail, yelp, fast phaser, hi-lo of two tones, or a rising and falling mechanical one.
pub fn siren(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let spectrum = harmonics(14, range(rng, 0.5, 1.6), range(rng, 0.1, 1.0));
    let (low, high) = (
        log_range(rng, 350.0, 750.0),
        log_range(rng, 1_000.0, 1_800.0),
    );
    let phase = rng.f32();
    // A vehicle that comes or goes shifts the whole by a few per cent.
    let doppler = range(rng, -0.04, 0.04) / seconds;
    let moving = |t: f32| 1.0 + doppler * t;
    // Rises for `rise` of the period and falls for the rest, evenly in pitch.
    let sweep = |t: f32, period: f32, rise: f32| {
        let x = (t / period + phase).fract();
        let up = if x < rise {
            x / rise
        } else {
            (1.0 - x) / (1.0 - rise)
        };
        low * (high / low).powf(up)
    };
    match rng.u32(..10) {
        0..3 => {
            let (period, rise) = (log_range(rng, 2.5, 8.0), range(rng, 0.3, 0.7));
            tone(
                &mut out,
                &spectrum,
                |t| moving(t) * sweep(t, period, rise),
                |_| 1.0,
            );
        }
        3..5 => {
            let (period, rise) = (log_range(rng, 0.2, 0.5), range(rng, 0.3, 0.9));
            tone(
                &mut out,
                &spectrum,
                |t| moving(t) * sweep(t, period, rise),
                |_| 1.0,
            );
        }
        5 => {
            let period = log_range(rng, 0.05, 0.12);
            tone(
                &mut out,
                &spectrum,
                |t| moving(t) * sweep(t, period, 0.8),
                |_| 1.0,
            );
        }
        6..9 => {
            // Europe's two tones: 435/580 Hz in Germany, 435/488 in France, 450/600 elsewhere.
            let first = log_range(rng, 360.0, 700.0);
            let second = first * *pick(rng, &[1.12, 1.25, 1.333, 1.333, 1.333, 1.5]);
            let each = range(rng, 0.3, 0.9);
            let hz = |t: f32| {
                let second_one = (t / (2.0 * each) + phase).fract() >= 0.5;
                moving(t) * if second_one { second } else { first }
            };
            tone(&mut out, &spectrum, hz, |_| 1.0);
        }
        _ => {
            // Civil defence: a rotor that speeds up and coasts, so pitch and level go together.
            let top = log_range(rng, 400.0, 1_000.0);
            let period = range(rng, 6.0, 14.0);
            let turn = |t: f32| {
                let x = (t / period + phase).fract();
                0.3 + 0.7 * (std::f32::consts::PI * x).sin().powf(0.6)
            };
            tone(&mut out, &spectrum, |t| top * turn(t), turn);
        }
    }
    // A horn loudspeaker passes little below 400 Hz and peaks in the middle.
    Biquad::peak(log_range(rng, 700.0, 2_500.0), 1.0, range(rng, 0.0, 10.0)).run(&mut out);
    out
}

/// A car or lorry horn: two tones a third apart, rich in harmonics, in one blast or several.
pub fn car_horn(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = vec![0.0; samples(seconds)];
    let lorry = chance(rng, 0.2);
    let base = if lorry {
        log_range(rng, 140.0, 300.0)
    } else {
        log_range(rng, 320.0, 480.0)
    };
    let second = base * range(rng, 1.18, 1.28);
    let from = range(rng, 0.0, 0.3) * seconds;
    let blasts: Vec<(f32, f32)> = {
        let mut at = from;
        (0..rng.u32(1..=4))
            .map(|_| {
                let length = log_range(rng, 0.08, 1.6);
                let blast = (at, at + length);
                at += length + log_range(rng, 0.05, 0.5);
                blast
            })
            .collect()
    };
    let spectrum = harmonics(40, range(rng, 0.3, 1.0), range(rng, 0.6, 1.0));
    let ramp = log_range(rng, 0.005, 0.04);
    let level = |t: f32| {
        blasts
            .iter()
            .map(|&(from, to)| gate(t, from, to, ramp))
            .fold(0.0, f32::max)
    };
    let voices: &[f32] = if chance(rng, 0.2) {
        &[base]
    } else {
        &[base, second]
    };
    for &hz in voices {
        tone(&mut out, &spectrum, |_| hz, level);
    }
    for _ in 0..2 {
        Biquad::peak(log_range(rng, 800.0, 4_000.0), 1.5, range(rng, 0.0, 10.0)).run(&mut out);
    }
    out
}

/// A telephone: twin bells, an electronic warble, or a tune.
pub fn telephone(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    if chance(rng, 0.4) {
        // Two seconds of ringing and four of silence in North America, 0.4-0.2-0.4-2 in Britain.
        let cadence = *pick(rng, &[(2.0, 4.0), (1.0, 2.0), (0.4, 0.2)]);
        return ringer(rng, seconds, Some(cadence));
    }
    let mut out = vec![0.0; samples(seconds)];
    let low = log_range(rng, 500.0, 1_400.0);
    let high = low * range(rng, 1.15, 1.5);
    let switch_hz = log_range(rng, 8.0, 30.0);
    let on = range(rng, 0.6, 2.0);
    let period = on * range(rng, 1.5, 3.0);
    let lead = range(rng, 0.0, 0.3) * seconds;
    let spectrum = harmonics(6, range(rng, 0.7, 2.0), range(rng, 0.0, 1.0));
    let hz = |t: f32| {
        if (t * switch_hz).fract() < 0.5 {
            low
        } else {
            high
        }
    };
    let level = |t: f32| {
        if t < lead {
            0.0
        } else {
            gate((t - lead) % period, 0.0, on, 0.005)
        }
    };
    tone(&mut out, &spectrum, hz, level);
    out
}

/// Bleeps of games, toys and interfaces: short tones of changing pitch, slides and arpeggios.
pub fn game_bleeps(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = vec![0.0; n];
    let spectrum = harmonics(20, range(rng, 0.6, 1.6), range(rng, 0.0, 1.0));
    let mut at = range(rng, 0.0, 0.2) * seconds;
    while at < seconds {
        let length = log_range(rng, 0.03, 0.3);
        let hz = log_range(rng, 200.0, 4_000.0);
        let slide = if chance(rng, 0.4) {
            range(rng, -2.0, 2.0) / length
        } else {
            0.0
        };
        let step = if chance(rng, 0.3) {
            log_range(rng, 0.02, 0.08)
        } else {
            1e3
        };
        let from = samples(at).min(n);
        let to = (from + samples(length)).min(n);
        tone(
            &mut out[from..to],
            &spectrum,
            |t| {
                let arpeggio = [1.0, 1.26, 1.5][(t / step) as usize % 3];
                hz * (slide * t).exp2() * arpeggio
            },
            |t| gate(t, 0.0, length, 0.003) * strike(t, 0.0, 4.0 * length),
        );
        at += length * range(rng, 1.0, 3.0);
        if chance(rng, 0.15) {
            at += range(rng, 0.1, 0.6);
        }
    }
    out
}

/// The hum of a transformer or of bad wiring, with some hiss.
pub fn mains_hum(rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    let mut out = noise(rng, n, Colour::Pink);
    let hiss = log_range(rng, 0.005, 0.2);
    out.iter_mut().for_each(|x| *x *= hiss);
    let hz = *pick(rng, &[50.0, 60.0, 100.0, 120.0]);
    let spectrum = harmonics(30, range(rng, 0.8, 2.0), range(rng, 0.2, 1.5));
    tone(&mut out, &spectrum, |_| hz, |_| 1.0);
    out
}
