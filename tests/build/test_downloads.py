"""What ADD fetches, from a server on loopback."""

from __future__ import annotations

import hashlib
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cellbox.build import downloads
from cellbox.errors import InvalidArgument

DIGEST = "sha256:" + hashlib.sha256(b"data").hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = {"/f": 200, "/d/": 200, "/moved": 302, "/loop": 302}
        self.send_response(known.get(self.path, 404))
        if self.path in ("/moved", "/loop"):
            self.send_header("Location", "/f" if self.path == "/moved" else "/loop")
        self.send_header("Last-Modified", "Thu, 01 Jan 1970 00:01:40 GMT")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"data")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "name"), [("f", "f"), ("moved", "moved"), ("d/", "__unnamed__")])
def test_a_file_is_fetched(server, path, name):
    with ExitStack() as held:
        found = downloads.fetched(f"{server}/{path}", held, DIGEST)
        assert (found.name, found.node.mode, found.node.mtime) == (name, 0o600, 100.0)
        with found.node.open() as file:
            assert file.read() == b"data"


@pytest.mark.parametrize(
    ("path", "checksum", "said"),
    [
        ("none", "", "failed to load .*: invalid response status 404"),
        ("loop", "", "failed to load .*too many redirects"),
        ("f", "sha256:" + "0" * 64, "digest mismatch"),
    ],
)
def test_what_cannot_be_had(server, path, checksum, said):
    with ExitStack() as held, pytest.raises(InvalidArgument, match=said):
        downloads.fetched(f"{server}/{path}", held, checksum)


def test_too_much(server, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_SIZE", 3)
    with ExitStack() as held, pytest.raises(InvalidArgument, match="larger than 3 bytes"):
        downloads.fetched(f"{server}/f", held)


def test_a_build_adds_it(server, build, context):
    line = f"ADD --checksum={DIGEST} {server}/f /x/"
    image = build(context(f"FROM busybox\n{line}\nCMD cat /x/f; stat -c %a.%Y /x/f\n"))
    assert build.run(image) == "data600.100\n"
