#!/usr/bin/env python3
"""What listening costs beside a peer, in one run on one machine.

    listen.py HARK YAMNET.tflite

Times YAMNet in LiteRT on one thread (one 0.975 s window, as its own streaming example takes them)
and runs `hark bench --json` between two such timings, so that both see the same machine. Prints the
median time of a window of either model and their ratio. Packages: models/teachers/requirements.txt.
"""

import json
import statistics
import subprocess
import sys
import time

import numpy as np
from ai_edge_litert.interpreter import Interpreter

SAMPLES = 15_600
RUNS = 200


def yamnet(path):
    """Median milliseconds of a window."""
    net = Interpreter(model_path=path, num_threads=1)
    at = net.get_input_details()[0]["index"]
    net.resize_tensor_input(at, [SAMPLES])
    net.allocate_tensors()
    sound = np.random.default_rng(1).normal(0, 0.1, SAMPLES).astype(np.float32)
    times = []
    for _ in range(RUNS):
        net.set_tensor(at, sound)
        began = time.perf_counter()
        net.invoke()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: listen.py HARK YAMNET.tflite")
    hark, model = sys.argv[1:]
    before = yamnet(model)
    bench = subprocess.run([hark, "bench", "--json"], capture_output=True, text=True, check=True)
    after = yamnet(model)
    ours = json.loads(bench.stdout)
    theirs = min(before, after)
    window = ours["window_p50"]["value"] / 1e3
    print(f"YAMNet in LiteRT, one thread: {theirs:.2f} ms a window (before {before:.2f}, after {after:.2f})")
    print(f"hark-event:                   {window:.2f} ms a window, {theirs / window:.1f} times as fast")


if __name__ == "__main__":
    main()
