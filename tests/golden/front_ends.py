"""What the published feature extractors give: every front end with its published settings.

Keys are `<front end>.<variant>/<clip>`; the metadata names `<key>.audio` and `<key>.settings`, the
preprocessor configuration as JSON, next to the stride.
"""

import numpy as np
import torch

from reference import transformers
from sound import rate_hz, read
from store import Expected

# MIT/ast-finetuned-audioset-10-10-0.4593 and MIT/ast-finetuned-speech-commands-v2.
AST_EVENT = {"max_length": 1024, "mean": -4.2677393, "std": 4.5689974}
AST_KEYWORD = {"max_length": 128, "mean": -6.845978, "std": 5.5654526}


def settings_of(extractor):
    """The configuration of an extractor without the tables that follow from it."""
    return {
        key: value
        for key, value in extractor.to_dict().items()
        if not isinstance(value, np.ndarray) and key not in ("mel_filters", "mel_filters_slaney", "window")
    }


def start(expected, key, clip, settings):
    expected.note(f"{key}.audio", clip)
    expected.note(f"{key}.settings", settings)


def ast(expected):
    variants = {
        "ast.1024": (AST_EVENT, ["sounds16k.flac", "word16k.flac"]),
        "ast.128": (AST_KEYWORD, ["word16k.flac", "words16k.flac"]),
        "ast.plain": ({"max_length": 512, "do_normalize": False}, ["words16k.flac"]),
    }
    for variant, (settings, clips) in variants.items():
        extractor = transformers.ASTFeatureExtractor(**settings)
        for clip in clips:
            key = f"{variant}/{clip}"
            start(expected, key, clip, settings_of(extractor))
            features = extractor(read(clip), sampling_rate=rate_hz(clip), return_tensors="np")["input_values"][0]
            expected.add(key, features, axis=0, stride=11 if len(features) > 128 else 3)


def whisper(expected):
    for mels in (80, 128):
        extractor = transformers.WhisperFeatureExtractor(feature_size=mels)
        for clip in ("words16k.flac", "sounds16k.flac"):
            key = f"whisper.{mels}/{clip}"
            start(expected, key, clip, settings_of(extractor))
            features = extractor(read(clip), sampling_rate=rate_hz(clip), return_tensors="np")["input_features"][0]
            expected.add(key, features, axis=1, stride=37)


def wav2vec2(expected):
    for do_normalize in (True, False):
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=do_normalize)
        key = f"wav2vec2.{'normalized' if do_normalize else 'raw'}/word16k.flac"
        start(expected, key, "word16k.flac", settings_of(extractor))
        values = extractor(read("word16k.flac"), sampling_rate=16_000, return_tensors="np")["input_values"][0]
        expected.add(key, values, axis=0, stride=17)


def clap(expected):
    variants = [
        ("rand_trunc", "repeatpad", "alarm48k.flac"),
        ("rand_trunc", "repeatpad", "words48k.flac"),
        ("rand_trunc", "repeat", "words48k.flac"),
        ("rand_trunc", "pad", "words48k.flac"),
        ("rand_trunc", "repeatpad", "sounds48k.flac"),
        ("fusion", "repeatpad", "words48k.flac"),
        ("fusion", "repeatpad", "sounds48k.flac"),
    ]
    for truncation, padding, clip in variants:
        extractor = transformers.ClapFeatureExtractor(truncation=truncation, padding=padding)
        clap_features(expected, f"clap.{truncation}.{padding}/{clip}", extractor, clip)
    # laion/clap-htsat-unfused and laion/larger_clap_general start their lowest band at 50 Hz.
    for truncation in ("rand_trunc", "fusion"):
        extractor = transformers.ClapFeatureExtractor(truncation=truncation, frequency_min=50)
        clap_features(expected, f"clap.{truncation}.50hz/alarm48k.flac", extractor, "alarm48k.flac")


def clap_features(expected, key, extractor, clip):
    start(expected, key, clip, settings_of(extractor))
    for name, value in chosen_chunks(extractor, read(clip)).items():
        expected.note(f"{key}.{name}", value)
    features = extractor(read(clip), sampling_rate=48_000, return_tensors="np")
    expected.note(f"{key}.is_longer", bool(features["is_longer"][0][0]))
    # All four of the fusion's channels are one mel where the clip is no longer than 10 s.
    mel = features["input_features"][0]
    expected.add(key, mel if clip == "sounds48k.flac" else mel[:1], axis=1, stride=19)


def chosen_chunks(extractor, pcm, seed=3):
    """What the extractor is going to draw for `pcm`, after which numpy stands at `seed` again.

    `start_sample` where rand_trunc cuts; `chunk_frames` where fusion starts its front, middle and
    back; nothing for a clip that fits.
    """
    np.random.seed(seed)
    overflow = len(pcm) - extractor.nb_max_samples
    if overflow <= 0:
        return {}
    if extractor.truncation == "rand_trunc":
        chosen = {"start_sample": int(np.random.randint(0, overflow + 1))}
    else:
        frames = 1 + len(pcm) // extractor.hop_length
        chunk = 1 + extractor.nb_max_samples // extractor.hop_length
        thirds = np.array_split(list(range(0, frames - chunk + 1)), 3)
        chosen = {"chunk_frames": [int(np.random.choice(third)) for third in thirds]}
    np.random.seed(seed)
    return chosen


def speechbrain(expected):
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization

    settings = {"n_mels": 80, "norm_type": "sentence", "std_norm": False}
    fbank = Fbank(n_mels=80)
    normalize = InputNormalization(norm_type="sentence", std_norm=False)
    for clip in ("word16k.flac", "words16k.flac"):
        pcm = torch.from_numpy(read(clip))[None]
        features = fbank(pcm)
        for variant, value in (("fbank", features), ("normalized", normalize(features, torch.ones(1)))):
            key = f"speechbrain.{variant}/{clip}"
            start(expected, key, clip, settings)
            expected.add(key, value[0], axis=0, stride=5)


def make(directory):
    expected = Expected()
    for front_end in (ast, whisper, wav2vec2, clap, speechbrain):
        front_end(expected)
    expected.write(directory / "expected.safetensors")
