"""The contrastive loss of CLAP and the gradient of every parameter, on the checkpoints of two other cases.

The features are made of whole numbers, by a hash that both sides compute, so that none is stored.
"""

import numpy as np
import torch

from clap_family import PROMPTS
from reference import transformers
from store import Expected

CLIPS = 4
FRAMES = 250
MELS = 64
# Which clips have chunks to be fused with the whole.
IS_LONGER = [True, False, True, True]
# As many values of a gradient are kept as this at most; the norm tells of the others.
KEPT = 256


def hashed(numbers):
    """Whole numbers of 32 bits to values from -1 to 1 that know nothing of each other."""
    mixed = numbers.astype(np.uint64)
    for multiplier in (0x85EBCA6B, 0xC2B2AE35):
        mixed ^= mixed >> np.uint64(16)
        mixed = mixed * np.uint64(multiplier) & np.uint64(0xFFFFFFFF)
    mixed ^= mixed >> np.uint64(16)
    return mixed.astype(np.float64) / 2**31 - 1.0


def features(views):
    """Decibels `(clips, views, frames, mels)`: bands of 8 mels that tell the clips apart, or a gradient would
    be what is left of larger ones, blocks of 25 frames in them, and noise."""
    clip, view, frame, mel = np.meshgrid(*map(np.arange, (CLIPS, views, FRAMES, MELS)), indexing="ij")
    sound = clip * views + view + 1
    bands = hashed(2_000_000 + sound * 8 + mel // 8)
    blocks = hashed(sound * 1000 + frame // 25 * 8 + mel // 8)
    noise = hashed(1_000_000 + (sound * FRAMES + frame) * MELS + mel)
    return torch.from_numpy((-35.0 + 20.0 * bands + 10.0 * blocks + 6.0 * noise).astype(np.float32))


def add(expected, directory, case, training):
    """Loss and gradients of one checkpoint as `<case>/...`, those of batch statistics as
    `<case>-training/...` with what the batch has left of the running ones."""
    config = transformers.ClapConfig.from_pretrained(directory)
    for part in (config.audio_config, config.text_config):
        part.hidden_dropout_prob = part.attention_probs_dropout_prob = 0.0
    model = transformers.ClapModel.from_pretrained(directory, config=config).train(training)
    vocabulary = transformers.AutoTokenizer.from_pretrained(directory)
    fused = config.audio_config.enable_fusion
    text = vocabulary(PROMPTS[:CLIPS], return_tensors="pt", padding=True)
    name = f"{case}-training" if training else case
    with torch.enable_grad():
        output = model(**text, input_features=features(4 if fused else 1),
                       is_longer=torch.tensor(IS_LONGER)[:, None], return_loss=True)
        output.loss.backward()
    expected.add(f"{name}/loss", output.loss.detach())
    expected.add(f"{name}/logits", output.logits_per_text.detach())
    gradients = {key: parameter.grad for key, parameter in sorted(model.named_parameters())}
    missing = [key for key, gradient in gradients.items() if gradient is None]
    if missing:
        raise SystemExit(f"{name}: no gradient of {missing}")
    expected.note(f"{name}.keys", list(gradients))
    expected.add(f"{name}/norms", [gradient.norm() for gradient in gradients.values()])
    expected.add(f"{name}/largest", [gradient.abs().max() for gradient in gradients.values()])
    for key, gradient in gradients.items():
        expected.add(f"{name}/gradient/{key}", gradient.flatten(), 0, -(-gradient.numel() // KEPT))
    if training:
        for key, value in model.named_buffers():
            if key.endswith(("running_mean", "running_var")):
                expected.add(f"{name}/{key}", value)


def make(directory):
    expected = Expected()
    expected.note("prompts", PROMPTS[:CLIPS])
    expected.note("is_longer", IS_LONGER)
    for case, training in (("clap-fused", False), ("clap-fused", True), ("clap-unfused", False)):
        add(expected, directory.parent / case, case, training)
    expected.write(directory / "expected.safetensors")


CASES = {"clap-gradients": make}
