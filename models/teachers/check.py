#!/usr/bin/env python3
"""Proves the teacher protocol: runs teacher.py as the trainer does and prints its accuracy.

    check.py DATA

DATA is a folder with manifest.csv, keywords/, events/ and models/. Printed are KWT-1 on the dev
keywords (twelve labels, and the eleven without `_silence_`), YAMNet on ESC-10 without any training
(top-1 among the ten labels, per fold), and the cost of a window. A clip that is shorter than a
window is padded with zeros at its end, a longer one is cut into windows half a window apart.
"""

import csv
import json
import os
import struct
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import soundfile

HERE = os.path.dirname(os.path.abspath(__file__))

# The ten labels of ESC-10 by their AudioSet classes; several classes of AudioSet may hear one label.
ESC10 = {
    "baby_cry": ["Baby cry, infant cry", "Crying, sobbing"],
    "chainsaw": ["Chainsaw", "Power tool", "Lawn mower"],
    "clock_tick": ["Tick-tock", "Tick", "Clock"],
    "crackling_fire": ["Fire", "Crackle"],
    "dog": ["Dog", "Bark", "Bow-wow", "Yip"],
    "helicopter": ["Helicopter"],
    "rain": ["Rain", "Raindrop", "Rain on surface"],
    "rooster": ["Chicken, rooster", "Crowing, cock-a-doodle-doo"],
    "sea_waves": ["Waves, surf", "Ocean", "Wind"],
    "sneezing": ["Sneeze"],
}


class Coprocess:
    """teacher.py at the other end of two pipes."""

    def __init__(self, model):
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "teacher.py"), model],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.header = json.loads(self.process.stdout.readline())
        self.dim = sum(output["dim"] for output in self.header["outputs"])
        self.windows, self.seconds = 0, 0.0

    def score(self, windows):
        """(n, samples) to the first output of every window, (n, dim)."""
        started = time.perf_counter()
        self.process.stdin.write(struct.pack("<I", len(windows)))
        for window in windows:
            self.process.stdin.write(np.asarray(window, "<f4").tobytes())
        self.process.stdin.flush()
        data = self.process.stdout.read(4 * self.dim * len(windows))
        self.seconds += time.perf_counter() - started
        self.windows += len(windows)
        rows = np.frombuffer(data, "<f4").reshape(len(windows), self.dim)
        return rows[:, : self.header["outputs"][0]["dim"]]

    def close(self):
        self.process.stdin.close()
        if self.process.wait() != 0:
            raise SystemExit(f"check.py: the teacher ended with status {self.process.returncode}")
        cost = 1000.0 * self.seconds / self.windows
        print(f"{self.header['model']}: {self.windows} windows, {cost:.2f} ms a window")


def windows_of(path, samples):
    pcm, rate = soundfile.read(path, dtype="float32")
    if rate != 16_000 or pcm.ndim != 1:
        raise SystemExit(f"check.py: {path}: expected 16 kHz mono")
    if len(pcm) <= samples:
        return [np.pad(pcm, (0, samples - len(pcm)))]
    return [pcm[at : at + samples] for at in range(0, len(pcm) - samples + 1, samples // 2)]


def keywords(data, rows):
    labels = open(os.path.join(data, "models", "kwt1_labels.txt")).read().split()
    teacher = Coprocess(os.path.join(data, "models", "kwt1.tflite"))
    hits, counts = Counter(), Counter()
    for row in rows:
        if row["path"].startswith("keywords/") and row["split"] == "dev":
            window = windows_of(os.path.join(data, row["path"]), 16_000)[0]
            guess = labels[int(teacher.score([window])[0].argmax())]
            counts[row["label"]] += 1
            hits[row["label"]] += guess == row["label"]
    every, total = sum(hits.values()), sum(counts.values())
    words, of = every - hits["_silence_"], total - counts["_silence_"]
    print(f"KWT-1, dev keywords, 12 labels: {every}/{total} = {every / total:.1%}")
    print(f"KWT-1, dev keywords, without _silence_: {words}/{of} = {words / of:.1%}")
    teacher.close()


def esc10(data, rows):
    with open(os.path.join(data, "models", "yamnet_class_map.csv")) as file:
        names = [row["display_name"] for row in csv.DictReader(file)]
    columns = {label: [names.index(name) for name in known] for label, known in ESC10.items()}
    teacher = Coprocess(os.path.join(data, "models", "yamnet.tflite"))
    hits, counts = Counter(), Counter()
    for row in rows:
        if os.path.basename(row["path"]).startswith("esc_"):
            scores = teacher.score(windows_of(os.path.join(data, row["path"]), 16_000)).mean(0)
            guess = max(columns, key=lambda label: scores[columns[label]].max())
            counts[row["fold"]] += 1
            hits[row["fold"]] += guess == row["label"]
    for fold in sorted(counts):
        print(f"YAMNet, ESC-10 fold {fold}: {hits[fold]}/{counts[fold]} = {hits[fold] / counts[fold]:.1%}")
    teacher.close()


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check.py DATA")
    with open(os.path.join(sys.argv[1], "manifest.csv")) as file:
        rows = list(csv.DictReader(file))
    keywords(sys.argv[1], rows)
    esc10(sys.argv[1], rows)


if __name__ == "__main__":
    main()
