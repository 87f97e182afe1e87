#!/usr/bin/env python3
"""Swaps a stage's plugin again and again under load, and counts what is lost, doubled or late.

    PYTHON tests/bench/swaps.py [--swaps 100] [--rate 50000] [--kills 0]

PYTHON needs confluent-kafka: tests/clients/python/run.sh makes a virtual environment that has it. A node of its own
runs over an empty directory. An idempotent producer numbers its records; a stage of two tasks copies them with an
identity plugin, whose versions are deployed in turn over HTTP, while the copies are read. With --kills the node is
killed (SIGKILL) so many times meanwhile, and started again: then the last copies before a kill may be doubled, since
delivery is at least once; nothing may be lost.

What a swap costs is told by the node: stage_plugin_swap_seconds, from one batch to the next. What it costs a reader is
the longest time without a copy around it, beside the same without a swap.
"""

import argparse
import json
import os
import random
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from node import BINARY, ROOT, Node

PARTITIONS = 6
VALUE_BYTES = 100
PIPELINE = """pipeline: swaps
plugins: {identity: identity.wasm}
stages:
  copy: {from: in, plugin: identity, to: out, parallelism: 2}
"""


def deploy(node, sha256):
    path = "/v1/pipelines/swaps/plugins/identity/deploy"
    return json.loads(node.request("POST", path, json.dumps({"sha256": sha256}).encode()))


def swap_buckets(node):
    text = node.request("GET", "/metrics").decode()
    buckets = {}
    for line in text.splitlines():
        if line.startswith("millstream_stage_plugin_swap_seconds_bucket"):
            bound = float(line.split('le="')[1].split('"')[0].replace("+Inf", "inf"))
            buckets[bound] = buckets.get(bound, 0) + int(float(line.split()[-1]))
    return sorted(buckets.items())


class Load(threading.Thread):
    """Numbers from 0 on, so many a second, until it is told to stop."""

    def __init__(self, bootstrap, rate):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        self.producer = Producer({**settings, "message.timeout.ms": 120000, "queue.buffering.max.messages": 1000000})
        self.rate, self.stopping, self.failed = rate, threading.Event(), 0
        self.acknowledged = set()

    def delivered(self, error, message):
        if error is None:
            self.acknowledged.add(int(message.value()[:12]))
        else:
            self.failed += 1

    def run(self):
        started, number = time.monotonic(), 0
        while not self.stopping.is_set():
            due = int((time.monotonic() - started) * self.rate)
            while number < due:
                value = f"{number:012}".encode().ljust(VALUE_BYTES, b".")
                try:
                    self.producer.produce("in", value, partition=number % PARTITIONS, on_delivery=self.delivered)
                    number += 1
                except BufferError:
                    self.producer.poll(0.01)
            self.producer.poll(0.001)
        assert self.producer.flush(120) == 0, "not everything is acknowledged or refused"


class Copies(threading.Thread):
    """What arrives, and when."""

    def __init__(self, bootstrap):
        super().__init__(daemon=True)
        settings = {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, "log_level": 0}
        self.consumer = Consumer({**settings, "fetch.wait.max.ms": 5, "auto.offset.reset": "earliest"})
        self.consumer.assign([TopicPartition("out", partition, 0) for partition in range(PARTITIONS)])
        self.times, self.arrivals, self.stopping = {}, [], threading.Event()

    def run(self):
        while not self.stopping.is_set():
            messages = self.consumer.consume(5000, 0.002)
            found = [message for message in messages if message.error() is None]
            if found:
                self.arrivals.append(time.monotonic())
            for message in found:
                number = int(message.value()[:12])
                self.times[number] = self.times.get(number, 0) + 1


def quantile(buckets, part):
    """The upper bound of the bucket that it lies in."""
    wanted = buckets[-1][1] * part
    return next(bound for bound, count in buckets if count >= wanted)


def gap_around(arrivals, moment, radius):
    inside = [arrival for arrival in arrivals if moment - radius <= arrival <= moment + radius]
    return max((b - a for a, b in zip(inside, inside[1:])), default=float("nan"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--rate", type=int, default=50000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", default=BINARY)
    parser.add_argument("--plugin", default=os.path.join(ROOT, "target/guests/wasm32-wasip2/guest/identity.wasm"))
    options = parser.parse_args()
    dice = random.Random(options.seed)
    bootstrap = "127.0.0.1:29192"
    node = Node(options.binary, bootstrap, "127.0.0.1:29744")
    topics = [NewTopic(name, PARTITIONS, 1) for name in ("in", "out")]
    creator = AdminClient({"bootstrap.servers": bootstrap})
    for created in creator.create_topics(topics).values():
        created.result()
    with open(options.plugin, "rb") as file:
        component = file.read()
    # The same code under two hashes: a custom section is for anyone.
    versions = [component, component + bytes([0, 3, 1, ord("n"), 7])]
    hashes = [node.upload(version) for version in versions]
    node.apply(PIPELINE, {"identity.wasm": versions[0]})

    load, copies = Load(bootstrap, options.rate), Copies(bootstrap)
    copies.start()
    load.start()
    time.sleep(3)
    kill_at = set(dice.sample(range(5, options.swaps), options.kills))
    swaps, buckets = [], []
    for number in range(1, options.swaps + 1):
        if number in kill_at:
            node.kill()
            node.start()
        swaps.append(time.monotonic())
        while True:
            try:
                deployed = deploy(node, hashes[number % 2])
                break
            except OSError:
                time.sleep(0.05)
        assert deployed["swapped"] == ["copy"] or number in kill_at, deployed
        time.sleep(dice.uniform(0.05, 0.25))
    buckets = swap_buckets(node)
    load.stopping.set()
    load.join()
    deadline = time.monotonic() + 60
    while len(copies.times) < len(load.acknowledged) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    copies.stopping.set()
    copies.join()
    copies.consumer.close()
    node.stop()

    lost = load.acknowledged - copies.times.keys()
    doubled = sum(times - 1 for times in copies.times.values())
    seconds = swaps[-1] - swaps[0]
    print(f"{options.swaps} swaps in {seconds:.0f} s, {options.kills} kills; {len(load.acknowledged)} records acknowledged, {load.failed} not")
    print(f"lost {len(lost)}, doubled {doubled}")
    parts = [f"p{part * 100:g} <= {quantile(buckets, part) * 1000:.2f} ms" for part in (0.5, 0.99, 1.0)]
    print(f"a task between two batches, {buckets[-1][1]} times: {', '.join(parts)}")
    with_swap = sorted(gap_around(copies.arrivals, moment, 0.05) for moment in swaps)
    without = sorted(gap_around(copies.arrivals, copies.arrivals[0] + 0.5 + 0.02 * step, 0.05) for step in range(100))
    show = lambda gaps: f"p50 {gaps[len(gaps) // 2] * 1000:.1f} ms, p99 {gaps[int(len(gaps) * 0.99) - 1] * 1000:.1f} ms"
    print(f"longest wait of a reader within 50 ms: at a swap {show(with_swap)}; without {show(without)}")
    assert not lost and (options.kills > 0 or doubled == 0)


main()
