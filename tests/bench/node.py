"""A node of a benchmark's own, over an empty directory, and guests for it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
BINARY = os.path.join(ROOT, "target/release/millstream")


class Node:
    def __init__(self, binary, kafka, admin):
        self.directory = tempfile.mkdtemp(prefix="millstream-bench-")
        self.binary, self.kafka = binary, kafka
        self.command = [binary, "up", "--data-dir", self.directory, "--listen", kafka, "--admin", admin]
        self.admin = f"http://{admin}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout.readline().startswith("ready"), "the node does not start"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        code = self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)
        assert code == 0, "the node did not stop cleanly"

    def request(self, method, path, body=None, content="application/json"):
        request = urllib.request.Request(self.admin + path, data=body, method=method)
        request.add_header("content-type", content)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            # Still an OSError, as others are that `swaps.py` tries again after, but with what the node says.
            raise OSError(f"{method} {path}: {error.code}: {error.read().decode(errors='replace')}") from error

    def upload(self, component):
        sha256 = hashlib.sha256(component).hexdigest()
        self.request("PUT", f"/v1/plugins/{sha256}", component, "application/wasm")
        return sha256

    def apply(self, text, plugins):
        """`plugins` are components, by the names of their files in `text`."""
        uploaded = {name: self.upload(component) for name, component in plugins.items()}
        request = {"file": "pipeline.yaml", "text": text, "plugins": uploaded}
        return json.loads(self.request("POST", "/v1/pipelines", json.dumps(request).encode()))

    def status(self):
        return json.loads(self.request("GET", "/v1/status"))

    def bench(self, *arguments):
        """A run of `millstream bench` against this node; its report."""
        command = [self.binary, "bench", arguments[0], "--bootstrap", self.kafka, "--json", *map(str, arguments[1:])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.strip(), f"{' '.join(command)}: {done.stderr.strip()}"
        report = json.loads(done.stdout)
        assert not report.get("error"), f"{' '.join(command)}: {report['error']}"
        return report


def guest(directory, name, *options):
    """Builds a guest, and is its component."""
    target = os.path.join(ROOT, "target/bench-guests")
    manifest = os.path.join(ROOT, directory, name, "Cargo.toml")
    command = ["cargo", "build", "--quiet", "--locked", "--profile", "guest", "--target", "wasm32-wasip2"]
    subprocess.run([*command, "--manifest-path", manifest, "--target-dir", target, *options], check=True)
    file = os.path.join(target, "wasm32-wasip2/guest", name.replace("-", "_") + ".wasm")
    with open(file, "rb") as component:
        return component.read()
