"""Programs that speak Docker's plugin protocol, for tests: real HTTP on a real socket."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Answer = Json | bytes | tuple[int, Any]
Answers = dict[str, Answer | Callable[[Json], Answer]]


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    answers: Answers
    calls: list[tuple[str, Json]]


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's ``answers`` say, and notes ``calls`` there."""

    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        method = self.path[1:]
        self.server.calls.append((method, body))
        answer = self.server.answers.get(method, (404, b"404 page not found\n"))
        if callable(answer):
            answer = answer(body)
        status, told = answer if isinstance(answer, tuple) else (200, answer)
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.docker.plugins.v1.1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


@contextmanager
def program(socket: Path, answers: Answers) -> Iterator[list[tuple[str, Json]]]:
    """A program on ``socket`` that answers as it is told, by method; the calls that it got."""
    socket.parent.mkdir(parents=True, exist_ok=True)
    with _Server(str(socket), Handler) as server:
        server.answers, server.calls = answers, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.calls
        finally:
            server.shutdown()
            thread.join()
            socket.unlink(missing_ok=True)


def shelves(folder: Path) -> Answers:
    """A volume plugin whose volumes are directories of ``folder``, mounted by a link each."""

    def volume(body: Json) -> Path:
        return folder / body["Name"]

    def create(body: Json) -> Json:
        volume(body).mkdir(exist_ok=True)
        return {"Err": ""}

    def remove(body: Json) -> Json:
        if not volume(body).is_dir():
            return {"Err": f"no such volume {body['Name']}"}
        shutil.rmtree(volume(body))
        return {"Err": ""}

    def where(body: Json) -> Json:
        return {"Mountpoint": str(volume(body)), "Err": ""}

    return {
        "Plugin.Activate": {"Implements": ["VolumeDriver"]},
        "VolumeDriver.Create": create,
        "VolumeDriver.Remove": remove,
        "VolumeDriver.Mount": where,
        "VolumeDriver.Path": where,
        "VolumeDriver.Unmount": {"Err": ""},
        "VolumeDriver.List": lambda body: {
            "Volumes": [{"Name": name} for name in os.listdir(folder)]
        },
        "VolumeDriver.Capabilities": {"Capabilities": {"Scope": "local"}},
    }
