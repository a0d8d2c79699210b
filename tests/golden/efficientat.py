#!/usr/bin/env python3
"""Makes fixtures/efficientat-*: what EfficientAT computes with weights that both sides draw.

    efficientat.py CHECKOUT

CHECKOUT is a work tree of github.com/fschmid56/EfficientAT at COMMIT, which is in no package index;
generate.py therefore does not run this. No weights are stored but the statistics of the batch norms,
which are those of the first clip, as training would leave them: each value follows from the key of
its tensor and its place in it (`draw`), and `draw` of efficientat.rs gives the same.
"""

import io
import contextlib
import os
import pathlib
import sys
import types

import numpy as np

import reference
import torch
from sound import read
from store import Expected

COMMIT = "a425fdce92572e602a1d5634799bd9f1f2efa806"
FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
# Taken as if at 32 kHz: what is compared is numbers. Once whole, once without its beginning.
CLIP = "words16k.flac"
TAIL = 30_000
GOLDEN_RATIO = 0x9E3779B97F4A7C15


def fnv1a(key):
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in key.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def uniform(key, count):
    """`count` numbers between -1 and 1: SplitMix64 from the key's hash, the upper 24 bits."""
    state = np.uint64(fnv1a(key)) + np.uint64(GOLDEN_RATIO) * np.arange(1, count + 1, dtype=np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = (state ^ (state >> np.uint64(31))) >> np.uint64(40)
    return (state.astype(np.float64) / 2.0**23 - 1.0).astype(np.float32)


def draw(key, shape):
    """The values of a tensor that is no statistic."""
    values = uniform(key, int(np.prod(shape)))
    if key.endswith(".bias"):
        values = np.float32(0.1) * values
    elif len(shape) == 1:
        values = 1.0 + np.float32(0.25) * values
    else:
        # A dynamic convolution, (1, 1, kernels, values), does not say its fan: about what fits.
        fan = int(np.prod(shape[1:])) if shape[0] > 1 else 16
        values = np.float32(1.5 / np.sqrt(np.float64(fan))) * values
    return torch.from_numpy(values.reshape(shape))


def conv_norm_activation(inputs, outputs, kernel_size=3, stride=1, padding=None, groups=1,
                         norm_layer=None, activation_layer=None, dilation=1):
    """What torchvision's ConvNormActivation makes, which is not worth a dependency."""
    padding = (kernel_size - 1) // 2 * dilation if padding is None else padding
    layers = [torch.nn.Conv2d(inputs, outputs, kernel_size, stride, padding, dilation, groups, bias=False)]
    layers += [norm_layer(outputs)] if norm_layer else []
    layers += [activation_layer(inplace=True)] if activation_layer else []
    return torch.nn.Sequential(*layers)


def stand_in():
    """Puts the one function of torchvision that is needed where it is looked for."""
    misc = types.ModuleType("torchvision.ops.misc")
    misc.ConvNormActivation = conv_norm_activation
    for name, module in {"torchvision": types.ModuleType("torchvision"),
                         "torchvision.ops": types.ModuleType("torchvision.ops"),
                         "torchvision.ops.misc": misc}.items():
        sys.modules[name] = module


def features(front, pcm):
    """`front` with the transform's complex numbers as pairs, which torch 2.15 no longer gives."""
    stft = torch.stft
    torch.stft = lambda *args, return_complex, **more: torch.view_as_real(
        stft(*args, return_complex=True, **more))
    try:
        return front(pcm)
    finally:
        torch.stft = stft


def settle(model, mel, share):
    """Puts the statistics of one input into the batch norms, with `share` of the mean variance added."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        elif isinstance(module, torch.nn.Dropout):
            module.eval()
    model(mel)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # A channel that is all but silent here would be far too loud elsewhere.
            module.running_var += share * module.running_var.mean()
    model.eval()


def make(name, model, front):
    state = model.state_dict()
    shapes = {}
    for key, value in state.items():
        if value.dtype != torch.float32 or key.endswith(("lambdas", "init_v")):
            continue
        shapes[key] = list(value.shape)
        if not key.endswith(("running_mean", "running_var")):
            state[key] = draw(key, shapes[key])
    model.load_state_dict(state)
    settle(model, features(front, torch.from_numpy(read(CLIP))[None])[None], 0.4 if "dy" in name else 0.1)
    expected = Expected([CLIP])
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var", "lambdas", "init_v")):
            expected.add(f"weight.{key}", value)
    expected.note("commit", COMMIT)
    expected.note("tensors", shapes)
    pcm = torch.from_numpy(read(CLIP))[None]
    mel = features(front, pcm)
    if name == "mn04":
        expected.add("mel", mel[0], 1, 10)
    logits, maps = model._forward_impl(mel[None], return_fmaps=True)
    for index in range(0, len(maps), 4):
        step = maps[index][0].numel() // 1000
        expected.add(f"map.{index}", maps[index][0].reshape(-1), 0, step)
    expected.add("logits", logits[0])
    logits, _ = model(features(front, pcm[:, TAIL:])[None])
    expected.add("logits.tail", logits[0])
    directory = FIXTURES / f"efficientat-{name}"
    directory.mkdir(parents=True, exist_ok=True)
    expected.write(directory / "expected.safetensors")


def main():
    checkout = pathlib.Path(sys.argv[1]).resolve()
    stand_in()
    sys.path.insert(0, str(checkout))
    os.chdir(checkout)
    with contextlib.redirect_stdout(io.StringIO()):
        from models.dymn.model import get_model as dymn
        from models.mn.model import get_model as mn
        from models.preprocess import AugmentMelSTFT
        front = AugmentMelSTFT(freqm=0, timem=0).eval()
        models = {
            "mn04": mn(width_mult=0.4),
            "mn01-fc": mn(width_mult=0.1, num_classes=10, head_type="fully_convolutional"),
            "dymn04": dymn(width_mult=0.4, pretrain_final_temp=1.0, pretrained_name=None, T_max=1.0),
            "dymn04-replace-se": dymn(width_mult=0.4, num_classes=50, T_max=1.0, use_dy_blocks="replace_se"),
        }
    for name, model in models.items():
        make(name, model, front)


main()
