#!/usr/bin/env python3
"""Measures two brokers in alternating runs, and prints each run, the medians and the ratio of each pair.

    tests/bench/pairs.py --ours 127.0.0.1:9092 --peer 127.0.0.1:19092 --rounds 3 -- produce --records 500000

What follows `--` is for `millstream bench`, which measures both. A machine's speed drifts; the ratio of two
runs next to each other says more than a figure. `--warm-up` runs the same once before, uncounted: a JVM needs
it. `--disk DIR` also measures, before each pair, how fast a file there takes 300 synced writes of 1 MiB.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

BINARY = os.path.join(os.path.dirname(__file__), "../../target/release/millstream")


def bench(binary, bootstrap, arguments):
    """One run; its report."""
    command = [binary, "bench", arguments[0], "--bootstrap", bootstrap, "--json", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip():
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    if report.get("error"):
        print(f"  {bootstrap}: {report['error']}", file=sys.stderr)
    return report


def synced_mb_per_second(directory, writes=300):
    """What the disk gives to somebody who syncs each MiB."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=directory) as file:
        started = time.monotonic()
        for _ in range(writes):
            file.write(block)
            file.flush()
            os.fdatasync(file.fileno())
        return writes * len(block) / 1e6 / (time.monotonic() - started)


def latency(report):
    """The percentiles that matter: end to end where there are such, else of the deliveries."""
    return report.get("end_to_end_ms") or report.get("delivery_ms") or {}


def row(report):
    line = f"{report['megabytes_per_second']:8.1f} MB/s {report['records_per_second']:10.0f} records/s"
    at = latency(report)
    if at:
        line += "  ms " + " ".join(f"{name} {at[name]:.2f}" for name in at if name != "count")
    return line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, metavar="HOST:PORT")
    parser.add_argument("--peer", metavar="HOST:PORT", help="without it, ours alone")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", action="store_true")
    parser.add_argument("--disk", metavar="DIR")
    parser.add_argument("--binary", default=BINARY, help="whose `bench` measures")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    arguments = [argument for argument in options.arguments if argument != "--"]
    sides = [("ours", options.ours)] + ([("peer", options.peer)] if options.peer else [])
    if options.warm_up:
        for _, bootstrap in sides:
            bench(options.binary, bootstrap, arguments)
    runs = {name: [] for name, _ in sides}
    for pair in range(1, options.rounds + 1):
        if options.disk:
            print(f"pair {pair}: disk {synced_mb_per_second(options.disk):.0f} MB/s")
        for name, bootstrap in sides:
            report = bench(options.binary, bootstrap, arguments)
            runs[name].append(report)
            print(f"pair {pair}: {name} {row(report)}", flush=True)
    for name, reports in runs.items():
        rates = [report["megabytes_per_second"] for report in reports]
        print(f"median {name}: {statistics.median(rates):.1f} MB/s", end="")
        tails = [latency(report).get("p99") for report in reports]
        print(f", p99 {statistics.median(tails):.2f} ms" if all(tails) else "")
    if options.peer:
        ratios = [a["megabytes_per_second"] / b["megabytes_per_second"] for a, b in zip(runs["ours"], runs["peer"])]
        print(f"ratio ours / peer: median {statistics.median(ratios):.2f}, each {[round(r, 2) for r in ratios]}")


if __name__ == "__main__":
    main()
