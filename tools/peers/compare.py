"""Runs `dynamax bench` and `llama-bench` in turn on the same shapes, and prints medians and ratios as a table."""

import argparse
import json
import shlex
import statistics
import subprocess

PROMPT, TOKENS = 512, 128


def run(command):
    """The JSON that a command prints."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def dynamax(arguments, shape, threads):
    """Tokens a second of the prompt and of decoding."""
    model = f"{arguments.work}/{shape}-{arguments.quant}.dmx"
    command = [arguments.dynamax, "bench", model, "-p", str(PROMPT), "-n", str(TOKENS), "-r", "1"]
    report = run(shlex.split(arguments.run) + command + ["-t", str(threads), "--json"])
    return report["prefill_tok_s"], report["decode_tok_s"]


def llama(arguments, shape, threads):
    """Tokens a second of the prompt and of decoding."""
    model = f"{arguments.work}/{shape}-{arguments.quant}.gguf"
    command = [arguments.llama, "-m", model, "-p", str(PROMPT), "-n", str(TOKENS), "-r", "1"]
    reports = run(shlex.split(arguments.run) + command + ["-t", str(threads), "-o", "json"])
    (prefill,) = [report["avg_ts"] for report in reports if report["n_gen"] == 0]
    (decode,) = [report["avg_ts"] for report in reports if report["n_prompt"] == 0]
    return prefill, decode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("dynamax", "llama", "work", "quant"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--run", default="", help="prefix of each measurement")
    parser.add_argument("--shapes", nargs="+", required=True)
    arguments = parser.parse_args()

    print("| shape | threads | | Dynamax tok/s | llama.cpp tok/s | ratio, median of pairs | lowest | highest |")
    print("|---|---|---|---|---|---|---|---|")
    for shape in arguments.shapes:
        for threads in arguments.threads:
            # Once each, so that both models are in the page cache.
            dynamax(arguments, shape, threads), llama(arguments, shape, threads)
            pairs = []
            for _ in range(arguments.pairs):
                pairs.append((dynamax(arguments, shape, threads), llama(arguments, shape, threads)))
            for index, what in enumerate((f"prompt of {PROMPT}", f"{TOKENS} tokens")):
                ours = [pair[0][index] for pair in pairs]
                theirs = [pair[1][index] for pair in pairs]
                ratios = [a / b for a, b in zip(ours, theirs)]
                numbers = [statistics.median(ours), statistics.median(theirs)]
                shown = " | ".join(f"{number:.1f}" for number in numbers)
                ratio = f"{statistics.median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f}"
                print(f"| {shape} {arguments.quant} | {threads} | {what} | {shown} | {ratio} |", flush=True)


main()
