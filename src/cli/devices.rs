//! `hark devices`: lists the capture devices by their stable names.

use serde_json::json;

use super::out;
use crate::audio::mic::{self, DeviceInfo};

/// Arguments of `hark devices`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
///
/// # Errors
/// When a sound server does not answer, or standard output cannot be written.
pub fn run(args: Args) -> anyhow::Result<()> {
    let devices = mic::list()?;
    if devices.is_empty() {
        out::complain(
            "no capture devices: no PulseAudio or PipeWire server answers and ALSA has none; start the sound server or connect a microphone",
        );
    }
    let text: String = devices
        .iter()
        .map(if args.json { as_json } else { as_text })
        .collect();
    Ok(out::text(text)?)
}

fn as_json(device: &DeviceInfo) -> String {
    let line = json!({
        "name": device.name,
        "description": device.description,
        "host": device.host,
        "default": device.is_default,
        "rate_hz": device.format.map(|format| format.rate_hz),
        "channels": device.format.map(|format| format.channels),
        "sample_format": device.format.map(|_| device.sample_format.as_str()),
    });
    format!("{line}\n")
}

fn as_text(device: &DeviceInfo) -> String {
    let mark = if device.is_default { '*' } else { ' ' };
    let format = device.format.map_or_else(
        || "busy".to_owned(),
        |format| {
            format!(
                "{} Hz, {} ch, {}",
                format.rate_hz, format.channels, device.sample_format
            )
        },
    );
    format!(
        "{mark} {}  [{}] {} ({format})\n",
        device.name, device.host, device.description
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Format;

    #[test]
    fn a_device_in_words_and_in_json() {
        let mut device = DeviceInfo {
            name: "vsink.monitor".to_owned(),
            description: "Monitor of \"Null\"".to_owned(),
            host: "pulseaudio",
            is_default: true,
            format: Some(Format {
                rate_hz: 44_100,
                channels: 2,
            }),
            sample_format: "i16".to_owned(),
        };
        assert_eq!(
            as_text(&device),
            "* vsink.monitor  [pulseaudio] Monitor of \"Null\" (44100 Hz, 2 ch, i16)\n"
        );
        let value: serde_json::Value = serde_json::from_str(&as_json(&device)).unwrap();
        assert_eq!(value["description"], "Monitor of \"Null\"");
        assert_eq!(value["rate_hz"], 44_100);
        device.format = None;
        device.is_default = false;
        assert!(
            as_text(&device).starts_with("  vsink.monitor") && as_text(&device).contains("(busy)")
        );
        assert!(as_json(&device).contains("\"rate_hz\":null"));
    }
}
