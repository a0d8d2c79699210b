"""Tiny checkpoints with random weights, in the layouts that are found on the hub.

`save` writes what `save_pretrained` writes; the functions after it turn that into the older and
larger layouts: a pickle, several shards, configurations without their optional keys.
"""

import collections
import json
import zlib

import numpy as np
import torch
from safetensors.torch import load_file, save_file

# Between the names that torch gives a weight-normalised convolution and those of checkpoints from
# before torch 2.1, which most published ones are.
WEIGHT_NORM = {
    "parametrizations.weight.original0": "weight_g",
    "parametrizations.weight.original1": "weight_v",
}

# What a random classifier is called; its logits are spread wider than the rest, so that scores differ.
HEADS = ("classifier.weight", "classifier.dense.weight")

# Parameters that are looked up or added, not multiplied with.
TABLES = ("token", "position_embeddings", "embed_positions.weight", "rel_attn_embed.weight", "masked_spec_embed",
          "relative_position_bias_table")


def randomize(model, seed=0):
    """Gives every parameter and buffer of `model` random values that keep activations near one.

    No value is what it would be by default: a bias or a norm that an implementation drops shows.
    Each tensor is drawn by itself, from `seed` and its name.
    """
    state = dict(model.named_parameters())
    state.update(dict(model.named_buffers()))
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
        noise = torch.from_numpy(draw.standard_normal(tuple(tensor.shape))).to(tensor.dtype)
        tensor.data.copy_(values_for(name, tensor, noise))
    return model.eval()


def values_for(name, tensor, noise):
    """Standard normal `noise`, scaled for the parameter `name`."""
    if name.endswith("running_var"):
        return 1.0 + 0.3 * noise.abs()
    if name.endswith("running_mean"):
        return 0.3 * noise
    if name.endswith("original0"):
        return 0.5 + 0.1 * noise.abs()
    if name.endswith("layer_weights"):
        return noise
    if name.endswith("gru_rel_pos_const"):
        return 1.0 + 0.3 * noise
    if tensor.ndim <= 1:
        return 1.0 + 0.2 * noise if name.endswith("weight") else 0.2 * noise
    if name.endswith(HEADS):
        return 2.0 * noise / tensor[0].numel() ** 0.5
    if name.endswith(TABLES) or ("embeddings." in name and "projection" not in name):
        return 0.5 * noise
    return 1.2 * noise / tensor[0].numel() ** 0.5


def save(directory, model, *processors):
    """Writes the model and its feature extractor or processor as transformers does today."""
    model.save_pretrained(directory)
    for processor in processors:
        processor.save_pretrained(directory)


def edit_json(path, drop=(), put=None):
    """Takes keys out of a JSON file and puts others in."""
    value = json.loads(path.read_text())
    for key in drop:
        value.pop(key, None)
    value.update(put or {})
    path.write_text(json.dumps(value, indent=2) + "\n")


def rename_keys(state, names):
    """The same tensors, with each part of a key that `names` knows replaced."""
    renamed = {}
    for key, tensor in state.items():
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


def to_old_keys(directory):
    """Names weight-normalised convolutions as before torch 2.1."""
    path = directory / "model.safetensors"
    save_file(rename_keys(load_file(path), WEIGHT_NORM), path, metadata={"format": "pt"})


def to_pickle(directory):
    """Replaces model.safetensors by pytorch_model.bin, with the keys of its time."""
    path = directory / "model.safetensors"
    state = collections.OrderedDict(rename_keys(load_file(path), WEIGHT_NORM))
    # What a module's state_dict carries along, and a reader has to step over.
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    torch.save(state, directory / "pytorch_model.bin")
    path.unlink()


def to_shards(directory, model, shard_size):
    """Writes the model anew as shards of at most `shard_size` with an index."""
    (directory / "model.safetensors").unlink()
    model.save_pretrained(directory, max_shard_size=shard_size)
