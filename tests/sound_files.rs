//! Sound files: good ones of many forms, and hostile ones, through the reader and the sources.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harkd::audio::file::{FileReader, FileSource, decode_mono_16k};
use harkd::audio::ring::{PcmReader, pcm_ring};
use harkd::audio::spec::{self, SourceSpec};
use harkd::audio::{AudioError, Health, Running, Source};
use hound::{SampleFormat, WavSpec, WavWriter};
use support::tone;

/// Writes a wav whose channels all carry `samples`.
fn wav(path: &Path, rate_hz: u32, channels: u16, bits: u16, samples: &[f32]) {
    let is_float = bits == 32;
    let spec = WavSpec {
        channels,
        sample_rate: rate_hz,
        bits_per_sample: bits,
        sample_format: if is_float {
            SampleFormat::Float
        } else {
            SampleFormat::Int
        },
    };
    let full_scale = (1i64 << (bits - 1)) as f32 - 1.0;
    let mut writer = WavWriter::create(path, spec).unwrap();
    for &sample in samples {
        for _ in 0..channels {
            if is_float {
                writer.write_sample(sample).unwrap();
            } else {
                writer.write_sample((sample * full_scale) as i32).unwrap();
            }
        }
    }
    writer.finalize().unwrap();
}

/// The middle of the decoded file must be the tone at 16 kHz, at its place.
#[track_caller]
fn check_form(rate_hz: u32, channels: u16, bits: u16) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("form.wav");
    wav(&path, rate_hz, channels, bits, &tone(rate_hz, 500.0, 1.0));
    let decoded = decode_mono_16k(&path).unwrap();
    assert_eq!(decoded.len(), 16_000);
    let tolerance = if bits == 8 { 0.02 } else { 2e-3 };
    for (n, expected) in tone(16_000, 500.0, 1.0).iter().enumerate() {
        if (2_000..14_000).contains(&n) {
            let error = (decoded[n] - expected).abs();
            assert!(
                error < tolerance,
                "{rate_hz} Hz, sample {n}: off by {error}"
            );
        }
    }
}

#[test]
fn many_forms_decode_to_the_same_sound() {
    check_form(16_000, 1, 16);
    check_form(8_000, 1, 16);
    check_form(192_000, 1, 24);
    check_form(48_000, 8, 16);
    check_form(44_100, 2, 32);
    check_form(22_050, 1, 8);
}

/// Half a second of a 500 Hz tone at half of full scale, 22 050 Hz, stereo, made with libsndfile
/// (flac, ogg, mp3) and FFmpeg's own encoder (m4a).
fn fixture(extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/sound/tone.{extension}"))
}

/// Lossy coding keeps neither phase nor length to the sample: the height of the tone, its frequency
/// and the length within `slack_s` must be right.
#[track_caller]
fn check_coded(extension: &str, slack_s: f64) {
    let decoded = decode_mono_16k(&fixture(extension)).unwrap();
    let length_s = decoded.len() as f64 / 16_000.0;
    assert!(
        (length_s - 0.5).abs() <= slack_s,
        "{extension}: {length_s} s"
    );
    let middle = &decoded[2_000..6_000];
    let energy: f32 = middle.iter().map(|x| x * x).sum();
    let rms = (energy / middle.len() as f32).sqrt();
    let expected = 0.5 * std::f32::consts::FRAC_1_SQRT_2;
    assert!((rms - expected).abs() < 0.01, "{extension}: {rms}");
    let crossings = middle
        .windows(2)
        .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
        .count();
    assert!((124..=126).contains(&crossings), "{extension}: {crossings}");
}

#[test]
fn coded_files_decode() {
    check_coded("flac", 0.0);
    check_coded("ogg", 0.0);
    check_coded("mp3", 0.1);
    check_coded("m4a", 0.1);
}

#[test]
fn not_finite_samples_become_zero() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nan.wav");
    let samples = [0.5, f32::NAN, f32::INFINITY, -0.5, f32::NEG_INFINITY, 3e38];
    wav(&path, 16_000, 1, 32, &samples);
    assert_eq!(
        decode_mono_16k(&path).unwrap(),
        [0.5, 0.0, 0.0, -0.5, 0.0, 0.0]
    );
    let mut reader = FileReader::open(&path).unwrap();
    while reader.next_block().unwrap().is_some() {}
    assert_eq!(reader.invalid_samples(), 4);
}

