#!/usr/bin/env python3
"""What early exits save at equal agreement, printed as the tables of docs/early-exit.md.

    tools/study/early_exit.py --data held-out.txt --demo mamba2 --demo transformer \
        --checkpoint MODEL_DIR --text training.txt --minutes 2

Demos and bundles are evaluated as they are. For a checkpoint, exits of each classifier are trained first.
Needs the release build: cargo build --release.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DYNAMAX = ROOT / "target/release/dynamax"
STATES = ["copy", "propagate", "skip", "deferred"]


def dynamax(*arguments):
    """The JSON that a command prints."""
    command = [str(DYNAMAX), *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def sweep(subject, data, options):
    """Evaluates a bundle (or a demo) over many thresholds, with every treatment of skipped state."""
    return dynamax(
        "eval", *subject, "--task", "text", "--data", data, "--tokens", options.tokens, "--context", options.context,
        "--sweep", options.sweep, "--threads", 1,
    )


def best(report, state, floor):
    """The mode of this state that saves most bytes while at least `floor` of the tokens agree."""
    modes = [mode for mode in report["modes"] if mode["state"] == state and mode["agreement"] >= floor]
    return max(modes, key=lambda mode: mode["bytes_saved"], default=None)


def row(name, mode):
    """A row of a table."""
    if mode is None:
        return f"| {name} | none | | | | | |"
    percent = [mode[key] * 100 for key in ["agreement", "depth_mean", "flops_saved", "bytes_saved", "time_saved"]]
    return f"| {name} | {mode['threshold']:.3f} | " + " | ".join(f"{value:.1f} %" for value in percent) + " |"


HEAD = "| | threshold | agreement | depth | flops saved | bytes saved | time saved |\n|---|---|---|---|---|---|---|"


def by_state(title, report, floor):
    """One table: the treatments of skipped state at equal agreement."""
    print(f"\n**{title}**\n\n{HEAD}")
    for state in STATES:
        print(row(f"`{state}`", best(report, state, floor)))
    oracle = report["oracle"]
    cells = [100.0, oracle["depth_mean"] * 100, oracle["flops_saved"] * 100, oracle["bytes_saved"] * 100]
    print("| oracle | | " + " | ".join(f"{value:.1f} %" for value in cells) + " | |", flush=True)


def by_classifier(checkpoint, options):
    """One table: the three classifiers, trained for the same frozen checkpoint."""
    print(f"\n**{checkpoint.name}: classifiers, `deferred`**\n\n{HEAD}")
    reports = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ["calm", "ffn", "mamba"]:
            exits, bundle = pathlib.Path(folder, kind), pathlib.Path(folder, f"{kind}.dmx")
            dynamax(
                "exits", checkpoint, "--text", *options.text, "--out", exits, "--classifier", kind,
                "--minutes", options.minutes, "--threads", 1, *(["--adapter", options.adapter] if options.adapter else []),
            )
            dynamax("build", checkpoint, "-o", bundle, "--quant", "q8", "--exits", exits)
            reports[kind] = sweep([bundle], options.data, options)
            print(row(f"`{kind}`", best(reports[kind], "deferred", options.agreement)), flush=True)
    by_state(f"{checkpoint.name}: `ffn`", reports["ffn"], options.agreement)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="held-out text")
    parser.add_argument("--demo", action="append", default=[], help="a demo inside the binary")
    parser.add_argument("--bundle", action="append", default=[], type=pathlib.Path, help="a bundle with exits")
    parser.add_argument("--checkpoint", action="append", default=[], type=pathlib.Path)
    parser.add_argument("--text", nargs="*", default=[], help="what exits of a checkpoint are trained on")
    parser.add_argument("--minutes", type=float, default=2.0, help="of training, for each classifier")
    parser.add_argument("--adapter", default="", help="width of an adapter in front of the head")
    parser.add_argument("--agreement", type=float, default=0.98)
    parser.add_argument("--tokens", type=int, default=20000)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--sweep", type=int, default=16)
    options = parser.parse_args()
    print(f"At an agreement of at least {options.agreement:.0%}, over {options.tokens} tokens of {options.data.name}:")
    for demo in options.demo:
        by_state(f"demo {demo}", sweep(["--demo", demo], options.data, options), options.agreement)
    for bundle in options.bundle:
        by_state(bundle.name, sweep([bundle], options.data, options), options.agreement)
    for checkpoint in options.checkpoint:
        by_classifier(checkpoint, options)


if __name__ == "__main__":
    main()
