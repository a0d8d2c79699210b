#!/usr/bin/env python3
"""Makes the golden fixtures: tiny checkpoints and what the reference libraries compute with them.

    generate.py [CASE...]

Without a case, the audio files and every case are made anew. See README.md beside it.
"""

import pathlib
import shutil
import sys
import time

import ast_family
import clap_family
import clap_gradients
import contrast_family
import ecapa_family
import front_ends
import sound
import wav2vec2_family
import whisper_family
import zero_shot

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"

CASES = {
    "front-ends": front_ends.make,
    **ast_family.CASES,
    **wav2vec2_family.CASES,
    **whisper_family.CASES,
    **clap_family.CASES,
    # Listens with the checkpoints above.
    "zero-shot": zero_shot.make,
    **clap_gradients.CASES,
    **contrast_family.CASES,
    **ecapa_family.CASES,
}


def main():
    chosen = sys.argv[1:] or list(CASES)
    for name in chosen:
        if name not in CASES:
            raise SystemExit(f"generate.py: no case {name!r}; there are {', '.join(CASES)}")
    if not sys.argv[1:] or not sound.AUDIO.exists():
        sound.make_all()
    for name in chosen:
        started = time.perf_counter()
        directory = FIXTURES / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        CASES[name](directory)
        size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        print(f"{name}: {size / 1024:.0f} KiB, {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    main()
