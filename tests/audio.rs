//! Sound files, good and hostile, and the sources on real parts.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harkd::audio::mic::Mic;
use harkd::audio::ring::{PcmReader, pcm_ring};
use harkd::audio::{Health, Running, Source};
use support::pulse::Pulse;

/// Starts a source and gives what a listener holds.
fn start(source: Box<dyn Source>) -> (Box<dyn Running>, PcmReader) {
    let (writer, reader) = pcm_ring(source.format(), 2.0);
    (source.start(writer).unwrap(), reader)
}

/// The frequency of a tone by its upward zero crossings, or `None` for silence.
fn frequency(samples: &[f32], rate_hz: u32) -> Option<f64> {
    let crossings: Vec<usize> = (1..samples.len())
        .filter(|&n| samples[n - 1] < 0.0 && samples[n] >= 0.0)
        .collect();
    let (first, last) = (crossings.first()?, crossings.last()?);
    let periods = crossings.len() - 1;
    (periods > 10).then(|| periods as f64 * f64::from(rate_hz) / (last - first) as f64)
}

/// Listens on the default microphone until it hears a steady tone, then says its frequency, then
/// waits for the microphone to fail; twice. Runs in a child, whose environment names the server.
#[test]
#[ignore = "run by a_tone_is_captured_and_a_dead_server_is_noticed with a server in its environment"]
fn capture_child() {
    for _ in 0..2 {
        let mic = loop {
            match Mic::open(None) {
                Ok(mic) => break mic,
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let rate_hz = mic.format().rate_hz;
        println!("\nlive: opened {}", mic.name());
        let (mut running, mut reader) = start(Box::new(mic));
        let mut heard = Vec::new();
        loop {
            heard.clear();
            while heard.len() < rate_hz as usize / 2 {
                reader.wait(rate_hz as usize / 20, Duration::from_secs(5));
                let block = reader.read(&mut heard, usize::MAX);
                assert_eq!(block.lost_before, 0);
                assert!(matches!(running.health(), Health::Running));
            }
            if let Some(hz) = frequency(&heard, rate_hz) {
                println!("\nlive: tone {hz:.1}");
                break;
            }
        }
        let failure = loop {
            if let Health::Failed(error) = running.health() {
                break error;
            }
            reader.wait(usize::MAX, Duration::from_millis(20));
            reader.read(&mut heard, usize::MAX);
            heard.clear();
        };
        println!("\nlive: failed {failure}");
    }
}

#[test]
fn a_tone_is_captured_and_a_dead_server_is_noticed() {
    let mut pulse = Pulse::start();
    let wav = pulse.runtime_dir().join("tone.wav");
    support::write_wav(&wav, 44_100, &support::tone(44_100, 1_000.0, 30.0));
    let mut command = Command::new(std::env::current_exe().unwrap());
    pulse.point(&mut command);
    let mut child = command
        .args(["--exact", "capture_child", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Some(line.split_once("live: ")?.1.to_owned()));
    for round in 0..2 {
        assert_eq!(lines.next().unwrap(), "opened vsink.monitor");
        let player = pulse.play(&wav);
        let tone = lines.next().unwrap();
        let hz: f64 = tone.strip_prefix("tone ").unwrap().parse().unwrap();
        assert!((hz - 1_000.0).abs() < 2.0, "{tone}");
        let killed = Instant::now();
        pulse.kill();
        let failed = lines.next().unwrap();
        assert!(
            failed.starts_with("failed microphone 'vsink.monitor'"),
            "{failed}"
        );
        assert!(
            killed.elapsed() < Duration::from_secs(1),
            "{:?}",
            killed.elapsed()
        );
        drop(player);
        if round == 0 {
            pulse.restart();
        }
    }
    assert!(child.wait().unwrap().success());
}
