//! Microphones through cpal; the only file that knows cpal.
//!
//! PulseAudio (which PipeWire speaks as well) comes first: it delivers exact periods and says at once
//! when the server dies. ALSA is the fallback where no server answers. Devices are known by stable
//! names, never by an index that changes at the next boot.
//!
//! Sound servers can hang. Everything that asks one (looking for devices, starting and stopping a
//! stream) happens on threads of its own with a time limit, and a stream is dropped on the thread
//! that made it: through ALSA's PulseAudio plugin, dropping a stream of a dead server never returns.
//! Noticing that no samples arrive is left to the listener.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, FromSample, HostId, InputCallbackInfo, SampleFormat,
    SizedSample, Stream, StreamConfig, StreamInstant, SupportedBufferSize, SupportedStreamConfig,
};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::alsa_names::{self, PROC_ASOUND};
use super::limit::{ANSWER, no_answer, spawn, within_limit};
use super::ring::PcmWriter;
use super::{AudioError, Format, Health, PERIOD, Running, Source};

/// How long a sound server that was there may take to come back before ALSA is tried in its place: a
/// device that is held open there is one that the server cannot have again.
const RESTART: Duration = Duration::from_secs(30);
/// Samples converted at a time.
const SCRATCH: usize = 4096;

/// A capture device, as `hark devices` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Stable name, to be used as `mic:NAME`.
    pub name: String,
    /// What a person calls it.
    pub description: String,
    /// `pulseaudio` or `alsa`.
    pub host: &'static str,
    /// Whether `mic` alone means this one.
    pub is_default: bool,
    /// Native form; `None` when the device is busy or refuses to say.
    pub format: Option<Format>,
    /// Native sample format (`i16`, `f32`, ...), empty when unknown.
    pub sample_format: String,
}

/// An open microphone.
pub struct Mic {
    name: String,
    host: &'static str,
    device: Device,
    config: SupportedStreamConfig,
}

impl Mic {
    /// Opens the default microphone, or the one with this stable name or a unique part of it.
    ///
    /// # Errors
    /// When there is no such device (the text lists what there is), or no sound server answers.
    pub fn open(name: Option<&str>) -> Result<Self, AudioError> {
        let wanted = name.map(str::to_owned);
        within_limit("look for microphones", move || {
            let devices = find_devices();
            let names: Vec<(&str, &str)> = devices
                .iter()
                .map(|device| (device.host, device.name.as_str()))
                .collect();
            let seen = *SERVER_SEEN.lock().unwrap_or_else(PoisonError::into_inner);
            if is_restarting(&names, wanted.as_deref(), seen.map(|seen| seen.elapsed())) {
                return Err(AudioError::Device(
                    "the sound server has gone; waiting for it to come back".to_owned(),
                ));
            }
            let found = choose(devices, wanted.as_deref())?;
            let config = found
                .device
                .default_input_config()
                .map_err(|error| device_error(&found.name, "does not say its format", &error))?;
            Ok(Mic {
                name: found.name,
                host: found.host,
                device: found.device,
                config,
            })
        })?
    }
}

/// All capture devices, the default one first.
///
/// # Errors
/// When a sound server does not answer in time; no devices at all is an empty list.
pub fn list() -> Result<Vec<DeviceInfo>, AudioError> {
    within_limit("list the capture devices", || {
        let mut devices: Vec<DeviceInfo> = find_devices().into_iter().map(Found::info).collect();
        devices.sort_by_key(|device| !device.is_default);
        devices
    })
}

impl Source for Mic {
    fn name(&self) -> &str {
        &self.name
    }

    fn format(&self) -> Format {
        format_of(&self.config)
    }

    fn start(self: Box<Self>, out: PcmWriter) -> Result<Box<dyn Running>, AudioError> {
        let name = self.name.clone();
        let host = self.host;
        let (faults_in, faults) = bounded(1);
        let (stop, stopped) = bounded::<()>(0);
        let (ready_in, ready) = bounded(1);
        let gone = Arc::new(AtomicBool::new(false));
        let callback = Callback::new(out, self.format(), Arc::clone(&gone));
        spawn("start the microphone", move || {
            let built = build(&self, callback, faults_in);
            let stream = match built.and_then(|stream| stream.play().map(|()| stream)) {
                Ok(stream) => stream,
                Err(error) => {
                    drop(ready_in.send(Err(device_error(&self.name, "cannot start", &error))));
                    return;
                }
            };
            drop(ready_in.send(Ok(())));
            // Nothing is ever sent: this returns when the running source is dropped, at once when
            // whoever started it has given up waiting.
            let _ = stopped.recv();
            drop(stream);
        })?;
        match ready.recv_timeout(ANSWER) {
            Ok(result) => result?,
            Err(_) => return Err(no_answer("start the microphone")),
        }
        Ok(Box::new(RunningMic {
            name,
            host,
            faults,
            gone,
            failed: None,
            _stop: stop,
        }))
    }
}

