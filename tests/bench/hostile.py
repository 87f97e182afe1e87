#!/usr/bin/env python3
"""Measures what a client notices of plugins that mean harm, all of them at work on the same node.

    tests/bench/hostile.py [--rate 5000] [--records 60000] [--rounds 5]

A node of its own runs over an empty directory, with a stage for each thing that the guest `hostile` can do to its host:
loop, recurse, eat memory, flood the host with outputs, handles, calls, lines and arguments, sleep, trap. Each skips the record that
killed its plugin and goes on, and each gets the next such record every tenth of a second. Rounds alternate: the stages
are not there; instead of them another process computes without a pause, on one core, which is what plugins may take of
two; the stages are there and are fed. What is measured is `millstream bench latency`, from a record's due time until
a consumer has it, on a topic of its own.

Linux with autogroups (`kernel.sched_autogroup_enabled`, which a desktop has, and a server under systemd has no use for)
was seen to leave threads of the kernel without a processor for 400 ms while this runs, and with them the disk.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time

from node import BINARY, Node, guest

SHORT = "{call_timeout_ms: 500}"
LARGE = "{call_timeout_ms: 2000, memory_bytes_max: 201326592}"
CASES = {
    "panic": SHORT,
    "loop": SHORT,
    "recurse": SHORT,
    "eat memory": SHORT,
    "flood outputs": SHORT,
    "giant output": LARGE,
    "flood handles": SHORT,
    "flood log": SHORT,
    "sleep": SHORT,
    "a million calls": SHORT,
    "call for ever": SHORT,
    "huge argument": LARGE,
    "trap half way": SHORT,
}


def name(case):
    return case.replace(" ", "-")


def pipeline():
    text = "pipeline: hostile\ntopics:\n  out: {partitions: 1}\n  bystander: {partitions: 6}\n"
    text += "".join(f"  in-{name(case)}: {{partitions: 1}}\n" for case in CASES)
    plugins, stages = "plugins:\n", "stages:\n"
    for case, limits in CASES.items():
        plugins += f"  {name(case)}: {{file: hostile.wasm, limits: {limits}}}\n"
        stages += f"  {name(case)}: {{from: in-{name(case)}, plugin: {name(case)}, to: out, on_error: skip}}\n"
    return text + plugins + stages


class Feed(threading.Thread):
    """Sends each stage what it must not survive, until it is told to stop."""

    def __init__(self, options, node):
        super().__init__(daemon=True)
        self.options, self.node, self.stopping = options, node, threading.Event()

    def run(self):
        senders = []
        for case in CASES:
            command = [self.node.binary, "produce", "--bootstrap", self.node.kafka, "--topic", f"in-{name(case)}"]
            senders.append((case, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)))
        while not self.stopping.wait(0.1):
            for case, sender in senders:
                sender.stdin.write(case + "\n")
                sender.stdin.flush()
        for _, sender in senders:
            sender.stdin.close()
            sender.wait()


def beside_another_process(node, load):
    """What the client sees while another process takes a core."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return node.bench(*load)
    finally:
        other.kill()
        other.wait()


def crashes(node):
    stages = [stage for stage in node.status()["stages"] if stage["pipeline"] == "hostile"]
    calls = {stage["stage"]: stage["plugins"][0]["usage"] for stage in stages}
    return {stage: usage["failed_calls"] for stage, usage in calls.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    node = Node(options.binary, "127.0.0.1:19392", "127.0.0.1:19393")
    try:
        plugins = {"hostile.wasm": guest("tests/guests", "hostile")}
        node.apply(pipeline(), plugins)
        load = ("latency", "--topic", "bystander", "--rate", options.rate, "--records", options.records, "--size", 1024)
        node.bench(*load)
        found = {"without": [], "another process": [], "with": []}
        for turn in range(1, options.rounds + 1):
            # What is still queued would be at work for minutes.
            node.request("DELETE", "/v1/pipelines/hostile")
            found["without"].append(node.bench(*load)["end_to_end_ms"])
            found["another process"].append(beside_another_process(node, load)["end_to_end_ms"])
            node.apply(pipeline(), plugins)
            feed = Feed(options, node)
            feed.start()
            time.sleep(2)
            found["with"].append(node.bench(*load)["end_to_end_ms"])
            feed.stopping.set()
            feed.join()
            for which, runs in found.items():
                at = runs[-1]
                print(f"round {turn}, {which}: ms p50 {at['p50']:.2f} p99 {at['p99']:.2f} p99.9 {at['p99.9']:.2f}", flush=True)
        for which, runs in found.items():
            medians = {at: statistics.median(run[at] for run in runs) for at in ("p50", "p99", "p99.9")}
            print(f"median {which}: " + " ".join(f"{at} {value:.2f}" for at, value in medians.items()))
        print("calls that failed: " + ", ".join(f"{stage} {count}" for stage, count in crashes(node).items()))
        peak = [line for line in open(f"/proc/{node.process.pid}/status", encoding="ascii") if line.startswith("VmHWM")]
        print(f"the node's memory at most: {int(peak[0].split()[1]) // 1024} MiB")
    finally:
        node.stop()


if __name__ == "__main__":
    main()