#[test]
fn a_file_is_read_at_the_rate_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("48k.wav");
    let samples: Vec<f32> = (0..9_600).map(|n| (n % 97) as f32 / 97.0 - 0.5).collect();
    wav(&path, 48_000, 1, 32, &samples);
    let read = |rate_hz| {
        let mut reader = FileReader::open_at(&path, rate_hz).unwrap();
        let mut all = Vec::new();
        while let Some(block) = reader.next_block().unwrap() {
            all.extend_from_slice(block);
        }
        all
    };
    assert!(read(48_000) == samples, "samples were changed");
    assert_eq!(read(32_000).len(), 6_400);
    assert_eq!(read(16_000), decode_mono_16k(&path).unwrap());
    assert!(FileReader::open_at(&path, 10).is_err());
}

/// The error must be one line that names the file and says `expected`.
#[track_caller]
fn check_error(path: &Path, expected: &str) {
    let started = Instant::now();
    let error = decode_mono_16k(path).unwrap_err();
    assert!(matches!(error, AudioError::Decode(_)));
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
    assert!(text.contains(expected), "{text}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(FileSource::open(path, false).err().unwrap(), error);
}

#[test]
fn what_is_not_sound_is_an_error_of_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    check_error(&dir.path().join("missing.wav"), "No such file");
    check_error(dir.path(), "directory");
    check_error(Path::new("/dev/zero"), "not a regular file");
    check_error(&file("empty.wav", b""), "empty");
    check_error(
        &file("text.wav", "Dies ist kein Ton.\n".repeat(500).as_bytes()),
        "not a sound file",
    );
    let mut random = fastrand::Rng::with_seed(1);
    let garbage: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
    check_error(&file("garbage.wav", &garbage), "sound");
    check_error(&file("zeros.mp3", &[0; 100_000]), "sound");
    check_error(&file("riff.wav", b"RIFF"), "sound");
    check_error(&file("header.wav", b"RIFF\x24\0\0\0WAVEfmt "), "");

    let good = dir.path().join("good.wav");
    wav(&good, 16_000, 1, 16, &tone(16_000, 440.0, 0.5));
    let bytes = fs::read(&good).unwrap();
    let mut wrong_magic = bytes.clone();
    wrong_magic[..4].copy_from_slice(b"RAFF");
    check_error(&file("magic.wav", &wrong_magic), "sound");
    check_error(&file("no-samples.wav", &bytes[..44]), "no sound");
    let mut too_fast = bytes.clone();
    too_fast[24..28].copy_from_slice(&4_000_000u32.to_le_bytes());
    check_error(&file("fast.wav", &too_fast), "4000000 Hz");
    let mut too_slow = bytes.clone();
    too_slow[24..28].copy_from_slice(&10u32.to_le_bytes());
    check_error(&file("slow.wav", &too_slow), "10 Hz");
}

#[test]
fn a_file_that_is_cut_short_or_claims_too_much_gives_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good.wav");
    wav(&good, 16_000, 1, 16, &tone(16_000, 440.0, 1.0));
    let bytes = fs::read(&good).unwrap();
    let whole = decode_mono_16k(&good).unwrap();
    let cut = dir.path().join("cut.wav");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let mut huge = bytes.clone();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    huge[40..44].copy_from_slice(&(u32::MAX - 1).to_le_bytes());
    let claims = dir.path().join("claims.wav");
    fs::write(&claims, &huge).unwrap();
    for (path, least) in [(cut, 0.45), (claims, 0.95)] {
        let decoded = decode_mono_16k(&path).unwrap();
        assert!(
            decoded.len() as f64 >= least * 16_000.0,
            "{}",
            decoded.len()
        );
        assert_eq!(decoded, whole[..decoded.len()]);
    }
}