/// A microphone that runs; dropping it returns at once and the stream ends on its own thread.
struct RunningMic {
    name: String,
    host: &'static str,
    faults: Receiver<cpal::Error>,
    gone: Arc<AtomicBool>,
    failed: Option<AudioError>,
    _stop: Sender<()>,
}

impl Running for RunningMic {
    fn health(&mut self) -> Health {
        if self.failed.is_none() {
            if let Ok(error) = self.faults.try_recv() {
                self.failed = Some(device_error(&self.name, "has failed", &error));
            } else if self.gone.load(Ordering::Acquire) {
                self.failed = Some(AudioError::Device(format!(
                    "microphone '{}': the sound server has closed the stream",
                    self.name
                )));
            }
        }
        match &self.failed {
            Some(error) => Health::Failed(error.clone()),
            None => Health::Running,
        }
    }
}

impl Drop for RunningMic {
    fn drop(&mut self) {
        if self.host == PULSE_NAME {
            server_seen();
        }
    }
}

/// What the capture callback does: convert, mix, push. Real-time safe once made.
pub struct Callback {
    out: PcmWriter,
    scratch: Box<[f32]>,
    channels: usize,
    rate_hz: u32,
    /// Set when the device reports an overrun, taken by the next delivery.
    overrun: Arc<AtomicBool>,
    /// When the next delivery should begin by the device's clock.
    expected: Option<StreamInstant>,
    gone: Arc<AtomicBool>,
}

impl Callback {
    /// A callback that writes into `out`; `gone` becomes true when it is dropped.
    pub fn new(out: PcmWriter, format: Format, gone: Arc<AtomicBool>) -> Self {
        let channels = usize::from(format.channels.max(1));
        Callback {
            out,
            scratch: vec![0.0; SCRATCH.next_multiple_of(channels)].into_boxed_slice(),
            channels,
            rate_hz: format.rate_hz,
            overrun: Arc::new(AtomicBool::new(false)),
            expected: None,
            gone,
        }
    }

    /// Takes what the device delivers, interleaved. Real-time safe: no allocation, lock, log or
    /// system call.
    pub fn deliver<T: Copy>(&mut self, data: &[T])
    where
        f32: FromSample<T>,
    {
        for block in data.chunks(self.scratch.len()) {
            let converted = &mut self.scratch[..block.len()];
            for (out, &sample) in converted.iter_mut().zip(block) {
                *out = f32::from_sample_(sample);
            }
            self.out.write(converted);
        }
    }

    /// The same with the device's time of capture: after an overrun, the time that is missing since
    /// the last delivery is counted as lost, and one frame at least. Real-time safe.
    fn deliver_at<T: Copy>(&mut self, data: &[T], captured: StreamInstant)
    where
        f32: FromSample<T>,
    {
        if self.overrun.swap(false, Ordering::Relaxed) {
            let missing = self.expected.map_or(Duration::ZERO, |expected| {
                captured.saturating_duration_since(expected)
            });
            let frames = missing.as_secs_f64() * f64::from(self.rate_hz);
            self.out.lost((frames.round() as u64).max(1));
        }
        let frames = data.len() / self.channels;
        let length = Duration::from_secs_f64(frames as f64 / f64::from(self.rate_hz.max(1)));
        self.expected = captured.checked_add(length);
        self.deliver(data);
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Release);
    }
}

