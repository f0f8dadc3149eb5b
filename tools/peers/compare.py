"""Runs `dynamax bench` and a peer's bench in turn on the same weights, and prints medians and ratios as tables.

The peer is `llama-bench`, or what takes its options and prints its report.

A pair is one run of each, one after the other; a ratio is taken within a pair, and its median over all pairs.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path

# Models above this many bytes run once in a pair, as one run takes long enough.
LARGE = 1 << 30


def run(command):
    """The JSON that a command prints, and the most memory that it held, in MB."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        # Else Python would wait once more.
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"{shlex.join(command)} failed")
        out.seek(0)
        return json.load(out), usage.ru_maxrss / 1e3


class Measure:
    """One program on one model with some threads."""

    def __init__(self, arguments, model, threads):
        self.arguments, self.threads = arguments, threads
        self.dmx, self.gguf = f"{arguments.work}/{model}.dmx", f"{arguments.work}/{model}.gguf"
        self.repeat = 1 if Path(self.gguf).stat().st_size > LARGE else 3

    def command(self, program, *more):
        prefix = shlex.split(self.arguments.run)
        return prefix + [program, *more, "-t", str(self.threads), "-r", str(self.repeat)]

    def dynamax(self):
        """Tokens a second of each prompt and of decoding, peak memory, and the share of the machine's bandwidth."""
        rates, peaks = {}, []
        for prompt, tokens in [(prompt, 1) for prompt in self.arguments.prompts] + [(1, self.arguments.tokens)]:
            bench = ["bench", self.dmx, "-p", str(prompt), "-n", str(tokens), "--json"]
            # What is measured of the machine's memory afterwards takes memory itself: the report has the peak before it.
            report, _ = run(self.command(self.arguments.dynamax, *bench))
            peaks.append(report["peak_rss_bytes"] / 1e6)
            if prompt > 1:
                rates[f"prompt of {prompt}"] = report["prefill_tok_s"]
        rates[f"{tokens} tokens"] = report["decode_tok_s"]
        return rates, max(peaks), report["machine_share"]

    def peer(self):
        """Tokens a second of each prompt and of decoding, and peak memory."""
        prompts = ",".join(map(str, self.arguments.prompts))
        bench = ["-m", self.gguf, "-p", prompts, "-n", str(self.arguments.tokens), "-o", "json"]
        reports, peak = run(self.command(self.arguments.peer, *bench))
        rates = {}
        for report in reports:
            prompt, tokens = report["n_prompt"], report["n_gen"]
            rates[f"prompt of {prompt}" if tokens == 0 else f"{tokens} tokens"] = report["avg_ts"]
        return rates, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dynamax", "peer", "name", "work"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--models", nargs="+", required=True, help="names of files in WORK, without their ends")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--run", default="", help="prefix of each measurement")
    arguments = parser.parse_args()

    print(f"| model | threads | | Dynamax | {arguments.name} | ratio, median of pairs | lowest | highest |")
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        for threads in arguments.threads:
            measure = Measure(arguments, model, threads)
            # Once each, so that both models are in the page cache.
            measure.dynamax(), measure.peer()
            ours, theirs = [], []
            for _ in range(arguments.pairs):
                ours.append(measure.dynamax())
                theirs.append(measure.peer())
            for what in ours[0][0]:
                pairs = [(a[0][what], b[0][what]) for a, b in zip(ours, theirs)]
                show(f"| {model} | {threads} | {what}, tok/s", pairs)
            show(f"| {model} | {threads} | peak memory, MB", [(a[1], b[1]) for a, b in zip(ours, theirs)])
            share = statistics.median(share for _, _, share in ours)
            print(f"| {model} | {threads} | share of the read bandwidth | {share:.2f} | | | | |", flush=True)


def show(head, pairs):
    ratios = [a / b for a, b in pairs]
    medians = " | ".join(f"{statistics.median(side):.1f}" for side in zip(*pairs))
    print(f"{head} | {medians} | {statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} |", flush=True)


main()
