//! Synthesised sounds: for tests, for the demo, and for labels of which few recordings are free.
//!
//! Everything is drawn from one seeded generator, so a seed is a sound. What is made here is no
//! recording and does not sound like one in all respects: the variation is wide on purpose (pitch,
//! material, cadence, room, loudspeaker), so that a model learns what is common to them.

mod alarms;
mod bangs;
mod impacts;
mod music;
pub mod parts;
mod textures;

pub use alarms::Beeper;

use fastrand::Rng;

use parts::{Biquad, chance, log_range, range, room, samples};

/// What can be synthesised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sound {
    /// A smoke alarm, most often in the temporal-three pattern.
    SmokeAlarm,
    /// A carbon monoxide alarm in the temporal-four pattern.
    CoAlarm,
    /// An alarm clock: beeps, bell or buzzer.
    AlarmClock,
    /// A siren of a vehicle or of civil defence.
    Siren,
    /// A horn of a car or lorry.
    CarHorn,
    /// A doorbell of any kind.
    Doorbell,
    /// Knocks on a door.
    Knock,
    /// A large bell.
    ChurchBell,
    /// A hand, desk, cow or bicycle bell.
    SmallBell,
    /// Glass that breaks.
    GlassBreak,
    /// Dishes, cutlery and glasses that do not break.
    Dishes,
    /// A clock or watch.
    ClockTick,
    /// Steps.
    Footsteps,
    /// A keyboard.
    Typing,
    /// A gunshot or a salvo.
    Gunshot,
    /// An explosion or a firework.
    Explosion,
    /// Thunder.
    Thunder,
    /// A vehicle's engine.
    Engine,
    /// A helicopter.
    Helicopter,
    /// A chainsaw.
    Chainsaw,
    /// Running water.
    Water,
    /// Rain.
    Rain,
    /// Wind.
    Wind,
    /// A fan or an air conditioner.
    Fan,
    /// Noise of a random colour.
    Noise,
    /// The hum of the mains.
    MainsHum,
    /// Music.
    Music,
    /// A telephone.
    Telephone,
    /// A microwave oven or washing machine; not to be taken for an alarm.
    ApplianceBeep,
    /// A lorry that backs up; not to be taken for an alarm.
    ReversingBeep,
    /// Bleeps of games and interfaces; not to be taken for an alarm.
    GameBleeps,
}

impl Sound {
    /// Every sound.
    pub const ALL: [Sound; 31] = [
        Sound::SmokeAlarm,
        Sound::CoAlarm,
        Sound::AlarmClock,
        Sound::Siren,
        Sound::CarHorn,
        Sound::Doorbell,
        Sound::Knock,
        Sound::ChurchBell,
        Sound::SmallBell,
        Sound::GlassBreak,
        Sound::Dishes,
        Sound::ClockTick,
        Sound::Footsteps,
        Sound::Typing,
        Sound::Gunshot,
        Sound::Explosion,
        Sound::Thunder,
        Sound::Engine,
        Sound::Helicopter,
        Sound::Chainsaw,
        Sound::Water,
        Sound::Rain,
        Sound::Wind,
        Sound::Fan,
        Sound::Noise,
        Sound::MainsHum,
        Sound::Music,
        Sound::Telephone,
        Sound::ApplianceBeep,
        Sound::ReversingBeep,
        Sound::GameBleeps,
    ];
}

/// Display names of AudioSet that hold for a sound, the most special first. Empty for what is
/// only there to be told apart from alarms.
pub fn labels(sound: Sound) -> &'static [&'static str] {
    match sound {
        Sound::SmokeAlarm | Sound::CoAlarm => &["Smoke detector, smoke alarm", "Alarm"],
        Sound::AlarmClock => &["Alarm clock", "Alarm"],
        Sound::Siren => &["Siren"],
        Sound::CarHorn => &["Vehicle horn, car horn, honking"],
        Sound::Doorbell => &["Doorbell"],
        Sound::Knock => &["Knock"],
        Sound::ChurchBell => &["Church bell", "Bell"],
        Sound::SmallBell => &["Bell"],
        Sound::GlassBreak => &["Shatter", "Glass"],
        Sound::Dishes => &["Dishes, pots, and pans"],
        Sound::ClockTick => &["Tick-tock", "Tick", "Clock"],
        Sound::Footsteps => &["Walk, footsteps"],
        Sound::Typing => &["Typing"],
        Sound::Gunshot => &["Gunshot, gunfire"],
        Sound::Explosion => &["Explosion"],
        Sound::Thunder => &["Thunder"],
        Sound::Engine => &["Engine"],
        Sound::Helicopter => &["Helicopter"],
        Sound::Chainsaw => &["Chainsaw"],
        Sound::Water => &["Water"],
        Sound::Rain => &["Rain"],
        Sound::Wind => &["Wind"],
        Sound::Fan => &["Mechanical fan"],
        Sound::Noise => &["Noise"],
        Sound::MainsHum => &["Mains hum"],
        Sound::Music => &["Music"],
        Sound::Telephone => &["Telephone bell ringing"],
        Sound::ApplianceBeep | Sound::ReversingBeep | Sound::GameBleeps => &[],
    }
}

