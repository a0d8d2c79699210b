#!/usr/bin/env python3
"""Makes fixtures/pickle: files of torch.save in every form that is read, and some that must not be.

What they hold is written down in src/nn/params/torch.rs, which reads them.
"""

import os
import pathlib
import zipfile

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent / "fixtures" / "pickle"


class Hostile:
    """Runs a command where it is unpickled by a reader that calls what it is told to."""

    def __reduce__(self):
        return os.system, ("echo run > /tmp/hark-was-here",)


def content():
    """A training checkpoint: a state dict in a dict, with all widths, a view and a shared storage."""
    counts = torch.arange(6.0).reshape(2, 3)
    model = torch.nn.Sequential()
    model.register_parameter("weight", torch.nn.Parameter(counts))
    model.register_buffer("steps", torch.tensor(7))
    state = model.state_dict()
    state["turned"] = counts.t()
    state["tail"] = counts[1, 1:]
    state["half"] = torch.tensor([0.25, -2.0], dtype=torch.float16)
    state["brain"] = torch.tensor([[-3.0]], dtype=torch.bfloat16)
    state["wide"] = torch.tensor(7.5, dtype=torch.float64)
    state["none"] = torch.zeros(0, 4)
    return {
        "state_dict": state,
        "parameter": model.weight,
        "epoch": 3,
        "loss": 0.5,
        "best": np.float32(0.1),
        "size": torch.Size([2, 3]),
        "names": ["a", None, True, 1 << 40],
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.save(content(), OUT / "zip.bin")
    torch.save(content(), OUT / "protocol4.bin", pickle_protocol=4)
    torch.save(content(), OUT / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.ones(2), "more": Hostile()}, OUT / "hostile.bin")
    torch.save({"more": Hostile()}, OUT / "hostile-legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": torch.ones(1).expand(1000)}, OUT / "repeated.bin")
    torch.save({"a": torch.ones(2)}, OUT / "a.bin")
    with zipfile.ZipFile(OUT / "a.bin") as whole, zipfile.ZipFile(
            OUT / "compressed.bin", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    (OUT / "a.bin").unlink()


main()
