#!/usr/bin/env python3
"""Teacher co-process: scores windows of sound with a TensorFlow Lite model for `hark train`.

    teacher.py MODEL.tflite

The trainer starts it, writes windows to its standard input and reads scores from its standard
output; all numbers are little-endian.

* At the start the script writes one line of JSON:
  {"model": "yamnet.tflite", "samples": 16000, "sha256": "...",
   "outputs": [{"name": "scores", "dim": 521}, {"name": "embedding", "dim": 1024}]}
* Then, until end of file: it reads a u32 `n` and n windows of `samples` f32 (16 kHz mono, full
  scale 1.0), and writes for every window the outputs one after the other as f32. It writes only
  after it has read all n windows, so a caller that writes a batch and then reads cannot deadlock.

Two models are known, told apart by their input: a waveform of any length (YAMNet: the mean over
the frames inside the window of its 521 sigmoid scores and of its 1024-dimensional embedding) and a
waveform of 16000 samples (KWT-1, which has its MFCC front end inside: the softmax over its
twelve labels, and the logits before it). One thread, so that a run repeats bit for bit.
"""

import hashlib
import json
import os
import struct
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SAMPLES = 16_000


class Teacher:
    """A model with its outputs; `score` takes one window of SAMPLES f32."""

    def __init__(self, path):
        self.path = path
        self.net = Interpreter(model_path=path, num_threads=1)
        self.input = self.net.get_input_details()[0]
        self.out = self.net.get_output_details()
        signature = list(self.input["shape_signature"])
        if signature == [-1]:
            self.net.resize_tensor_input(self.input["index"], [SAMPLES])
            self.shape, self.kind = (SAMPLES,), "yamnet"
            self.outputs = [("scores", 521), ("embedding", 1024)]
        elif signature == [1, SAMPLES]:
            self.shape, self.kind = (1, SAMPLES), "kwt1"
            dim = int(self.out[0]["shape"][-1])
            self.outputs = [("scores", dim), ("logits", dim)]
        else:
            raise SystemExit(f"teacher.py: {path}: input of shape {signature} is not known: "
                             f"expected [-1] (YAMNet) or [1, {SAMPLES}] (KWT-1)")
        self.net.allocate_tensors()

    def header(self):
        with open(self.path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return {
            "model": os.path.basename(self.path),
            "samples": SAMPLES,
            "sha256": digest,
            "outputs": [{"name": name, "dim": dim} for name, dim in self.outputs],
        }

    def score(self, window):
        """The outputs of one window, concatenated: f32 of the sum of the dims."""
        window = np.ascontiguousarray(window, dtype=np.float32).reshape(self.shape)
        self.net.set_tensor(self.input["index"], window)
        self.net.invoke()
        if self.kind == "yamnet":
            scores, embedding = (self.net.get_tensor(d["index"]).mean(0) for d in self.out[:2])
            return np.concatenate([scores, embedding]).astype("<f4")
        logits = self.net.get_tensor(self.out[0]["index"])[0].astype(np.float64)
        scores = np.exp(logits - logits.max())
        return np.concatenate([scores / scores.sum(), logits]).astype("<f4")


def read_exactly(stream, size):
    """`size` bytes, or None where the stream has ended before."""
    parts = []
    while size > 0:
        part = stream.read(size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve(teacher, source, sink):
    sink.write((json.dumps(teacher.header()) + "\n").encode())
    sink.flush()
    while (head := read_exactly(source, 4)) is not None:
        (count,) = struct.unpack("<I", head)
        data = read_exactly(source, count * SAMPLES * 4)
        if data is None:
            raise SystemExit("teacher.py: input ended inside a window")
        windows = np.frombuffer(data, "<f4").reshape(count, SAMPLES)
        sink.write(b"".join(teacher.score(window).tobytes() for window in windows))
        sink.flush()


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: teacher.py MODEL.tflite")
    # TensorFlow Lite may print to standard output, which belongs to the protocol.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(Teacher(sys.argv[1]), sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