/// `seconds` of a sound at the pipeline rate, drawn from `rng`: mono, finite, with a peak of 0.9.
///
/// Something is heard in the first half. A sound that comes and goes (alarms, knocks) is silent in
/// between, and a single blow dies away: a window out of a longer clip may hold nothing.
pub fn render(sound: Sound, rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let mut out = dry(sound, rng, seconds);
    if chance(rng, 0.6) {
        let (t60, wet) = (log_range(rng, 0.15, 1.5), log_range(rng, 0.05, 0.8));
        room(rng, &mut out, t60, wet);
    }
    if chance(rng, 0.5) {
        loudspeaker(rng, &mut out);
    }
    if chance(rng, 0.1) {
        // An overdriven microphone.
        parts::normalise(&mut out, 1.0);
        let drive = log_range(rng, 1.5, 8.0);
        out.iter_mut().for_each(|x| *x = (drive * *x).tanh());
    }
    parts::normalise(&mut out, 0.9);
    out
}

/// The sound before room and loudspeaker.
fn dry(sound: Sound, rng: &mut Rng, seconds: f32) -> Vec<f32> {
    let n = samples(seconds);
    match sound {
        Sound::SmokeAlarm => Beeper::smoke_alarm(rng, seconds).render(n),
        Sound::CoAlarm => Beeper::co_alarm(rng, seconds).render(n),
        Sound::ApplianceBeep => Beeper::appliance(rng, seconds).render(n),
        Sound::ReversingBeep => Beeper::reversing(rng, seconds).render(n),
        Sound::AlarmClock => alarms::alarm_clock(rng, seconds),
        Sound::Siren => alarms::siren(rng, seconds),
        Sound::CarHorn => alarms::car_horn(rng, seconds),
        Sound::Telephone => alarms::telephone(rng, seconds),
        Sound::GameBleeps => alarms::game_bleeps(rng, seconds),
        Sound::MainsHum => alarms::mains_hum(rng, seconds),
        Sound::Doorbell => impacts::doorbell(rng, seconds),
        Sound::Knock => impacts::knock(rng, seconds),
        Sound::ChurchBell => impacts::church_bell(rng, seconds),
        Sound::SmallBell => impacts::small_bell(rng, seconds),
        Sound::GlassBreak => impacts::glass_break(rng, seconds),
        Sound::Dishes => impacts::dishes(rng, seconds),
        Sound::ClockTick => impacts::clock_tick(rng, seconds),
        Sound::Footsteps => impacts::footsteps(rng, seconds),
        Sound::Typing => impacts::typing(rng, seconds),
        Sound::Gunshot => bangs::gunshot(rng, seconds),
        Sound::Explosion => bangs::explosion(rng, seconds),
        Sound::Thunder => bangs::thunder(rng, seconds),
        Sound::Engine => textures::engine(rng, seconds),
        Sound::Helicopter => textures::helicopter(rng, seconds),
        Sound::Chainsaw => textures::chainsaw(rng, seconds),
        Sound::Water => textures::water(rng, seconds),
        Sound::Rain => textures::rain(rng, seconds),
        Sound::Wind => textures::wind(rng, seconds),
        Sound::Fan => textures::fan(rng, seconds),
        Sound::Noise => textures::steady_noise(rng, seconds),
        Sound::Music => music::music(rng, seconds),
    }
}

