"""Writes expected.safetensors: float32 tensors, and metadata that says what they came from.

The file is written here rather than by the safetensors library, whose order of metadata changes
from run to run: the same values give the same bytes.
"""

import json
import struct

import numpy as np

from reference import VERSIONS


class Expected:
    """What a case expects, collected key by key."""

    def __init__(self, clips=()):
        """`clips` are the files in audio/ that the case listens to; the layers are kept of the first."""
        self.tensors = {}
        self.metadata = dict(VERSIONS)
        if clips:
            self.note("audio", clips[0])
            self.note("clips", list(clips))

    def note(self, key, value):
        """One more line of metadata; values that are not text are written as JSON."""
        self.metadata[key] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)

    def add(self, key, value, axis=None, stride=1):
        """One more tensor. With `stride`, index 0, stride, 2 stride ... of `axis` alone is kept,
        which the metadata tells as `<key>.stride`, `<key>.axis` and `<key>.length` (before)."""
        value = np.asarray(value, dtype=np.float32)
        if stride > 1:
            self.note(f"{key}.stride", stride)
            self.note(f"{key}.axis", axis % value.ndim)
            self.note(f"{key}.length", value.shape[axis])
            value = np.take(value, np.arange(0, value.shape[axis], stride), axis=axis)
        if not np.isfinite(value).all():
            raise SystemExit(f"{key}: not finite")
        if key in self.tensors:
            raise SystemExit(f"{key}: added twice")
        self.tensors[key] = np.ascontiguousarray(value)

    def add_layers(self, clip, layers, strides):
        """Adds each of `layers` as `<key>/<clip>`, thinned by `strides`, key: (axis, stride), where
        `hidden` stands for `hidden.0`, `hidden.1` and so on."""
        for key, value in layers.items():
            axis, stride = strides.get(key, strides.get(key.split(".")[0], (0, 1)))
            self.add(f"{key}/{clip}", value, axis, stride)

    def write(self, path):
        """Writes all of it in the order of the keys."""
        header, offset = {"__metadata__": self.metadata}, 0
        for key in sorted(self.tensors):
            tensor = self.tensors[key]
            end = offset + tensor.nbytes
            header[key] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, sort_keys=True).encode()
        text += b" " * (-len(text) % 8)
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for key in sorted(self.tensors):
                file.write(self.tensors[key].tobytes())
