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

#[test]
fn devices_lists_the_monitor_as_default() {
    let pulse = Pulse::start();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hark"));
    pulse.point(&mut command);
    let output = command.args(["devices", "--json"]).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let devices: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(devices.len(), 1, "{text}");
    assert_eq!(devices[0]["name"], "vsink.monitor");
    assert_eq!(devices[0]["host"], "pulseaudio");
    assert_eq!(devices[0]["default"], true);
    assert_eq!(devices[0]["rate_hz"], 44_100);
}

#[test]
fn devices_without_a_server_says_so_and_does_not_hang() {
    let empty = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hark"))
        .arg("devices")
        .env("XDG_RUNTIME_DIR", empty.path())
        .env_remove("PULSE_SERVER")
        .env_remove("PULSE_RUNTIME_PATH")
        .output()
        .unwrap();
    assert!(output.status.success());
    if output.stdout.is_empty() {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("hark: no capture devices"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_server_that_answers_nothing_is_left_after_a_few_seconds() {
    // A socket that accepts and never speaks: as a stopped sound server looks from outside.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("pulse")).unwrap();
    let _silent = std::os::unix::net::UnixListener::bind(dir.path().join("pulse/native")).unwrap();
    let started = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_hark"))
        .arg("devices")
        .env("XDG_RUNTIME_DIR", dir.path())
        .env_remove("PULSE_SERVER")
        .env_remove("PULSE_RUNTIME_PATH")
        .output()
        .unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(output.stderr.starts_with(b"hark: ") || !output.stdout.is_empty());
}
