"""A schema registry for tests: as much of the Confluent protocol as is used, and strict about it.

`DRIFTLINE_TEST_REGISTRY` names a real one instead (`http://host:port/path`), as docs/avro.md says for Apicurio's.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REAL = os.environ.get("DRIFTLINE_TEST_REGISTRY", "")


@dataclass
class Registry:
    """`asked`: paths that were asked for, of the made one; `down`: it answers 503."""

    url: str = REAL
    texts: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def register(self, subject: str, text: str) -> int:
        """Register a schema over HTTP, as a producer does; its id."""
        body = json.dumps({"schema": text}).encode()
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(f"{self.url}/subjects/{subject}/versions", body, headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(json.loads(answer.read())["id"])


@contextmanager
def registry() -> Iterator[Registry]:
    made = Registry()
    if REAL:
        yield made
        return

    class Pages(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.texts.append(given["schema"])
            self.say(200, {"id": len(made.texts)})

        def do_GET(self) -> None:
            made.asked.append(self.path)
            number = int(self.path.removeprefix("/schemas/ids/"))
            if made.down:
                self.say(503, {"error_code": 50003, "message": "down"})
            elif number <= len(made.texts):
                self.say(200, {"schema": made.texts[number - 1]})
            else:
                self.say(404, {"error_code": 40403, "message": "Schema not found"})

        def say(self, status: int, told: dict[str, object]) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
