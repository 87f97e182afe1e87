"""my-plugin: sends numbered records, one every so often, and goes on where it was."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.run import RunError_Retry, RunError_Stop
from wit_world.imports import positions, producer, timers


class Run(exports.Run):
    text: str
    every_ms: int
    last: int | None

    def init(self, config: str) -> None:
        """Gets the pipeline's `config:` as JSON. An `Err` refuses it, and is shown to whoever deploys the plugin."""
        settings = json.loads(config) or {}
        unknown = settings.keys() - {"text", "every_ms", "last"}
        if unknown:
            raise Err(f"unknown keys: {', '.join(sorted(unknown))}: there are text, every_ms and last")
        if not isinstance(settings.get("text"), str):
            raise Err("`text` must be a text")
        for key in ("every_ms", "last"):
            value = settings.get(key)
            is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            if not is_number and not (key == "last" and value is None):
                raise Err(f"`{key}` must be a number, 0 or more")
        # The instance of this class is not the one that `run` is called on.
        Run.text, Run.every_ms, Run.last = settings["text"], settings["every_ms"], settings.get("last")

    def run(self) -> None:
        """To return means that the work is done; when the plugin is told to stop, that it has stopped."""
        try:
            self.tick()
        except Err as error:
            # What a call of the host has answered.
            if isinstance(error.value, (producer.Error_Stopping, positions.Error_Stopping, timers.Error_Stopping)):
                return
            if isinstance(error.value, (producer.Error_Unavailable, positions.Error_Unavailable)):
                raise Err(RunError_Retry(error.value.value)) from error
            raise Err(RunError_Stop(str(error.value))) from error

    def tick(self) -> None:
        number = int(positions.load() or b"0")
        while self.last is None or number < self.last:
            number += 1
            value = f"{self.text} {number}".encode()
            producer.send([producer.Message(None, None, None, None, value, [])])
            # In one commit with the record.
            positions.save(str(number).encode())
            timers.sleep(self.every_ms)
