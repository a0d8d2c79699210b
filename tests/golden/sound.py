"""The sounds that the golden fixtures listen to: cuts of the project's own synthesised demo clip.

`make_all` writes them to audio/ as 16 bit FLAC; `read` gives one as float32, as hark decodes it.
Nothing in them is recorded. White noise, drawn with a fixed seed, lies under each, so that every
mel band of every front end has energy and no logarithm stands on a floor.
"""

import pathlib

import numpy as np
import scipy.signal
import soundfile

HERE = pathlib.Path(__file__).resolve().parent
AUDIO = HERE / "audio"
DEMO = HERE.parent.parent / "models" / "demo.flac"
DEMO_RATE_HZ = 16_000

# File name: rate in Hz, and for each channel where its cut of the demo clip starts and ends in seconds.
CLIPS = {
    "sounds16k.flac": (16_000, [(15.8, 26.04)]),
    "words16k.flac": (16_000, [(1.8, 6.8)]),
    "word16k.flac": (16_000, [(5.9, 6.9)]),
    "alarm48k.flac": (48_000, [(8.0, 9.0)]),
    "words48k.flac": (48_000, [(1.8, 8.8)]),
    "sounds48k.flac": (48_000, [(15.8, 27.8)]),
    "stereo48k.flac": (48_000, [(18.8, 20.3), (21.4, 22.9)]),
}

# Root mean square of the noise beneath: -50 dBFS. With less, the roundoff of a float32 FFT of the loud
# tones shows in the quiet bands, and torchaudio and NumPy differ by 1e-4 in AST's features.
NOISE_RMS = 3e-3


def make_all():
    """Writes every clip anew."""
    demo, rate_hz = soundfile.read(DEMO, dtype="float64")
    if rate_hz != DEMO_RATE_HZ or demo.ndim != 1:
        raise SystemExit(f"{DEMO}: expected {DEMO_RATE_HZ} Hz mono, got {rate_hz} Hz, {demo.shape}")
    AUDIO.mkdir(exist_ok=True)
    for number, (name, (rate_hz, cuts)) in enumerate(CLIPS.items()):
        noise = np.random.default_rng(number)
        channels = []
        for start_s, end_s in cuts:
            cut = demo[round(start_s * DEMO_RATE_HZ) : round(end_s * DEMO_RATE_HZ)]
            cut = scipy.signal.resample_poly(cut, rate_hz // DEMO_RATE_HZ, 1)
            channels.append(cut + NOISE_RMS * noise.standard_normal(len(cut)))
        pcm = np.clip(np.round(np.stack(channels, axis=1) * 32768.0), -32768, 32767)
        soundfile.write(AUDIO / name, pcm.astype(np.int16), rate_hz, subtype="PCM_16")


def read(name):
    """The mono clip `name` as float32 in [-1, 1)."""
    pcm, _ = soundfile.read(AUDIO / name, dtype="float32")
    return pcm


def rate_hz(name):
    """The sample rate of the clip `name`."""
    return CLIPS[name][0]
