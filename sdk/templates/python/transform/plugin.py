"""my-plugin: keeps the records whose value contains a text, and masks another text in them."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.transform import BatchOutput, Message, MessageBody, Output
from wit_world.imports import log
from wit_world.imports.types import BatchInfo, RejectedRecord


class Transform(exports.Transform):
    contains: str
    mask: str | None

    def init(self, config: str) -> None:
        """Gets the pipeline's `config:` as JSON. An `Err` refuses it, and is shown to whoever deploys the plugin."""
        settings = json.loads(config) or {}
        unknown = settings.keys() - {"contains", "mask"}
        if unknown:
            raise Err(f"unknown keys: {', '.join(sorted(unknown))}: there are contains and mask")
        for key in ("contains", "mask"):
            value = settings.get(key)
            if not (isinstance(value, str) and value) and not (key == "mask" and value is None):
                raise Err(f"`{key}` must be a text that is not empty")
        # The instance of this class is not the one that `transform` is called on.
        Transform.contains, Transform.mask = settings["contains"], settings.get("mask")
        log.log(log.Level.INFO, f"keeps what contains {Transform.contains}")

    def transform(self, batch: BatchInfo, messages: list[Message]) -> BatchOutput:
        """Gets one batch. A record without an output is dropped."""
        outputs, rejected = [], []
        for index, message in enumerate(messages):
            if message.value is None:
                rejected.append(RejectedRecord(index, "the value is null"))
                continue
            try:
                text = message.value.decode()
            except UnicodeDecodeError:
                rejected.append(RejectedRecord(index, "the value is not UTF-8"))
                continue
            if self.contains not in text:
                continue
            # Without a body the record goes on as it is.
            body = None
            if self.mask and self.mask in text:
                masked = text.replace(self.mask, "***").encode()
                body = MessageBody(message.key, masked, message.headers)
            outputs.append(Output(index, None, None, None, body))
        return BatchOutput(outputs, rejected)