/// Builds the stream for the device's own sample format.
fn build(
    mic: &Mic,
    callback: Callback,
    faults: Sender<cpal::Error>,
) -> Result<Stream, cpal::Error> {
    let config = StreamConfig {
        buffer_size: buffer_size(&mic.config),
        ..mic.config.config()
    };
    let sample_format = mic.config.sample_format();
    let device = &mic.device;
    match sample_format {
        SampleFormat::I8 => build_for::<i8>(device, config, callback, faults),
        SampleFormat::I16 => build_for::<i16>(device, config, callback, faults),
        SampleFormat::I24 => build_for::<cpal::I24>(device, config, callback, faults),
        SampleFormat::I32 => build_for::<i32>(device, config, callback, faults),
        SampleFormat::I64 => build_for::<i64>(device, config, callback, faults),
        SampleFormat::U8 => build_for::<u8>(device, config, callback, faults),
        SampleFormat::U16 => build_for::<u16>(device, config, callback, faults),
        SampleFormat::U24 => build_for::<cpal::U24>(device, config, callback, faults),
        SampleFormat::U32 => build_for::<u32>(device, config, callback, faults),
        SampleFormat::U64 => build_for::<u64>(device, config, callback, faults),
        SampleFormat::F32 => build_for::<f32>(device, config, callback, faults),
        SampleFormat::F64 => build_for::<f64>(device, config, callback, faults),
        other => Err(cpal::Error::with_message(
            ErrorKind::UnsupportedConfig,
            format!("its sample format {other} is not supported"),
        )),
    }
}

fn build_for<T>(
    device: &Device,
    config: StreamConfig,
    mut callback: Callback,
    faults: Sender<cpal::Error>,
) -> Result<Stream, cpal::Error>
where
    T: SizedSample + 'static,
    f32: FromSample<T>,
{
    let overrun = Arc::clone(&callback.overrun);
    device.build_input_stream(
        config,
        move |data: &[T], info: &InputCallbackInfo| {
            callback.deliver_at(data, info.timestamp().capture);
        },
        move |error: cpal::Error| match error.kind() {
            ErrorKind::Xrun => overrun.store(true, Ordering::Relaxed),
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            // The first fault is enough; sending never waits.
            _ => drop(faults.try_send(error)),
        },
        Some(ANSWER),
    )
}

fn buffer_size(config: &SupportedStreamConfig) -> BufferSize {
    match *config.buffer_size() {
        SupportedBufferSize::Range { min, max } => {
            let wanted = f64::from(config.sample_rate()) * PERIOD.as_secs_f64();
            BufferSize::Fixed((wanted as u32).min(max).max(min))
        }
        SupportedBufferSize::Unknown => BufferSize::Default,
    }
}

fn format_of(config: &SupportedStreamConfig) -> Format {
    Format {
        rate_hz: config.sample_rate(),
        channels: config.channels(),
    }
}

/// A device that was found.
struct Found {
    name: String,
    description: String,
    host: &'static str,
    is_default: bool,
    device: Device,
}

impl Found {
    fn new(device: Device, host: &'static str) -> Option<Self> {
        let name = device.id().ok()?.id().to_owned();
        let description = device.description().map_or_else(
            |_| name.clone(),
            |description| description.name().to_owned(),
        );
        Some(Found {
            name,
            description,
            host,
            is_default: false,
            device,
        })
    }

    fn info(self) -> DeviceInfo {
        let config = self.device.default_input_config().ok();
        DeviceInfo {
            format: config.as_ref().map(format_of),
            sample_format: config
                .map(|config| config.sample_format().to_string())
                .unwrap_or_default(),
            name: self.name,
            description: self.description,
            host: self.host,
            is_default: self.is_default,
        }
    }
}

/// All capture devices of both hosts, at most one of them the default.
fn find_devices() -> Vec<Found> {
    let mut found = pulse_devices();
    found.extend(alsa_devices());
    // Where the server has no default source, or there is no server, ALSA's first device stands in.
    if !found.iter().any(|device| device.is_default)
        && let Some(first) = found.first_mut()
    {
        first.is_default = true;
    }
    found
}

/// The connection to the sound server, kept as long as the server lives: cpal's client leaves a thread
/// and three descriptors behind when it is dropped while the server lives.
static PULSE: Mutex<Option<cpal::Host>> = Mutex::new(None);

/// When the sound server was last seen with a device.
static SERVER_SEEN: Mutex<Option<Instant>> = Mutex::new(None);
/// How its devices are told apart from those of ALSA.
const PULSE_NAME: &str = "pulseaudio";

fn server_seen() {
    *SERVER_SEEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
}

/// Whether the sound server is away for a moment, judged by the (host, name) pairs of the devices that
/// are there and the time since it was seen. A device of ALSA that is asked for by its whole name is
/// not the server's business.
fn is_restarting(devices: &[(&str, &str)], wanted: Option<&str>, gone: Option<Duration>) -> bool {
    gone.is_some_and(|gone| gone < RESTART)
        && !devices
            .iter()
            .any(|(host, name)| *host == PULSE_NAME || Some(*name) == wanted)
}

