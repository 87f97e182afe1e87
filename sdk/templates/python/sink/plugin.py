"""my-plugin: polls records, writes a summary of each poll, and commits."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.run import RunError_Retry, RunError_Stop
from wit_world.imports import consumer, metrics, producer

POLL_MS = 1000


class Run(exports.Run):
    at_most: int

    def init(self, config: str) -> None:
        """Gets the pipeline's `config:` as JSON. An `Err` refuses it, and is shown to whoever deploys the plugin."""
        settings = json.loads(config) or {}
        unknown = settings.keys() - {"at_most"}
        if unknown:
            raise Err(f"unknown keys: {', '.join(sorted(unknown))}: there is at_most")
        at_most = settings.get("at_most")
        if not isinstance(at_most, int) or isinstance(at_most, bool) or at_most < 1:
            raise Err("`at_most` must be a number, 1 or more")
        # The instance of this class is not the one that `run` is called on.
        Run.at_most = at_most

    def run(self) -> None:
        """Goes on until the plugin is told to stop."""
        while True:
            try:
                self.sum_up()
            except Err as error:
                if isinstance(error.value, (RunError_Retry, RunError_Stop)):
                    raise
                # What a call of the host has answered.
                if isinstance(error.value, (consumer.Error_Stopping, producer.Error_Stopping)):
                    return
                # The group has given the partitions to another member, which gets these records again.
                if isinstance(error.value, consumer.Error_NotOwned):
                    continue
                if isinstance(error.value, (consumer.Error_Unavailable, producer.Error_Unavailable)):
                    raise Err(RunError_Retry(error.value.value)) from error
                raise Err(RunError_Stop(str(error.value))) from error

    def sum_up(self) -> None:
        messages = consumer.poll(self.at_most, POLL_MS)
        if not messages:
            return
        lengths = [len(message.value or b"") for message in messages]
        metrics.counter("records", len(messages))
        summary = {"records": len(messages), "bytes": sum(lengths), "longest": max(lengths)}
        producer.send([producer.Message(None, None, None, None, json.dumps(summary).encode(), [])])
        # Writes the summary, and then the offsets of what was polled.
        consumer.commit()