/// Damages a file in many ways: every result must be an error of one line or finite samples.
fn damage(name: &str, bytes: &[u8], rounds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    for seed in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = bytes.to_vec();
        match seed % 4 {
            0 => bytes.truncate(random.usize(..bytes.len())),
            1 => {
                let at = random.usize(..bytes.len().min(512));
                bytes[at] = random.u8(..);
            }
            2 => {
                for _ in 0..20 {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
            }
            _ => {
                let at = random.usize(..bytes.len().min(256));
                let end = (at + random.usize(1..9)).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
        }
        fs::write(&path, &bytes).unwrap();
        let started = Instant::now();
        match decode_mono_16k(&path) {
            Ok(samples) => assert!(samples.iter().all(|x| x.is_finite()), "{name} {seed}"),
            Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{name} {seed}");
    }
}

#[test]
fn damaged_files_never_panic_or_hang() {
    let dir = tempfile::tempdir().unwrap();
    for (n, bits) in [8, 16, 24, 32].into_iter().enumerate() {
        let path = dir.path().join("good.wav");
        wav(&path, 22_050, 1 + n as u16, bits, &tone(22_050, 440.0, 0.4));
        damage(&format!("{bits}.wav"), &fs::read(&path).unwrap(), 150);
    }
    for extension in ["flac", "ogg", "mp3", "m4a"] {
        let bytes = fs::read(fixture(extension)).unwrap();
        damage(&format!("x.{extension}"), &bytes, 150);
    }
}

/// Reads a started source to its end.
fn drain(running: &mut dyn Running, reader: &mut PcmReader) -> Vec<f32> {
    let mut out = Vec::new();
    while !reader.is_finished() {
        reader.wait(1_000, Duration::from_secs(5));
        assert_eq!(reader.read(&mut out, usize::MAX).lost_before, 0);
    }
    // The outcome follows the end of the writer at once.
    while matches!(running.health(), Health::Running) {
        std::thread::yield_now();
    }
    out
}

fn start(source: Box<dyn Source>) -> (Box<dyn Running>, PcmReader) {
    let (writer, reader) = pcm_ring(source.format(), 1.0);
    (source.start(writer).unwrap(), reader)
}

#[test]
fn a_file_source_streams_fast_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.wav");
    support::write_wav(&path, 16_000, &tone(16_000, 440.0, 600.0));
    let source: SourceSpec = format!("file:{}", path.display()).parse().unwrap();
    let started = Instant::now();
    let (mut running, mut reader) = start(spec::open(&source, false).unwrap());
    let samples = drain(running.as_mut(), &mut reader);
    let speed = 600.0 / started.elapsed().as_secs_f64();
    println!("{speed:.0} times real time");
    assert!(speed > 500.0, "{speed:.0} times real time");
    assert_eq!(samples.len(), 9_600_000);
    assert!(matches!(running.health(), Health::Ended));
}

#[test]
fn a_paced_file_takes_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("short.wav");
    wav(&path, 44_100, 2, 16, &tone(44_100, 440.0, 0.5));
    let started = Instant::now();
    let (mut running, mut reader) = start(Box::new(FileSource::open(&path, true).unwrap()));
    let samples = drain(running.as_mut(), &mut reader);
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(samples.len(), 22_050);
}

fn command(text: &str) -> Box<dyn Source> {
    spec::open(&text.parse().unwrap(), false).unwrap()
}

#[test]
fn a_command_is_heard_and_its_end_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let pcm = dir.path().join("a b.pcm");
    let bytes: Vec<u8> = (-20_000..20_000i16).flat_map(i16::to_le_bytes).collect();
    fs::write(&pcm, [bytes.as_slice(), &[7]].concat()).unwrap();
    let (mut running, mut reader) = start(command(&format!("cmd:cat '{}'", pcm.display())));
    let samples = drain(running.as_mut(), &mut reader);
    let expected: Vec<f32> = (-20_000..20_000i16)
        .map(|n| f32::from(n) / 32_768.0)
        .collect();
    assert_eq!(samples, expected);
    let Health::Failed(error) = running.health() else {
        panic!("a command that ends has failed");
    };
    assert!(
        error
            .to_string()
            .contains("'cat' has ended with status 0 after 2.5 s"),
        "{error}"
    );
}

#[test]
fn a_command_that_is_not_there_or_fails_says_so() {
    let source = command("cmd:/nonexistent/program -x");
    let (writer, _reader) = pcm_ring(source.format(), 1.0);
    let error = source.start(writer).err().unwrap().to_string();
    assert!(
        error.contains("cannot start '/nonexistent/program'"),
        "{error}"
    );
    let (mut running, mut reader) = start(command("cmd:sh -c 'echo no camera >&2; exit 3'"));
    assert!(drain(running.as_mut(), &mut reader).is_empty());
    let Health::Failed(error) = running.health() else {
        panic!("a command that fails has failed");
    };
    assert!(
        error.to_string().contains("has ended with status 3"),
        "{error}"
    );
}

#[test]
fn dropping_a_command_kills_and_reaps_it() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let (running, mut reader) = start(command(&format!(
        "cmd:sh -c 'echo $$ > {}; exec cat /dev/zero'",
        pid_file.display()
    )));
    let mut out = Vec::new();
    reader.wait(16_000, Duration::from_secs(10));
    assert!(reader.read(&mut out, 16_000).samples > 0);
    let pid = fs::read_to_string(&pid_file).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(running);
    assert!(!process.exists());
}
