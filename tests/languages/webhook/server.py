"""Writes the bodies of what is posted to a file. The second argument is a file for the port that it listens on."""

import http.server
import os
import sys


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.path == "/hook" and self.headers["content-type"] == "text/plain", self.headers
        with open(sys.argv[1], "ab") as received:
            received.write(body)
        self.send_response(204)
        self.end_headers()


server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
with open(sys.argv[2] + ".new", "w") as port:
    port.write(str(server.server_port))
os.rename(sys.argv[2] + ".new", sys.argv[2])
server.serve_forever()
