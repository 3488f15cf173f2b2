"""A registry that does as it is told: a real server on loopback, with a table of misbehaviour.

``registry.on(method, pattern, behaviour, times)`` lets the next ``times`` requests that match be
answered by ``behaviour``; all others are answered correctly. ``registry.seen`` lists what arrived.
"""

import contextlib
import gzip
import hashlib
import io
import json
import re
import socket
import tarfile
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from cellbox.errors import IntegrityError
from cellbox.images.content import ContentStore
from cellbox.model.image import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Platform,
)
from cellbox.model.reference import parse
from cellbox.registry.client import Client
from cellbox.registry.config import Settings
from cellbox.registry.retry import Policy, Stop
from cellbox.registry.transfer import pull
from cellbox.registry.transport import Transport

AMD64 = Platform("linux", "amd64")
QUICK = Policy(connect=2.0, stall=5.0, first_wait=0.001, longest_wait=10.0)


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict
    body: bytes = b""


@dataclass
class Rule:
    """Answer the next ``times`` matching requests with ``behaviour``."""

    method: str
    pattern: str
    behaviour: object
    times: int


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def _serve(self):
        fake = self.server.fake
        headers = {name.title(): value for name, value in self.headers.items()}
        seen = Seen(self.command, self.path, headers)
        rule = fake.note(seen)
        if not getattr(rule and rule.behaviour, "reads", False):
            seen.body = self.body = self.rfile.read(int(headers.get("Content-Length", 0)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            (rule.behaviour if rule else fake.serve)(self)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _serve

    def reply(self, status, body=b"", **headers):
        """A whole answer; underscores in header names are dashes."""
        self.send_response(status)
        headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request, client_address):
        """A client that went away is part of the tests."""


@dataclass
class FakeRegistry:
    """A registry in memory. ``address`` is ``127.0.0.1:PORT``; ``gate`` guards requests, if set."""

    address: str = ""
    blobs: dict = field(default_factory=dict)
    manifests: dict = field(default_factory=dict)
    uploads: dict = field(default_factory=dict)
    mounts: bool = True
    seen: list = field(default_factory=list)
    rules: list = field(default_factory=list)
    gate: object = None
    lock: object = field(default_factory=threading.Lock)

    def on(self, method, pattern, behaviour, times=1):
        self.rules.append(Rule(method, pattern, behaviour, times))

    def note(self, seen):
        with self.lock:
            self.seen.append(seen)
            for rule in self.rules:
                if rule.times and rule.method == seen.method and re.search(rule.pattern, seen.path):
                    rule.times -= 1
                    return rule
        return None

    def requests(self, method, pattern):
        with self.lock:
            return [
                one for one in self.seen if one.method == method and re.search(pattern, one.path)
            ]

    def serve(self, handler):
        """The right answer."""
        if self.gate and not self.gate(handler):
            return
        path = urllib.parse.urlsplit(handler.path).path
        kind, _, name = path.rpartition("/")
        if "/blobs/uploads/" in path or handler.command == "PUT":
            self.serve_upload(handler)
        elif path == "/v2/":
            handler.reply(200, b"{}")
        elif kind.endswith("/manifests") and name in self.manifests:
            media_type, data = self.manifests[name]
            digest = digest_of(data)
            handler.reply(200, data, Content_Type=media_type, Docker_Content_Digest=digest)
        elif kind.endswith("/blobs") and name in self.blobs:
            self.serve_blob(handler, self.blobs[name])
        else:
            code = "MANIFEST_UNKNOWN" if "/manifests" in path else "BLOB_UNKNOWN"
            error = {"errors": [{"code": code, "message": "it is unknown"}]}
            handler.reply(404, json.dumps(error).encode())

    def serve_blob(self, handler, data):
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if match is None:
            handler.reply(200, data)
        elif int(match[1]) >= len(data):
            handler.reply(416)
        else:
            start = int(match[1])
            content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
            handler.reply(206, data[start:], Content_Range=content_range)

    def serve_upload(self, handler):
        """The right answer to what writes, or asks how far that came."""
        url = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        number = url.path.rpartition("/")[2]
        if "/manifests/" in url.path:
            kind = handler.headers["Content-Type"]
            found = self.put_manifest(handler.body, kind, number)
            handler.reply(201, Docker_Content_Digest=found.digest)
        elif handler.command == "POST" and self.mounts and query.get("mount") in self.blobs:
            handler.reply(201, Location=f"/v2/blobs/{query['mount']}")
        elif handler.command == "POST":
            with self.lock:
                number = str(len(self.uploads) + 1)
                self.uploads[number] = b""
            handler.reply(202, Location=f"{url.path}{number}")
        elif self.uploads.get(number) is None:
            handler.reply(404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"lost"}]}')
        elif handler.command == "PATCH":
            self.uploads[number] += handler.body
            handler.reply(202, Location=f"{url.path}?state={len(self.uploads[number])}")
        elif handler.command == "PUT":
            data, self.uploads[number] = self.uploads[number] + handler.body, None
            self.finish_upload(handler, query["digest"], data)
        else:
            end = max(len(self.uploads[number]) - 1, 0)
            handler.reply(204, Location=url.path, Range=f"0-{end}")

    def finish_upload(self, handler, digest, data):
        if digest_of(data) != digest:
            handler.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"wrong bytes"}]}')
            return
        handler.reply(201, Docker_Content_Digest=self.put_blob(data))

    def put_blob(self, data):
        digest = digest_of(data)
        self.blobs[digest] = data
        return digest

    def put_manifest(self, document, media_type, tag=""):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(data)
        self.manifests[digest] = (media_type, data)
        if tag:
            self.manifests[tag] = (media_type, data)
        return Descriptor(media_type, digest, len(data))

    def put_image(self, layers=3, tag="latest", size=3000, platform=AMD64):
        """An image of ``layers`` small gzip layers under ``tag``; what it consists of."""
        tars = [_tar(f"{tag}-{number}", size) for number in range(layers)]
        encoded = [gzip.compress(tar, mtime=0) for tar in tars]
        config = {
            "os": platform.os,
            "architecture": platform.architecture,
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
        config_data = json.dumps(config).encode()
        self.put_blob(config_data)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _described(OCI_CONFIG, config_data),
            "layers": [_described(f"{OCI_LAYER}+gzip", data) for data in encoded],
        }
        for data in encoded:
            self.put_blob(data)
        manifest = self.put_manifest(document, OCI_MANIFEST, tag)
        return SimpleNamespace(
            manifest=manifest,
            document=document,
            config=config_data,
            tars=tars,
            blobs=encoded,
            digests=[digest_of(data) for data in encoded],
            diff_ids=config["rootfs"]["diff_ids"],
            reference=parse(f"{self.address}/lab/tool:{tag}"),
        )

    def put_index(self, images, tag="latest"):
        """An index over ``(image, platform)`` pairs."""
        entries = [
            {
                "mediaType": image.manifest.media_type,
                "digest": image.manifest.digest,
                "size": image.manifest.size,
                "platform": {"os": platform.os, "architecture": platform.architecture},
            }
            for image, platform in images
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return self.put_manifest(document, OCI_INDEX, tag)


def _described(media_type, data):
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def _tar(name, size):
    noise = b"".join(
        hashlib.sha256(f"{name}{number}".encode()).digest() for number in range(size // 32 + 1)
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = size
        tar.addfile(info, io.BytesIO(noise))
    return buffer.getvalue()


@contextlib.contextmanager
def _serving(fake, wrap=None):
    server = Server(("127.0.0.1", 0), Handler)
    server.fake = fake
    if wrap:
        server.socket = wrap(server.socket)
    fake.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def registry():
    with _serving(FakeRegistry()) as fake:
        yield fake


@pytest.fixture
def other_host():
    """A second server: another origin."""
    with _serving(FakeRegistry()) as fake:
        yield fake


@pytest.fixture
def serving():
    """``serving(fake, wrap)``: run one more registry; ``wrap`` makes its socket one of TLS."""
    with contextlib.ExitStack() as stack:
        yield lambda fake=None, wrap=None: stack.enter_context(
            _serving(fake or FakeRegistry(), wrap)
        )


class QuickStop(Stop):
    """Notes the waits, and takes none."""

    def __init__(self, waits):
        super().__init__()
        self._waits = waits

    def wait(self, seconds):
        self._waits.append(seconds)
        super().wait(0)


class Layers:
    """An unpacker that keeps what it was given, and checks the diff id as a real one does."""

    def __init__(self):
        self.kept = {}
        self.runs = []

    def have(self, diff_id):
        return diff_id in self.kept

    def unpack(self, diff_id, media_type, fd):
        self.runs.append(diff_id)
        with open(fd, "rb", closefd=False) as file:
            data = file.read()
        try:
            tar = gzip.decompress(data)
        except (EOFError, OSError) as error:
            raise IntegrityError("layer", diff_id, f"no gzip: {error}") from error
        if digest_of(tar) != diff_id:
            raise IntegrityError("layer", diff_id, digest_of(tar))
        self.kept[diff_id] = tar
        return {"size": len(tar)}

    def complete(self, pulled, image, store):
        """Whether all of the image is here and what it should be."""
        assert [diff_id for _, diff_id, _ in pulled.layers] == image.diff_ids
        assert [blob.digest for blob, _, _ in pulled.layers] == image.digests
        assert all(self.kept[diff_id] for diff_id in image.diff_ids)
        assert all(store.verify(digest) for digest in image.digests)
        assert pulled.config == image.config
        assert store.partial() == 0
        return True


@pytest.fixture
def layers():
    return Layers()


@pytest.fixture
def store(tmp_path):
    return ContentStore(tmp_path / "store")


@pytest.fixture
def waits():
    """Seconds that were waited for, in order (none was)."""
    return []


@pytest.fixture
def make_client(waits):
    """``make_client(settings, credential, policy)``: a client that never really waits."""
    clients = []

    def make(settings=Settings(), credential=lambda host: None, policy=QUICK, **more):  # noqa: B008
        transport = Transport(policy, more.pop("certs"), **more) if "certs" in more else None
        client = Client(settings, credential, policy=policy, transport=transport, wait=waits.append)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def new_stop(waits):
    return lambda: QuickStop(waits)


@pytest.fixture
def bring(client, store, layers, new_stop):
    """``bring(image)``: pull it with everything set up for tests."""

    def run(image, **more):
        options = {
            "client": client,
            "store": store,
            "unpack": layers.unpack,
            "have_layer": layers.have,
            "platform": AMD64,
            "new_stop": new_stop,
        }
        return pull(getattr(image, "reference", image), **(options | more))

    return run


@pytest.fixture
def hashed():
    """The digest of some bytes."""
    return digest_of


class Behave:
    """The table of misbehaviour: each makes one answer."""

    @staticmethod
    def status(code, body=b"", **headers):
        return lambda handler: handler.reply(code, body, **headers)

    @staticmethod
    def redirect(target, code=307):
        return lambda handler: handler.reply(code, Location=target)

    @staticmethod
    def body(data, length=None):
        """``data`` as the body, whatever ``length`` says; then the connection ends."""

        def answer(handler):
            handler.reply(200, data, Content_Length=str(len(data) if length is None else length))
            handler.close_connection = True

        return answer

    @staticmethod
    def chunked(data, cut=False):
        def answer(handler):
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            handler.wfile.write(b"%x\r\n" % len(data))
            handler.wfile.write(data[: len(data) // 2] if cut else data + b"\r\n0\r\n\r\n")
            handler.close_connection = True

        return answer

    @staticmethod
    def reset(handler):
        handler.close_connection = True

    @staticmethod
    def cut_upload(fake, size):
        """Take ``size`` bytes of a body, then end the connection."""

        def answer(handler):
            data = handler.rfile.read(size)
            fake.uploads[handler.path.partition("?")[0].rpartition("/")[2]] += data
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

        answer.reads = True
        return answer

    @staticmethod
    def drip(data, pause):
        """A byte at a time, and between two of them ``pause()``, until it returns True."""

        def answer(handler):
            handler.reply(200, b"", Content_Length=str(len(data)))
            for byte in data:
                handler.wfile.write(bytes((byte,)))
                if pause():
                    break
            handler.close_connection = True

        return answer


@pytest.fixture
def behave():
    return Behave
