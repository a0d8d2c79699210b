"""Published models beside torch: the same checkpoints, two threads each, one run.

    target/golden/bin/python benches/peers/models.py target/release/examples/time_model

The checkpoints have the published sizes and random weights, which cost the same time. torch runs the
network alone; ours runs from samples, front end included. Best of five for both, taken in turns, in
seconds, and the largest memory of our process over the size of the weights.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))

import torch  # noqa: E402

import published  # noqa: E402

TO = ROOT / "target" / "peers"
ROUNDS = 5


def features(model, kind):
    """What the network itself takes for a window, and how it is called."""
    if kind == "ast":
        return lambda: model(torch.randn(1, 1024, 128))
    if kind == "wave":
        return lambda: model(torch.randn(1, 80_000))
    if kind == "whisper":
        return lambda: model(torch.randn(1, 80, 3000))
    if kind == "clap":
        return lambda: model.get_audio_features(input_features=torch.randn(1, 1, 1001, 64), is_longer=torch.zeros(1, 1, dtype=torch.bool))
    if kind == "clap-text":
        ids = torch.randint(10, 200, (1, 12))
        return lambda: model.get_text_features(input_ids=ids, attention_mask=torch.ones_like(ids))
    raise ValueError(kind)


# What it is called here, the checkpoint, what torch is given, and the seconds that ours is given.
SUBJECTS = [
    ("AST-base, 10.24 s", "MIT/ast-finetuned-audioset-10-10-0.4593", "ast", "10.24"),
    ("DistilHuBERT, 5 s", "ntu-spml/distilhubert, 10 genres", "wave", "5"),
    ("XLS-R 300M, 5 s", "anton-l/xtreme_s_xlsr_300m_minds14", "wave", "5"),
    ("CLAP audio, 10 s", "laion/clap-htsat-unfused", "clap", "10"),
    ("CLAP text, 12 tokens", "laion/clap-htsat-unfused", "clap-text", "text"),
    ("Whisper-medium encoder", "sanchit-gandhi/whisper-medium-fleurs-lang-id", "whisper", "30"),
]


def timed(run):
    began = time.perf_counter()
    with torch.inference_mode():
        run()
    return time.perf_counter() - began


def main(binary, wanted):
    torch.set_num_threads(2)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, best of {ROUNDS}\n")
    print("| model | torch f32 | hark | ratio | memory over weights |\n|---|---|---|---|---|")
    for title, name, kind, seconds in SUBJECTS:
        if wanted and not any(part in title for part in wanted):
            continue
        directory = TO / name.split(",")[0].replace("/", "--")
        shutil.rmtree(directory, ignore_errors=True)
        write, _, _ = published.CHECKPOINTS[name]
        model = write(directory)
        run = features(model, kind)
        timed(run)
        theirs, ours, memory = [], [], []
        for _ in range(ROUNDS):
            theirs.append(timed(run))
            line = json.loads(subprocess.run([binary, str(directory), seconds], check=True, capture_output=True, text=True).stdout)
            ours.append(line["best_s"])
            memory.append(line["peak_bytes"] / line["weights_bytes"])
        print(f"| {title} | {min(theirs):.3f} s | {min(ours):.3f} s | {min(theirs) / min(ours):.2f} | {max(memory):.2f} |", flush=True)
        del model, run
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
