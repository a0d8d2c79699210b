//! Which of ALSA's many names for a capture device are stable, read off `/proc/asound`.
//!
//! `plughw:CARD=PCH,DEV=0` names a card by its identifier and stays the same after a reboot;
//! `plughw:CARD=0,DEV=0` counts cards and does not. Names such as `default` or `pulse` may lead back
//! to a sound server, where a stalled stream cannot even be closed, so they are left out.

use std::path::Path;

/// Where the kernel lists its sound cards.
pub const PROC_ASOUND: &str = "/proc/asound";

/// Whether any card can capture.
pub fn any_capture_device(proc_asound: &Path) -> bool {
    entries(proc_asound).iter().any(|card| {
        is_numbered_card(card)
            && entries(&proc_asound.join(card))
                .iter()
                .any(|entry| is_capture(entry, None))
    })
}

/// For every name, whether it is to be offered: stable names of devices that can capture, and names
/// that count cards only where no stable one is there.
pub fn stable(names: &[&str], proc_asound: &Path) -> Vec<bool> {
    let keep = |by_number: bool| -> Vec<bool> {
        names
            .iter()
            .map(|name| captures(name, by_number, proc_asound))
            .collect()
    };
    let stable = keep(false);
    if stable.contains(&true) {
        stable
    } else {
        keep(true)
    }
}

/// Whether `name` is `plughw:CARD=C,DEV=D` with a device that can capture, `C` being a number or not.
fn captures(name: &str, by_number: bool, proc_asound: &Path) -> bool {
    let Some((card, device)) = name
        .strip_prefix("plughw:CARD=")
        .and_then(|rest| rest.split_once(",DEV="))
    else {
        return false;
    };
    let is_number = card.bytes().all(|byte| byte.is_ascii_digit());
    let folder = if is_number {
        format!("card{card}")
    } else {
        card.to_owned()
    };
    is_number == by_number
        && entries(&proc_asound.join(folder))
            .iter()
            .any(|entry| is_capture(entry, Some(device)))
}

/// `pcm0c` is the capture side of device 0.
fn is_capture(entry: &str, device: Option<&str>) -> bool {
    entry
        .strip_prefix("pcm")
        .and_then(|rest| rest.strip_suffix('c'))
        .is_some_and(|number| device.is_none_or(|device| device == number))
}

fn is_numbered_card(entry: &str) -> bool {
    entry
        .strip_prefix("card")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn entries(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards(cards: &[(&str, &str, &[&str])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (number, id, devices) in cards {
            for device in *devices {
                std::fs::create_dir_all(folder.path().join(number).join(device)).unwrap();
            }
            std::os::unix::fs::symlink(number, folder.path().join(id)).unwrap();
        }
        std::fs::write(folder.path().join("cards"), "").unwrap();
        folder
    }

    #[test]
    fn capture_devices_with_stable_names_are_kept() {
        let folder = cards(&[
            ("card0", "PCH", &["pcm0p", "pcm0c", "pcm3p"]),
            ("card1", "HDMI", &["pcm3p"]),
        ]);
        assert!(any_capture_device(folder.path()));
        let names = [
            "default",
            "pulse",
            "hw:CARD=PCH,DEV=0",
            "plughw:CARD=PCH,DEV=0",
            "plughw:CARD=PCH,DEV=3",
            "plughw:CARD=HDMI,DEV=3",
            "plughw:CARD=0,DEV=0",
        ];
        let kept = [false, false, false, true, false, false, false];
        assert_eq!(stable(&names, folder.path()), kept);
        assert_eq!(
            stable(&["null", "plughw:CARD=0,DEV=0"], folder.path()),
            [false, true]
        );
    }

    #[test]
    fn no_card_and_no_capture_are_told() {
        let playback_only = cards(&[("card0", "HDMI", &["pcm3p"])]);
        assert!(!any_capture_device(playback_only.path()));
        assert!(!any_capture_device(Path::new("/nonexistent")));
        assert_eq!(
            stable(&["plughw:CARD=0,DEV=3"], playback_only.path()),
            [false]
        );
    }
}
