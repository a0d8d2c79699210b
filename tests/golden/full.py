#!/usr/bin/env python3
"""Compares hark with the reference libraries on the published sizes, with random weights.

    full.py HARK [NAME...]

HARK is the program. For every checkpoint of published.py, or those whose name holds one of the given
NAMEs, the model is written to target/golden-full, the reference computes what it makes of a clip, hark
is asked the same from the command line, and the directory is deleted. Printed is a Markdown table: the
largest difference of a logit (of a component, for embeddings of unit length) and the seconds that
each took, two threads for the reference and the whole process for hark. The status is 1 if any
difference is above 1e-3.
"""

import json
import math
import pathlib
import platform
import shutil
import subprocess
import sys
import time

import reference
import torch
import transformers

from clap_family import PROMPTS
from classifier import pipeline_scores
from published import CHECKPOINTS
from sound import AUDIO, read

TARGET = pathlib.Path(__file__).resolve().parents[2] / "target" / "golden-full"
TOLERANCE = 1e-3


class Disagreement(Exception):
    """hark failed, or answered something else than was asked."""


def ask(hark, *arguments):
    """The one window that hark answers with."""
    done = subprocess.run([hark, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise Disagreement(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}")
    lines = done.stdout.splitlines()
    if len(lines) != 1:
        raise Disagreement(f"{len(lines)} windows instead of one")
    return json.loads(lines[0])


def by_label(answer, key, labels):
    """`key` of every entry of an answer's scores, in the order of `labels`."""
    values = {entry["label"]: entry[key] for entry in answer["scores"]}
    if sorted(values) != sorted(labels):
        raise Disagreement(f"{len(values)} labels instead of {len(labels)}")
    return torch.tensor([values[label] for label in labels], dtype=torch.float64)


def logits_of(scores, activation):
    """What `activation` was applied to; after a softmax, but for a constant, which is taken off."""
    if activation == "sigmoid":
        return torch.log(scores) - torch.log1p(-scores)
    logits = torch.log(scores)
    return logits - logits.mean()


def difference(ours, theirs):
    return float((ours.double() - theirs.double()).abs().max())


def classify(hark, directory, clip):
    model = transformers.AutoModelForAudioClassification.from_pretrained(directory)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
    activation = "sigmoid" if model.config.problem_type == "multi_label_classification" else "softmax"
    started = time.perf_counter()
    logits = model(**extractor(read(clip), sampling_rate=16_000, return_tensors="pt")).logits[0].double()
    theirs_s = time.perf_counter() - started
    del model
    if activation == "softmax":
        logits = logits - logits.mean()
    scores = torch.tensor(pipeline_scores(directory, read(clip)), dtype=torch.float64)
    if difference(logits_of(scores, activation), logits) > 1e-4:
        raise Disagreement("the pipeline's scores do not lead back to the logits")
    answer, ours_s = timed(hark, "classify", AUDIO / clip, "--model", directory, "--top-k", 0, *window(clip), "--json")
    return difference(logits_of(by_label(answer, "score", labels), activation), logits), theirs_s, ours_s


def speaker(hark, directory, clip):
    pcm = torch.from_numpy(read(clip))[None]
    if (directory / "hyperparams.yaml").exists():
        from ecapa_family import load

        model = load(directory)
        started = time.perf_counter()
        embedding = model.encode_batch(pcm).reshape(-1)
    else:
        model = transformers.AutoModelForAudioXVector.from_pretrained(directory)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
        started = time.perf_counter()
        embedding = model(**extractor(read(clip), sampling_rate=16_000, return_tensors="pt")).embeddings[0]
    theirs_s = time.perf_counter() - started
    del model
    answer, ours_s = timed(hark, "classify", AUDIO / clip, "--task", "speaker", "--model", directory, *window(clip), "--json")
    ours = torch.tensor(answer["embedding"], dtype=torch.float64)
    if ours.shape != embedding.shape:
        raise Disagreement(f"an embedding of {len(ours)} values instead of {len(embedding)}")
    unit = torch.nn.functional.normalize
    return difference(unit(ours, dim=0), unit(embedding.double(), dim=0)), theirs_s, ours_s


def score(hark, directory, clip):
    model = transformers.ClapModel.from_pretrained(directory)
    processor = transformers.AutoProcessor.from_pretrained(directory)
    text = processor.tokenizer(PROMPTS, return_tensors="pt", padding=True)
    started = time.perf_counter()
    audio = processor.feature_extractor(read(clip), sampling_rate=48_000, return_tensors="pt")
    output = model(**text, input_features=audio["input_features"].float(), is_longer=audio["is_longer"])
    theirs_s = time.perf_counter() - started
    del model
    prompts = [argument for prompt in PROMPTS for argument in ("--prompt", prompt)]
    answer, ours_s = timed(hark, "score", AUDIO / clip, "--model", directory, "--template", "{}", *prompts, "--json")
    logits = output.logits_per_audio[0].double()
    similarity = output.audio_embeds[0] @ output.text_embeds.T
    return max(difference(logits_of(by_label(answer, "score", PROMPTS), "softmax"), logits - logits.mean()),
               difference(by_label(answer, "similarity", PROMPTS), similarity)), theirs_s, ours_s


QUESTIONS = {"classify": classify, "speaker": speaker, "score": score}


def window(clip):
    """Arguments for one window that holds all of a 16 kHz clip."""
    seconds = math.ceil(len(read(clip)) / 16_000)
    return ["--window", seconds, "--hop", seconds]


def timed(hark, *arguments):
    started = time.perf_counter()
    answer = ask(hark, *arguments)
    return answer, time.perf_counter() - started


def main():
    if len(sys.argv) < 2:
        raise SystemExit("usage: full.py HARK [NAME...]")
    hark, chosen = sys.argv[1], sys.argv[2:]
    names = [name for name in CHECKPOINTS if not chosen or any(part in name for part in chosen)]
    if not names:
        raise SystemExit(f"full.py: no checkpoint is named so; there are {', '.join(CHECKPOINTS)}")
    version = subprocess.run([hark, "--version"], capture_output=True, text=True).stdout.strip()
    versions = ", ".join(f"{name} {version}" for name, version in reference.VERSIONS.items())
    print(f"{version} against {versions} (Python {platform.python_version()}, {torch.get_num_threads()} threads)\n")
    print("| checkpoint, random weights | parameters | largest difference | reference | hark |")
    print("|---|---|---|---|---|", flush=True)
    failed = False
    for name in names:
        write, clip, question = CHECKPOINTS[name]
        directory = TARGET / name.split(",")[0].replace("/", "--")
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            model = write(directory)
            millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            del model
            worst, theirs_s, ours_s = QUESTIONS[question](hark, directory, clip)
            good = worst <= TOLERANCE
            print(f"| {name} | {millions:.1f} M | {worst:.1e}{'' if good else ' **above 1e-3**'} "
                  f"| {theirs_s:.2f} s | {ours_s:.2f} s |", flush=True)
        except Disagreement as problem:
            good = False
            print(f"| {name} | | **{problem}** | | |", flush=True)
        finally:
            shutil.rmtree(directory)
        failed = failed or not good
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
