#!/usr/bin/env python3
"""YAMNet here and in LiteRT, the same file on the same sound, one thread each, in one run.

    cargo build --release --example time_model
    yamnet.py target/release/examples/time_model YAMNET.tflite

Both are the best of five rounds, LiteRT before and after ours, so that all see the same machine.
Packages: models/teachers/requirements.txt.
"""

import json
import os
import subprocess
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SAMPLES = 15_600
ROUNDS = 5
ROUND_S = 0.3


def litert(path):
    """Milliseconds of a window in the best round."""
    net = Interpreter(model_path=path, num_threads=1)
    at = net.get_input_details()[0]["index"]
    scores = net.get_output_details()[0]["index"]
    net.resize_tensor_input(at, [SAMPLES])
    net.allocate_tensors()
    sound = np.random.default_rng(1).uniform(-0.1, 0.1, SAMPLES).astype(np.float32)
    best = float("inf")
    for _ in range(ROUNDS):
        began, windows = time.perf_counter(), 0
        while time.perf_counter() - began < ROUND_S:
            net.set_tensor(at, sound)
            net.invoke()
            net.get_tensor(scores)
            windows += 1
        best = min(best, (time.perf_counter() - began) * 1e3 / windows)
    return best


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: yamnet.py TIME_MODEL YAMNET.tflite")
    program, model = sys.argv[1:]
    before = litert(model)
    one_thread = {**os.environ, "RAYON_NUM_THREADS": "1"}
    timed = subprocess.run([program, model, "0.975"], capture_output=True, text=True, check=True, env=one_thread)
    after = litert(model)
    ours = json.loads(timed.stdout)["best_ms"]
    theirs = min(before, after)
    print(f"YAMNet in LiteRT, one thread: {theirs:.2f} ms a window (before {before:.2f}, after {after:.2f})")
    print(f"YAMNet in harkd, one thread:  {ours:.2f} ms a window, {theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    main()