/// A small loudspeaker, a wall or a distance: a band and two resonances.
fn loudspeaker(rng: &mut Rng, out: &mut [f32]) {
    Biquad::high_pass(log_range(rng, 40.0, 300.0), 0.7).run(out);
    Biquad::low_pass(log_range(rng, 3_500.0, 7_800.0), 0.7).run(out);
    for _ in 0..2 {
        let (centre, q) = (log_range(rng, 200.0, 6_000.0), log_range(rng, 0.5, 4.0));
        Biquad::peak(centre, q, range(rng, -8.0, 8.0)).run(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sound_is_finite_heard_and_the_same_for_a_seed() {
        for sound in Sound::ALL {
            for seed in 0..12 {
                for seconds in [0.25, 1.0, 2.7] {
                    let make = || render(sound, &mut Rng::with_seed(seed), seconds);
                    let pcm = make();
                    assert_eq!(pcm.len(), samples(seconds));
                    assert!(pcm.iter().all(|x| x.is_finite() && x.abs() <= 1.0));
                    let rms = (pcm.iter().map(|x| x * x).sum::<f32>() / pcm.len() as f32).sqrt();
                    assert!(rms > 1e-3, "{sound:?} {seed} {seconds} s: rms {rms}");
                    if seed == 0 {
                        assert_eq!(pcm, make(), "{sound:?}");
                        let other = render(sound, &mut Rng::with_seed(99), seconds);
                        assert_ne!(pcm, other, "{sound:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn something_is_heard_in_the_first_half() {
        for sound in Sound::ALL {
            for seed in 0..20 {
                let pcm = render(sound, &mut Rng::with_seed(seed), 2.0);
                let peak = |part: &[f32]| part.iter().fold(0.0f32, |high, x| high.max(x.abs()));
                let half = peak(&pcm[..16_000]);
                assert!(half > 0.02, "{sound:?} {seed}: {half}");
            }
        }
    }

    /// Onsets of stretches above a tenth of the peak, with their lengths, in seconds.
    fn beeps(pcm: &[f32]) -> Vec<(f32, f32)> {
        let block = 160;
        let loud: Vec<bool> = pcm
            .chunks(block)
            .map(|part| part.iter().any(|x| x.abs() > 0.1))
            .collect();
        let mut found = Vec::new();
        let mut at = 0;
        while at < loud.len() {
            let length = loud[at..].iter().take_while(|loud| **loud).count();
            if length > 0 {
                found.push((at as f32 * 0.01, length as f32 * 0.01));
            }
            at += length.max(1);
        }
        found
    }

    fn reference(beeps: u32, on_s: f32, pause_s: f32) -> Beeper {
        Beeper {
            hz: 3_100.0,
            spectrum: vec![1.0, 0.2],
            beeps,
            on_s,
            off_s: on_s,
            pause_s,
            lead_s: 0.5,
            warble: 0.0,
            warble_hz: 0.0,
            ramp_s: 0.002,
        }
    }

    #[test]
    fn temporal_three_and_four_have_their_cadence() {
        let check = |beeper: Beeper, expected: &[f32]| {
            let found = beeps(&beeper.render(16_000 * 8));
            for (&(at, length), expected) in found.iter().zip(expected) {
                assert!((at - expected).abs() < 0.015, "{at} s, expected {expected}");
                assert!((length - beeper.on_s).abs() < 0.025, "{length} s long");
            }
            assert!(found.len() >= expected.len(), "{found:?}");
        };
        check(reference(3, 0.5, 1.5), &[0.5, 1.5, 2.5, 4.5, 5.5, 6.5]);
        check(reference(4, 0.1, 5.0), &[0.5, 0.7, 0.9, 1.1, 6.2, 6.4]);
    }

    #[test]
    fn a_smoke_alarm_has_its_fundamental() {
        let mut planner = realfft::RealFftPlanner::<f32>::new();
        let fft = planner.plan_fft_forward(8_000);
        for seed in 0..40 {
            let mut rng = Rng::with_seed(seed);
            let mut beeper = Beeper::smoke_alarm(&mut rng, 2.0);
            beeper.warble = 0.0;
            beeper.lead_s = 0.0;
            let mut pcm = beeper.render(16_000);
            let mut spectrum = fft.make_output_vec();
            fft.process(&mut pcm[..8_000], &mut spectrum).unwrap();
            let best = (0..spectrum.len())
                .max_by(|&a, &b| spectrum[a].norm().total_cmp(&spectrum[b].norm()))
                .unwrap();
            let hz = best as f32 * 2.0;
            let near = (hz - beeper.hz).abs() < 10.0 + 2.0 / beeper.on_s;
            assert!(near, "{seed}: {hz} Hz, expected {}", beeper.hz);
            let known =
                (490.0..550.0).contains(&beeper.hz) || (2_700.0..3_600.0).contains(&beeper.hz);
            assert!(known, "{} Hz", beeper.hz);
        }
    }
}
