//! What several test binaries share.

#![allow(dead_code, reason = "every test binary uses a part of it")]

pub mod pulse;

use std::path::{Path, PathBuf};

/// The project's data, where it is there: `HARKD_DATA`, or `../shared/data` beside the checkout.
pub fn data_dir() -> Option<PathBuf> {
    let dir = std::env::var_os("HARKD_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    if dir.is_dir() {
        Some(dir)
    } else {
        println!("skipped: no data at {}", dir.display());
        None
    }
}

/// A sine of `hz` at half of full scale.
pub fn tone(rate_hz: u32, hz: f64, seconds: f64) -> Vec<f32> {
    (0..(seconds * f64::from(rate_hz)) as usize)
        .map(|n| (0.5 * (std::f64::consts::TAU * hz * n as f64 / f64::from(rate_hz)).sin()) as f32)
        .collect()
}

/// Writes mono samples as a 16-bit wav file.
pub fn write_wav(path: &Path, rate_hz: u32, samples: &[f32]) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate_hz,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}
