"""Programs that speak Docker's plugin protocol, for tests: real HTTP on a real socket."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import socketserver
import subprocess
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


def cables(run: Callable[..., str], made: dict[str, Any] | None = None) -> Answers:
    """A network plugin: each network is a bridge, each endpoint a veth that is laid when it is
    joined. ``run`` executes ``ip``; ``made`` is what it answers besides to CreateEndpoint and
    Join."""
    more = made or {}

    def bridge(body: Json) -> str:
        return f"tb-{body['NetworkID'][:10]}"

    def host(body: Json) -> str:
        return f"th-{body['EndpointID'][:10]}"

    def create(body: Json) -> Json:
        run("ip", "link", "add", bridge(body), "type", "bridge")
        run("ip", "link", "set", bridge(body), "up")
        for pool in body["IPv4Data"]:
            if pool.get("Gateway"):
                run("ip", "address", "add", pool["Gateway"], "dev", bridge(body))
        return {}

    def remove(body: Json) -> Json:
        run("ip", "link", "del", bridge(body))
        return {}

    def join(body: Json) -> Json:
        inner = f"tc-{body['EndpointID'][:10]}"
        run("ip", "link", "add", host(body), "type", "veth", "peer", "name", inner)
        run("ip", "link", "set", host(body), "up", "master", bridge(body))
        name = {"SrcName": inner, "DstPrefix": "eth"}
        told = {"InterfaceName": name, "DisableGatewayService": True}
        return {**told, **more.get("Join", {})}

    def delete(body: Json) -> Json:
        with contextlib.suppress(subprocess.CalledProcessError):
            run("ip", "link", "del", host(body))
        return {}

    return {
        "Plugin.Activate": {"Implements": ["NetworkDriver"]},
        "NetworkDriver.GetCapabilities": {"Scope": "local"},
        "NetworkDriver.CreateNetwork": create,
        "NetworkDriver.DeleteNetwork": remove,
        "NetworkDriver.CreateEndpoint": {"Interface": more.get("CreateEndpoint", {})},
        "NetworkDriver.EndpointOperInfo": {"Value": {}},
        "NetworkDriver.Join": join,
        "NetworkDriver.Leave": {},
        "NetworkDriver.DeleteEndpoint": delete,
        "NetworkDriver.ProgramExternalConnectivity": {},
        "NetworkDriver.RevokeExternalConnectivity": {},
        "NetworkDriver.DiscoverNew": {},
        "NetworkDriver.DiscoverDelete": {},
    }


def ledger(pool: str = "10.77.0.0/24", *, mac: bool = False) -> tuple[Answers, set[str]]:
    """An IPAM plugin with one pool, and what it has given of that: addresses, and the pool."""
    given: set[str] = set()
    network, lock = ipaddress.ip_network(pool), threading.Lock()

    def take_pool(body: Json) -> Json:
        if body["Pool"] not in ("", pool) or body["V6"]:
            return {"Error": f"{body['Pool']} is not ours"}
        given.add(pool)
        return {"PoolID": "pool one", "Pool": pool, "Data": {}}

    def take(body: Json) -> Json:
        with lock:
            return really_take(body)

    def really_take(body: Json) -> Json:
        free = (str(one) for one in network.hosts() if str(one) not in given)
        address = body["Address"] or next(free)
        if address in given:
            return {"Error": f"{address} is taken"}
        given.add(address)
        return {"Address": f"{address}/{network.prefixlen}", "Data": {}}

    def drop(body: Json) -> Json:
        given.discard(body["Address"])
        return {}

    def drop_pool(body: Json) -> Json:
        given.discard(pool)
        return {}

    spaces = {"LocalDefaultAddressSpace": "near", "GlobalDefaultAddressSpace": "far"}
    answers: Answers = {
        "Plugin.Activate": {"Implements": ["IpamDriver"]},
        "IpamDriver.GetCapabilities": {"RequiresMACAddress": mac},
        "IpamDriver.GetDefaultAddressSpaces": spaces,
        "IpamDriver.RequestPool": take_pool,
        "IpamDriver.ReleasePool": drop_pool,
        "IpamDriver.RequestAddress": take,
        "IpamDriver.ReleaseAddress": drop,
    }
    return answers, given


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
