#!/usr/bin/env python3
"""Measures a stage beside Kafka Streams doing the same job: identity, or a filter that reads a field of JSON values.

    tests/bench/stage.py --ours 127.0.0.1:9092 --admin 127.0.0.1:9644 --peer 127.0.0.1:19092 [--job filter]

Each side gets a topic of six partitions with the same records, and copies it to another with two threads; the filter
reads each record and keeps them all. What is
counted is what a consumer could read of the copy, from the first fifth to the last, so that neither side's start
counts: records per second. `--peer` takes Kafka Streams to its own broker; without it, ours alone. Needs Maven and
a JDK for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from node import guest

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.path.join(HERE, "../../target/release/millstream")
PARTITIONS = 6
JOBS = {
    "identity": (("tests/guests", "identity"), "null", "Identity"),
    "filter": (("plugins", "filter"), "{field: status, gte: 400}", "Filter"),
}
THREADS = 2


def millstream(*arguments):
    return subprocess.run([BINARY, *arguments], check=True, capture_output=True, text=True).stdout


def end_offsets(bootstrap, topic):
    described = json.loads(millstream("topic", "describe", topic, "--bootstrap", bootstrap, "--json"))
    described = described[0] if isinstance(described, list) else described
    return sum(partition["log_end_offset"] for partition in described["partitions"])


def fill(bootstrap, topic, options):
    millstream("topic", "create", topic, "--partitions", str(PARTITIONS), "--bootstrap", bootstrap)
    size, records = str(options.size), str(options.records)
    load = ["--topic", topic, "--records", records, "--size", size]
    millstream("bench", "produce", "--bootstrap", bootstrap, *load, *(["--json-values"] if options.job == "filter" else []))


def rate(bootstrap, topic, records):
    """Records per second, from a fifth to four fifths of the records."""
    samples = []
    while not samples or samples[-1][1] < records * 0.8:
        samples.append((time.monotonic(), end_offsets(bootstrap, topic)))
        time.sleep(0.1)
    inside = [sample for sample in samples if sample[1] >= records * 0.2]
    (start, first), (end, last) = inside[0], inside[-1]
    if len(inside) < 3:
        sys.exit(f"{topic} was complete before it was looked at three times: take more --records")
    return (last - first) / (end - start)


def classpath():
    libraries = os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "millstream-streams")
    if not os.path.isdir(libraries):
        pom = os.path.join(HERE, "streams/pom.xml")
        command = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={libraries}"]
        subprocess.run(command, check=True)
    sources = [os.path.join(HERE, "streams", name) for name in os.listdir(os.path.join(HERE, "streams"))]
    sources = [source for source in sources if source.endswith(".java")]
    subprocess.run(["javac", "-cp", f"{libraries}/*", "-d", libraries, *sources], check=True)
    return f"{libraries}:{libraries}/*"


def stage(options, plugin, source, copy):
    millstream("topic", "create", copy, "--partitions", str(PARTITIONS), "--bootstrap", options.ours)
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "plugin.wasm"), "wb") as file:
            file.write(plugin)
        path = os.path.join(folder, "pipeline.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(
                f"pipeline: {copy}\nplugins:\n  plugin: {{file: plugin.wasm, config: {JOBS[options.job][1]}}}\n"
                f"stages:\n  copy: {{from: {source}, plugin: plugin, to: {copy}, parallelism: {THREADS}}}\n"
            )
        millstream("apply", path, "--admin", options.admin)
    measured = rate(options.ours, copy, options.records)
    millstream("pipeline", "delete", copy, "--admin", options.admin)
    return measured


def streams(options, classes, source, copy, guarantee):
    millstream("topic", "create", copy, "--partitions", str(PARTITIONS), "--bootstrap", options.peer)
    command = ["java", "-Xmx1g", "-cp", classes, JOBS[options.job][2], options.peer, source, copy, str(THREADS), guarantee]
    running = subprocess.Popen(command)
    try:
        return rate(options.peer, copy, options.records)
    finally:
        running.terminate()
        running.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, metavar="HOST:PORT")
    parser.add_argument("--admin", required=True, metavar="HOST:PORT")
    parser.add_argument("--job", choices=JOBS, default="identity")
    parser.add_argument("--peer", metavar="HOST:PORT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--records", type=int, default=3_000_000)
    parser.add_argument("--size", type=int, default=100)
    options = parser.parse_args()
    mark = str(os.getpid())
    source = f"{options.job}-in-{mark}"
    (directory, name), _, _ = JOBS[options.job]
    plugin = guest(directory, name)
    fill(options.ours, source, options)
    classes = None
    if options.peer:
        classes = classpath()
        fill(options.peer, source, options)
    found = {}
    for pair in range(1, options.rounds + 1):
        runs = {"stage": stage(options, plugin, source, f"{options.job}-out-{mark}-{pair}")}
        if options.peer:
            copy = f"{options.job}-out-{mark}-{pair}"
            runs["streams"] = streams(options, classes, source, copy, "at_least_once")
        for name, measured in runs.items():
            found.setdefault(name, []).append(measured)
            print(f"pair {pair}: {name} {measured:.0f} records/s", flush=True)
    for name, measured in found.items():
        print(f"median {name}: {statistics.median(measured):.0f} records/s")
    if options.peer:
        ratios = [a / b for a, b in zip(found["stage"], found["streams"])]
        print(f"ratio stage / streams: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
