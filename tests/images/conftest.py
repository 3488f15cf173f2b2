"""Fixtures of the image tests: jobs done in this process, and layers made from tars in memory."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cellbox.images.content import ContentStore
from cellbox.images.jobs import JOBS
from cellbox.images.snapshots import LayerStore, Staged, Work
from cellbox.model.image import OCI_LAYER


@pytest.fixture(autouse=True)
def _root_only(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("only root may give files away and make device nodes")


@pytest.fixture
def work() -> Work:
    """Does jobs in this process."""
    return lambda job, args, fds: JOBS[job](args, list(fds))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of an empty store."""
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def content(root: Path) -> ContentStore:
    return ContentStore(root)


@pytest.fixture
def layers(root: Path, work: Work) -> LayerStore:
    return LayerStore(root, work)


@pytest.fixture
def make_tar() -> Callable[..., bytes]:
    """A tar of (name, fields) pairs by Python's own writer; a bytes value is a file's data."""

    def make(*members: tuple[str, object], format: int = tarfile.PAX_FORMAT) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as archive:
            for name, what in members:
                info = tarfile.TarInfo(name)
                fields = {"data": what} if isinstance(what, bytes) else dict(what)
                data = fields.pop("data", b"")
                info.size = len(data)
                for key, value in fields.items():
                    setattr(info, key, value)
                archive.addfile(info, io.BytesIO(data))
        return out.getvalue()

    return make


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Callable[[bytes], int]]:
    """Turns bytes into a descriptor to read them from."""
    opened = []

    def make(data: bytes) -> int:
        path = tmp_path / f"stream-{len(opened)}"
        path.write_bytes(data)
        opened.append(os.open(path, os.O_RDONLY))
        return opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


@pytest.fixture
def apply(layers: LayerStore, stream) -> Callable[[bytes], Staged]:
    """Stages a layer from the bytes of its tar; compressed, for good measure."""

    def do(data: bytes, diff_id: str = "") -> Staged:
        return layers.apply(diff_id, OCI_LAYER + "+gzip", stream(gzip.compress(data, 1)))

    return do
