"""What the zero-shot-audio-classification pipeline gives for clips of one second to a minute, mono and
stereo, on the tiny checkpoints of CLAP: the numbers that `hark score --json` must print.

The clips are made by formula from whole numbers, here and in zero_shot.rs, so that no sound is kept.

The pipeline takes one channel: an array of two is refused (`ValueError: We expect a single channel audio
input`), and files go through `ffmpeg -ac 1 -f f32le`, which for floats adds the channels times 0.7071. That
is the mean, 3 dB louder. hark takes the mean, as librosa does, and that is what the pipeline is given here.

The extractor draws at random where a clip of more than ten seconds is cut. Here it draws what hark takes:
the middle of all places, and with fusion that of each third.
"""

from unittest import mock

import numpy as np

from reference import transformers
from store import Expected

RATE_HZ = 48_000
SECONDS = [1, 3, 7, 10, 10.5, 15, 30, 60]
CHECKPOINTS = ["clap-unfused", "clap-unfused-old", "clap-fused"]
PROMPTS = ["a dog barking", "rain", "a smoke alarm", "somebody speaking in the kitchen", "glass that shatters"]


def clip(seconds, channel):
    """A tone that changes with every second over noise, as 16-bit samples."""
    n = np.arange(int(seconds * RATE_HZ), dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    x = (n * np.uint64(2654435761) + np.uint64(channel * 97)) & mask
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(2246822519)) & mask
    x ^= x >> np.uint64(13)
    noise = (x >> np.uint64(16)).astype(np.int64) - 32768
    second = n // np.uint64(RATE_HZ)
    hertz = np.uint64(110) * (second * np.uint64(5 + 2 * channel) % np.uint64(17) + np.uint64(1))
    # A turn is 2^32; a hertz is 89478 of that a sample.
    phase = (n * hertz * np.uint64(89478)) & mask
    saw = (phase >> np.uint64(16)).astype(np.int64) - 32768
    quieter = (second % np.uint64(3)).astype(np.int64) + 1
    return ((noise >> 5) + (saw >> quieter)).astype(np.int16)


def middle_of_places():
    """Puts the middle in the place of what the extractor would draw."""
    return mock.patch.multiple(
        np.random,
        randint=lambda low, high: (low + high - 1) // 2,
        choice=lambda places: places[(len(places) - 1) // 2],
    )


def make(directory):
    expected = Expected()
    expected.note("prompts", PROMPTS)
    with middle_of_places():
        for checkpoint in CHECKPOINTS:
            listen(expected, checkpoint, str(directory.parent / checkpoint))
    expected.write(directory / "expected.safetensors")


def listen(expected, checkpoint, model):
    pipeline = transformers.pipeline("zero-shot-audio-classification", model=model, device="cpu")
    for seconds in SECONDS:
        for channels in (1, 2):
            pcm = np.stack([clip(seconds, channel) for channel in range(channels)])
            mono = (pcm.astype(np.float32) / np.float32(32768)).mean(axis=0, dtype=np.float32)
            scores = {entry["label"]: entry["score"] for entry in pipeline(mono, candidate_labels=PROMPTS)}
            expected.add(f"scores/{checkpoint}/{channels}/{seconds}", [scores[prompt] for prompt in PROMPTS])
