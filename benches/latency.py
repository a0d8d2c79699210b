#!/usr/bin/env python3
"""How long after a sound its D-Bus signal comes, through a real virtual microphone.

    latency.py HARK DATA

Starts a headless PulseAudio with a null sink, a private bus and `hark run`, plays dev words and
synthesised smoke alarms into the sink, and records the sink's monitor beside the daemon. The
recording says when each sample left the sink; dbus-monitor says when each signal came. Prints, for
words, the time from the end of the word (last 10 ms within 30 dB of its loudest) to `Keyword`, and for
alarms the time from the first beep to `EventStarted`. Packages: models/teachers/requirements.txt.
"""

import csv
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import wave

import numpy as np
import soundfile

RATE = 16_000
WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
EACH = 8
# A word whose clip is noisy to its last sample has no end that could be measured.
TAIL = RATE // 10
ALARMS = 8
PULSE = """load-module module-native-protocol-unix
load-module module-null-sink sink_name=vsink rate=16000 channels=1
set-default-sink vsink
set-default-source vsink.monitor
"""


def word_end(pcm):
    levels = [np.sqrt(np.mean(pcm[i:i + 160] ** 2)) for i in range(0, len(pcm), 160)]
    gate = max(levels) * 10 ** (-30 / 20)
    return (max(i for i, level in enumerate(levels) if level >= gate) + 1) * 160


def alarm():
    """Three beeps of half a second at 3.1 kHz (ISO 8201)."""
    t = np.arange(RATE // 2) / RATE
    beep = 0.3 * np.sin(2 * math.pi * 3100 * t) * np.minimum(1, 200 * np.minimum(t, 0.5 - t))
    return np.concatenate([beep, np.zeros(RATE // 2)] * 3)


def stream(data):
    """The sound to be played and [(kind, label, sample of the end of the word or start of the alarm)]."""
    rng = np.random.default_rng(1)
    rows = [r for r in csv.DictReader(open(os.path.join(data, "manifest.csv")))
            if r["path"].startswith("keywords/") and r["split"] == "dev"]
    clips = {word: [] for word in WORDS}
    for at in rng.permutation(len(rows)):
        word = rows[at]["label"]
        if word in clips and len(clips[word]) < EACH:
            pcm, rate = soundfile.read(os.path.join(data, rows[at]["path"]))
            assert rate == RATE
            if word_end(pcm) <= len(pcm) - TAIL:
                clips[word].append(pcm)
    clips = [(word, pcm) for word in WORDS for pcm in clips[word]]
    parts, marks = [rng.normal(0, 3e-4, 2 * RATE)], []
    for at in rng.permutation(len(clips)):
        word, pcm = clips[at]
        begin = sum(map(len, parts))
        marks.append(("word", word, begin + word_end(pcm)))
        parts += [pcm, rng.normal(0, 3e-4, RATE)]
    for _ in range(ALARMS):
        parts.append(rng.normal(0, 3e-4, 9 * RATE))
        marks.append(("alarm", "Smoke detector, smoke alarm", sum(map(len, parts))))
        parts.append(alarm())
    parts.append(rng.normal(0, 3e-4, 2 * RATE))
    return np.concatenate(parts), marks


def main():
    if len(sys.argv) != 3:
        raise SystemExit("usage: latency.py HARK DATA")
    hark, data = sys.argv[1:]
    sound, marks = stream(data)
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o700)
        open(f"{home}/rig.pa", "w").write(PULSE)
        with wave.open(f"{home}/play.wav", "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
        env = {**os.environ, "XDG_RUNTIME_DIR": home, "HOME": home, "PULSE_SERVER": f"unix:{home}/pulse/native"}
        running = []

        def start(*argv, **more):
            running.append(subprocess.Popen(argv, env=env, **more))
            return running[-1]

        try:
            measure(start, env, home, hark, sound, marks)
        finally:
            for process in reversed(running):
                process.kill()
                process.wait()


def measure(start, env, home, hark, sound, marks):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    bus = start("dbus-daemon", "--session", "--nofork", "--print-address", stdout=subprocess.PIPE, text=True)
    env["DBUS_SESSION_BUS_ADDRESS"] = bus.stdout.readline().strip()
    start("pulseaudio", "-n", "-F", f"{home}/rig.pa", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", **quiet)
    while subprocess.run(["pactl", "info"], env=env, **quiet).returncode:
        time.sleep(0.1)
    daemon = start(hark, "run", "--quiet", "--socket", f"{home}/hark.sock")
    while b'"state":"listening"' not in subprocess.run(
            [hark, "status", "--json", "--socket", f"{home}/hark.sock"], env=env, capture_output=True).stdout:
        if daemon.poll() is not None:
            raise SystemExit("latency.py: hark run has ended")
        time.sleep(0.1)
    monitor = start("dbus-monitor", "--session", "interface='org.harkd.Hark1',type='signal'",
                    stdout=subprocess.PIPE, text=True)
    signals = []
    threading.Thread(target=follow, args=(monitor.stdout, signals), daemon=True).start()
    recorder = start("parec", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1",
                     "--latency-msec=10", "-d", "vsink.monitor", stdout=subprocess.PIPE)
    heard = []
    threading.Thread(target=record, args=(recorder.stdout, heard), daemon=True).start()
    subprocess.run(["paplay", f"{home}/play.wav"], env=env, check=True)
    time.sleep(1.5)
    report(sound, marks, heard, signals)


def follow(lines, signals):
    """Collects (time, member, label) from what dbus-monitor prints."""
    head = None
    for line in lines:
        found = re.match(r"signal time=([\d.]+) .*member=(\w+)", line)
        if found:
            head = (float(found[1]), found[2])
        elif head and (text := re.match(r'\s+string "(.*)"', line)) and text[1] not in ("event", "keyword", "content"):
            # EventStarted begins with the id, a ULID.
            if not re.fullmatch(r"[0-9A-Z]{26}", text[1]):
                signals.append((*head, text[1]))
                head = None


def record(pipe, heard):
    """Collects (time, samples so far, samples) of every delivery."""
    total = 0
    while block := os.read(pipe.fileno(), 65536):
        total += len(block) // 2
        heard.append((time.time(), total, np.frombuffer(block[:len(block) // 2 * 2], "<i2")))


def report(sound, marks, heard, signals):
    recorded = np.concatenate([block for _, _, block in heard])
    played = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    # The monitor gives zeros before and exactly what is played after.
    offset = int(np.argmax(recorded != 0)) - int(np.argmax(played != 0))
    zero = min(at - total / RATE for at, total, _ in heard)
    when = lambda sample: zero + (sample + offset) / RATE
    took = {"word": [], "alarm": []}
    missed = {"word": 0, "alarm": 0}
    for kind, label, sample in marks:
        member = "Keyword" if kind == "word" else "EventStarted"
        since = when(sample) - (1.0 if kind == "word" else 0.0)
        came = [at for at, name, said in signals if name == member and said == label and since <= at < since + 3]
        if came:
            took[kind].append((came[0] - when(sample)) * 1e3)
        else:
            missed[kind] += 1
    for kind, what in (("word", "end of word to Keyword"), ("alarm", "onset of alarm to EventStarted")):
        times = sorted(took[kind])
        p95 = times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)]
        print(f"{what}: median {np.median(times):.0f} ms, p95 {p95:.0f} ms, worst {times[-1]:.0f} ms "
              f"({len(times)} signals, {missed[kind]} missed)")


if __name__ == "__main__":
    main()