fn pulse_devices() -> Vec<Found> {
    let mut kept = PULSE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut devices = kept.as_ref().and_then(|host| host.devices().ok());
    if devices.is_none() {
        *kept = cpal::host_from_id(HostId::PulseAudio).ok();
        devices = kept.as_ref().and_then(|host| host.devices().ok());
    }
    let default = kept
        .as_ref()
        .and_then(HostTrait::default_input_device)
        .and_then(|device| Found::new(device, PULSE_NAME))
        .map(|default| default.name);
    let mut found: Vec<Found> = devices
        .into_iter()
        .flatten()
        .filter(|device| {
            device
                .description()
                .is_ok_and(|description| description.supports_input())
        })
        .filter_map(|device| Found::new(device, PULSE_NAME))
        .collect();
    for device in &mut found {
        device.is_default = Some(&device.name) == default.as_ref();
    }
    if !found.is_empty() {
        server_seen();
    }
    found
}

fn alsa_devices() -> Vec<Found> {
    // ALSA complains on standard error when it is asked for devices that are not there.
    if !alsa_names::any_capture_device(PROC_ASOUND.as_ref()) {
        return Vec::new();
    }
    let Ok(host) = cpal::host_from_id(HostId::Alsa) else {
        return Vec::new();
    };
    let found: Vec<Found> = host
        .devices()
        .into_iter()
        .flatten()
        .filter_map(|device| Found::new(device, "alsa"))
        .collect();
    let names: Vec<&str> = found.iter().map(|device| device.name.as_str()).collect();
    let keep = alsa_names::stable(&names, PROC_ASOUND.as_ref());
    found
        .into_iter()
        .zip(keep)
        .filter_map(|(device, keep)| keep.then_some(device))
        .collect()
}

/// The default device, or the one that `wanted` names.
fn choose(found: Vec<Found>, wanted: Option<&str>) -> Result<Found, AudioError> {
    if found.is_empty() {
        return Err(AudioError::Device(
            "no microphone: no PulseAudio or PipeWire server with a source answers, and ALSA has no capture device; \
             start the sound server or connect a microphone, or give another source such as file:PATH"
                .to_owned(),
        ));
    }
    let names: Vec<(&str, &str)> = found
        .iter()
        .map(|device| (device.name.as_str(), device.description.as_str()))
        .collect();
    let index = match wanted {
        Some(wanted) => pick(&names, wanted)?,
        None => found
            .iter()
            .position(|device| device.is_default)
            .unwrap_or(0),
    };
    found
        .into_iter()
        .nth(index)
        .ok_or_else(|| AudioError::Device("no microphone".to_owned()))
}

/// Which of the (name, description) pairs is meant: the exact name, or the only one that contains
/// `wanted` in its name or description, in upper or lower case.
fn pick(devices: &[(&str, &str)], wanted: &str) -> Result<usize, AudioError> {
    if let Some(exact) = devices.iter().position(|(name, _)| *name == wanted) {
        return Ok(exact);
    }
    let part = wanted.to_lowercase();
    let matching: Vec<usize> = (0..devices.len())
        .filter(|&n| {
            let (name, description) = devices[n];
            name.to_lowercase().contains(&part) || description.to_lowercase().contains(&part)
        })
        .collect();
    let listed = |which: &[usize]| {
        let names: Vec<&str> = which.iter().map(|&n| devices[n].0).collect();
        names.join(", ")
    };
    match matching.as_slice() {
        [one] => Ok(*one),
        [] => {
            let all: Vec<usize> = (0..devices.len()).collect();
            Err(AudioError::Device(format!(
                "no microphone '{wanted}'; there are: {}",
                listed(&all)
            )))
        }
        several => Err(AudioError::Device(format!(
            "microphone '{wanted}' could be any of: {}; give more of its name",
            listed(several)
        ))),
    }
}

