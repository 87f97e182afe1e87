#!/usr/bin/env python3
"""Measures what a plugin adds to the time from a record's due time until a consumer has it.

    tests/bench/cost.py [--rate 10000] [--records 60000] [--rounds 3] [--sizes 100,1024]

A node of its own runs over an empty directory. Records are JSON objects. Each round measures, one after the other: a topic
without a plugin; and identity and a filter that reads a field, in both forms of the contract, in each position: a topic with
an ingest, a view of a topic, and what a stage makes of a topic. Printed are the medians over the rounds, and their difference to
the topic without a plugin.
"""

import argparse
import statistics

from node import BINARY, Node, guest

PARTITIONS = 6
JOBS = ("identity", "identity-typed", "filter", "filter-typed")
FILTER = "{field: status, gte: 400}"


def pipeline():
    text = "pipeline: cost\ntopics:\n"
    ingests, views, stages = "ingests:\n", "views:\n", "stages:\n"
    plugins = "plugins:\n"
    names = ["plain"]
    for job in JOBS:
        config = FILTER if job.startswith("filter") else "null"
        plugins += f"  {job}: {{file: {job}.wasm, config: {config}}}\n"
        names += [f"ingest-{job}", f"view-of-{job}", f"stage-in-{job}", f"stage-out-{job}"]
        ingests += f"  check-{job}: {{topic: ingest-{job}, plugin: {job}, parallelism: 2, budget_ms: 2000}}\n"
        views += f"  view-{job}: {{from: view-of-{job}, plugin: {job}}}\n"
        stages += f"  copy-{job}: {{from: stage-in-{job}, plugin: {job}, to: stage-out-{job}, parallelism: 2}}\n"
    text += "".join(f"  {name}: {{partitions: {PARTITIONS}}}\n" for name in names)
    return text + plugins + ingests + views + stages


def cases():
    yield "no plugin", "plain", "plain"
    for job in JOBS:
        yield f"ingest, {job}", f"ingest-{job}", f"ingest-{job}"
        yield f"view, {job}", f"view-of-{job}", f"view-{job}"
        yield f"stage, {job}", f"stage-in-{job}", f"stage-out-{job}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="100,1024")
    options = parser.parse_args()
    plugins = {
        "identity.wasm": guest("tests/guests", "identity"),
        "identity-typed.wasm": guest("tests/guests", "identity-typed"),
        "filter.wasm": guest("plugins", "filter"),
        "filter-typed.wasm": guest("plugins", "filter", "--features=typed"),
    }
    node = Node(options.binary, "127.0.0.1:19392", "127.0.0.1:19393")
    try:
        node.apply(pipeline(), plugins)
        for size in map(int, options.sizes.split(",")):
            found = {}
            for _ in range(options.rounds):
                for name, topic, read_from in cases():
                    report = node.bench(
                        "latency", "--topic", topic, "--read-from", read_from, "--rate", options.rate, "--records",
                        options.records, "--size", size, "--linger-ms", 1, "--json-values",
                    )
                    found.setdefault(name, []).append(report["end_to_end_ms"])
            medians = {
                name: {at: statistics.median(run[at] for run in runs) for at in ("p50", "p99")}
                for name, runs in found.items()
            }
            without = medians["no plugin"]
            print(f"\n{size} B, {options.rate} records/s, medians of {options.rounds} rounds, ms")
            print(f"{'':<26}{'p50':>8}{'added':>8}{'p99':>8}{'added':>8}")
            for name, at in medians.items():
                added = {key: at[key] - without[key] for key in at}
                print(f"{name:<26}{at['p50']:>8.2f}{added['p50']:>8.2f}{at['p99']:>8.2f}{added['p99']:>8.2f}", flush=True)
    finally:
        node.stop()


if __name__ == "__main__":
    main()
