"""A plugin as an image: a volume driver in Python, which it takes from the host's /usr."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import launcher_of, processes_of, wait_until

PROGRAM = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # pid 1 hears of no other way
import json, os, socketserver, sys
from http.server import BaseHTTPRequestHandler

def serve(method, body):
    path = "/data/" + body.get("Name", "")
    if method == "/Plugin.Activate":
        return {"Implements": ["VolumeDriver"]}
    if method == "/VolumeDriver.Create":
        os.makedirs(path, exist_ok=True)
        open(path + "/made", "w").write(os.environ.get("WORD", "") + " ".join(sys.argv[1:]))
    if method in ("/VolumeDriver.Mount", "/VolumeDriver.Path"):
        outside = os.environ.get("OUTSIDE")
        if outside:
            os.system("rm -rf " + path + "; ln -s " + outside + " " + path)
        return {"Mountpoint": os.environ.get("SAYS") or path}
    if method == "/VolumeDriver.Remove":
        os.system("rm -rf " + path)
    return {"Err": ""}

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        data = json.dumps(serve(self.path, body)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *_): pass
    def address_string(self): return ""

print("I am here", flush=True)
if os.environ.get("FAIL"):
    sys.exit("no luck")
socketserver.ThreadingUnixStreamServer("/run/docker/plugins/it.sock", Handler).serve_forever()
"""

CONFIG: dict[str, Any] = {
    "description": "Shelves",
    "interface": {"types": ["docker.volumedriver/1.0"], "socket": "it.sock"},
    "entrypoint": ["/usr/bin/python3", "-I", "/plugin.py"],
    "workdir": "/",
    "network": {"type": "none"},
    "propagatedMount": "/data",
    "mounts": [
        {
            "name": "usr", "destination": "/usr", "type": "bind", "options": ["rbind", "ro"],
            "settable": ["source"],
        }
    ],
    "env": [
        {"name": name, "settable": ["value"], "value": ""}
        for name in ("WORD", "FAIL", "SAYS", "OUTSIDE")
    ] + [{"name": "FIXED", "value": "1"}],
    "args": {"name": "args", "settable": ["value"], "value": []},
}  # fmt: skip


def folder(path: Path, **changes: Any) -> Path:
    """What ``docker plugin create`` takes: a folder with config.json and rootfs/."""
    rootfs = path / "rootfs"
    for name in ("usr", "run/docker/plugins", "data", "proc", "dev", "tmp", "etc"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64", "bin"):
        if Path("/", name).is_symlink() and not (rootfs / name).is_symlink():
            os.symlink(f"usr/{name}", rootfs / name)
    (rootfs / "plugin.py").write_text(PROGRAM)
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return path


def archive(path: Path, **changes: Any) -> io.BytesIO:
    """The same as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(folder(path, **changes), ".")
    out.seek(0)
    return out


@contextmanager
def taken_down(engine: Any, run: Path) -> Iterator[None]:
    """Afterwards nothing is left of the plugins of ``engine``, whose run directory is ``run``."""
    if not Path("/usr/bin/python3").exists() or not Path("/lib").is_symlink():
        pytest.skip("needs /usr/bin/python3, and /lib in /usr")
    yield
    for one in engine.plugins.list():
        if one.managed:
            engine.plugins.remove(one.name, force=True)
    inner = run / "plugins-of"
    pid = launcher_of(inner)
    if pid:
        os.kill(pid, 9)
    wait_until(lambda: not processes_of(inner))
