#!/usr/bin/env python3
"""What calibrating on a room does to false accepts and to what is found.

    calibrate.py HARK DATA

Half of the spoken orders of the data set and its noises are the room that `hark calibrate` hears; the
other half and the dev digits are what must fire nothing; dev sounds and dev words, a second of faint
noise between them, are what must be found. Prints the counts of the default rules before and after. The
data set is searched for labels of hark-event, and an event counts as found where an episode of one of
the clip's labels overlaps it. Packages: models/teachers/requirements.txt.
"""

import collections
import csv
import json
import os
import random
import subprocess
import sys
import tempfile

import numpy as np
import soundfile

RATE = 16_000
PAUSE_S = 1.0
PAUSE_DBFS = -60
WORDS = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "computer", "jarvis", "alexa"}
MOST_WORDS = 300
# A word may be told a little after its end.
LATE_S = 0.5


class Tape:
    """Clips one after the other, and where each of them lies."""

    def __init__(self, path, data, rows):
        noise = np.random.default_rng(7)
        scale = 10 ** (PAUSE_DBFS / 20)
        pause = lambda: (noise.standard_normal(int(RATE * PAUSE_S)) * scale).astype("f4")
        self.path, self.spans, parts = path, [], [pause()]
        at = len(parts[0])
        for row in rows:
            pcm, rate = soundfile.read(os.path.join(data, row["path"]), dtype="float32")
            assert rate == RATE, row["path"]
            self.spans.append((at / RATE, (at + len(pcm)) / RATE, row))
            parts += [pcm, pause()]
            at += len(pcm) + len(parts[-1])
        soundfile.write(path, np.concatenate(parts), RATE, subtype="PCM_16")
        self.minutes = at / RATE / 60


def heard(hark, tape, env):
    args = [hark, "run", "--source", f"file:{tape.path}", "--json", "--bus", "none", "--quiet"]
    lines = subprocess.run(args, env=env, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in lines.splitlines()]


def count(hark, tapes, labels, env):
    quiet, sounds, words = tapes
    fired = [e for e in heard(hark, quiet, env) if e["phase"] != "end" and e["kind"] in ("keyword", "event")]
    ended = [e for e in heard(hark, sounds, env) if e["phase"] == "end" and e["kind"] == "event"]
    known = found = 0
    for start, end, row in sounds.spans:
        names = [name for name in row["audioset_labels"].split(";") if name in labels]
        known += bool(names)
        found += any(e["label"] in names and e["start_s"] < end and e["end_s"] > start for e in ended)
    told = [e for e in heard(hark, words, env) if e["kind"] == "keyword"]
    said = 0
    for start, end, row in words.spans:
        match = next((e for e in told if e["label"] == row["label"] and start <= e["end_s"] <= end + LATE_S), None)
        if match:
            told.remove(match)
            said += 1
    by_rule = dict(collections.Counter(e["rule"] for e in fired))
    print(f"fired {len(fired)} times in {quiet.minutes:.1f} minutes {by_rule}; "
          f"found {found} of {known} sounds and {said} of {len(words.spans)} words")


def main(hark, data):
    rows = list(csv.DictReader(open(os.path.join(data, "manifest.csv"))))
    order = random.Random(7)
    within = lambda folder, split=None: [r for r in rows if r["path"].startswith(folder + "/")
                                         and split in (None, r["split"])]
    speech = within("speech")
    order.shuffle(speech)
    half = len(speech) // 2
    room = [os.path.join(data, r["path"]) for r in within("noise") + speech[:half]]
    words = [r for r in within("keywords", "dev") + within("wakewords", "dev") if r["label"] in WORDS]
    order.shuffle(words)
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "HOME": folder, "XDG_CONFIG_HOME": f"{folder}/config", "XDG_DATA_HOME": f"{folder}/data",
               "XDG_CACHE_HOME": f"{folder}/cache", "XDG_RUNTIME_DIR": folder}
        tapes = [Tape(f"{folder}/{name}.wav", data, clips) for name, clips in [
            ("quiet", speech[half:] + within("digits", "dev")), ("sounds", within("events", "dev")),
            ("words", words[:MOST_WORDS])]]
        show = [hark, "models", "show", "hark-event", "--json"]
        labels = json.loads(subprocess.run(show, env=env, check=True, capture_output=True).stdout)["labels"]
        count(hark, tapes, labels, env)
        subprocess.run([hark, "calibrate", "--from", *room], env=env, check=True, stdout=subprocess.DEVNULL)
        count(hark, tapes, labels, env)


if __name__ == "__main__":
    main(*sys.argv[1:])
