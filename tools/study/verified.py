#!/usr/bin/env python3
"""What verified exits gain behind many passages, printed as rows of the tables of docs/early-exit.md.

    tools/study/verified.py --demo mamba2 --demo transformer --passages 36 held/*.txt

Each passage is answered at full depth and with drafts in turn, a process for each; an answer that differs is an error. Needs the release build:
cargo build --release.
"""

import argparse
import json
import pathlib
import random
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
DYNAMAX = ROOT / "target/release/dynamax"
LETTERS = 200


def passages(files, count, seed):
    """Starts of long paragraphs, as many from each file as can be."""
    found = []
    for file in files:
        long = [text for text in file.read_text(errors="ignore").split("\n\n") if len(text) > LETTERS]
        chosen = random.Random(f"{seed} {file.name}").sample(long, min(len(long), -(-count // len(files))))
        found += [text[:LETTERS] for text in chosen]
    return found


def answer(demo, threads, exit_mode, passage, options):
    """The JSON of one answer."""
    command = [str(DYNAMAX), "run", "--demo", demo, passage, "-n", str(options.tokens), "-t", str(threads), "--exit", exit_mode]
    if options.isa:
        command += ["--isa", options.isa]
    output = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def seconds(report):
    """What an answer took after its first token."""
    return len(report["tokens"]) / report["decode_tok_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="append", required=True)
    parser.add_argument("--passages", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--isa")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    texts = passages(options.files, options.passages, options.seed)
    for demo in options.demo:
        for threads in options.threads or [1, 2]:
            spent = {"off": 0.0, "verified": 0.0}
            for index, text in enumerate(texts):
                # In turn, so that neither always comes first.
                modes = list(spent) if index % 2 else list(spent)[::-1]
                reports = {mode: answer(demo, threads, mode, text, options) for mode in modes}
                if reports["off"]["tokens"] != reports["verified"]["tokens"]:
                    raise SystemExit(f"{demo}, {threads} threads: another answer behind {text!r}")
                for mode, report in reports.items():
                    spent[mode] += seconds(report)
            print(f"{demo}, {threads} threads, {len(texts)} passages: {spent['off'] / spent['verified']:.2f} times", flush=True)


if __name__ == "__main__":
    main()
