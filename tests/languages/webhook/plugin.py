"""Posts what it polls, a line for each record, and commits when it is taken."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.run import RunError_Retry, RunError_Stop
from wit_world.imports import consumer, http


class Run(exports.Run):
    url: str

    def init(self, config: str) -> None:
        url = (json.loads(config) or {}).get("url")
        if not isinstance(url, str):
            raise Err("`url` must be a text")
        Run.url = url

    def run(self) -> None:
        while True:
            try:
                self.post()
            except Err as error:
                if isinstance(error.value, (consumer.Error_Stopping, http.Error_Stopping)):
                    return
                if isinstance(error.value, consumer.Error_NotOwned):
                    continue
                if isinstance(error.value, (consumer.Error_Unavailable, http.Error_Unavailable)):
                    raise Err(RunError_Retry(error.value.value)) from error
                raise Err(RunError_Stop(str(error.value))) from error

    def post(self) -> None:
        messages = consumer.poll(500, 1000)
        if not messages:
            return
        body = b"".join((message.value or b"") + b"\n" for message in messages)
        headers = [http.Header("content-type", "text/plain")]
        response = http.send(http.Request("POST", self.url, headers, body, 10_000))
        if response.status >= 300:
            raise Err(http.Error_Unavailable(f"{self.url} answers {response.status}"))
        consumer.commit()