fn device_error(name: &str, what: &str, error: &cpal::Error) -> AudioError {
    let advice = match error.kind() {
        ErrorKind::DeviceBusy => "; another program may be using it",
        ErrorKind::PermissionDenied => "; give this user access to it (group 'audio')",
        ErrorKind::HostUnavailable => "; start the sound server",
        _ => "",
    };
    let error = error.to_string().replace('\n', " ");
    AudioError::Device(format!("microphone '{name}' {what}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::ring::{PcmReader, pcm_ring};

    const DEVICES: [(&str, &str); 3] = [
        ("alsa_input.usb-C270-00.mono", "Webcam C270 Mono"),
        ("alsa_input.pci-0000_00.analog-stereo", "Built-in Audio"),
        ("vsink.monitor", "Monitor of Null Output"),
    ];

    #[track_caller]
    fn check_pick(wanted: &str, expected: Result<usize, &str>) {
        match (pick(&DEVICES, wanted), expected) {
            (Ok(index), Ok(expected)) => assert_eq!(index, expected),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, expected) => panic!("{got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_server_that_restarts_is_waited_for() {
        let (alsa, pulse) = (("alsa", "hw:0"), (PULSE_NAME, "desk"));
        let soon = Some(Duration::from_secs(3));
        assert!(is_restarting(&[alsa], None, soon));
        assert!(is_restarting(&[], Some("desk"), soon));
        assert!(!is_restarting(&[alsa, pulse], None, soon), "it is back");
        assert!(!is_restarting(&[alsa], Some("hw:0"), soon), "asked for");
        assert!(
            !is_restarting(&[alsa], None, Some(RESTART)),
            "it stays away"
        );
        assert!(!is_restarting(&[alsa], None, None), "it never was there");
    }

    #[test]
    fn devices_are_found_by_name() {
        check_pick("vsink.monitor", Ok(2));
        check_pick("c270", Ok(0));
        check_pick("built-in", Ok(1));
        check_pick(
            "alsa_input",
            Err("could be any of: alsa_input.usb-C270-00.mono, alsa_input.pci"),
        );
        check_pick("nothing", Err("there are: alsa_input.usb-C270-00.mono, "));
    }

    fn callback(rate_hz: u32, channels: u16) -> (Callback, PcmReader) {
        let format = Format { rate_hz, channels };
        let (writer, reader) = pcm_ring(format, 1.0);
        (
            Callback::new(writer, format, Arc::new(AtomicBool::new(false))),
            reader,
        )
    }

    fn read_all(reader: &mut PcmReader) -> Vec<f32> {
        let mut out = Vec::new();
        reader.read(&mut out, usize::MAX);
        out
    }

    #[test]
    fn every_sample_format_has_the_same_scale() {
        let (mut callback, mut reader) = callback(16_000, 1);
        callback.deliver(&[i16::MIN, 0, i16::MAX / 2 + 1]);
        callback.deliver(&[0u8, 128, 192]);
        callback.deliver(&[i32::MIN, 0, i32::MAX / 2 + 1]);
        callback.deliver(&[-1.0f64, 0.0, 0.5]);
        callback.deliver(&[-1.0f32, 0.0, 0.5]);
        let expected = [-1.0, 0.0, 0.5].repeat(5);
        assert_eq!(read_all(&mut reader), expected);
    }

    #[test]
    fn an_overrun_counts_the_time_that_is_missing() {
        let at = |ms: u64| StreamInstant::from_nanos(ms * 1_000_000);
        let (mut callback, mut reader) = callback(48_000, 2);
        callback.deliver_at(&[0.5f32; 960], at(0));
        callback.deliver_at(&[0.5f32; 960], at(500));
        assert_eq!(reader.lost_frames(), 0, "a late delivery alone is no loss");
        callback.overrun.store(true, Ordering::Relaxed);
        callback.deliver_at(&[0.5f32; 960], at(610));
        assert_eq!(reader.lost_frames(), 4_800);
        let mut out = Vec::new();
        assert_eq!(reader.read(&mut out, usize::MAX).samples, 960);
        assert_eq!(reader.read(&mut out, usize::MAX).lost_before, 4_800);
    }

    #[test]
    fn the_end_of_the_callback_is_noticed() {
        let (callback, _reader) = callback(16_000, 1);
        let (_fault, faults) = bounded(1);
        let (stop, _stopped) = bounded(0);
        let mut running = RunningMic {
            host: "alsa",
            name: "m".to_owned(),
            faults,
            gone: Arc::clone(&callback.gone),
            failed: None,
            _stop: stop,
        };
        assert!(matches!(running.health(), Health::Running));
        drop(callback);
        for _ in 0..2 {
            assert!(matches!(running.health(), Health::Failed(_)));
        }
    }
}
