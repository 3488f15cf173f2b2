"""Variables into and out of a cell that runs Python in a container.

Values that JSON tells unchanged pass as JSON, pandas and Arrow tables as Arrow IPC files, all in a
directory that the container mounts: ``in`` read-only, ``out`` fresh and writable. ``inside`` is the
program that reads and writes them there.

What comes back was written by whatever ran in the container, so it is hostile until read: files are
opened without following links and must be regular, sizes are capped, names are those that were
asked for, Arrow data is validated in full, its metadata is ignored, and nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any

from cellbox.errors import InvalidArgument, NotSupported
from cellbox.model.container import MountKind, MountSpec, RunSpec

from . import humanize
from .inside import is_table, plain
from .outcome import calm

INSIDE = "/run/cellbox"
MAX_JSON = 64 << 20
MAX_TABLE = 2 << 30


class Exchange:
    """One cell's variables; a context that holds the shared directory.

    Raises NameError for an input that does not exist, InvalidArgument for one that cannot pass.
    """

    def __init__(
        self, names: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str], body: str
    ) -> None:
        for name in (*inputs, *outputs):
            if not name.isidentifier():
                raise InvalidArgument(
                    f"{name!r} is not the name of a variable (-i and -o name them)"
                )
        for name in inputs:
            if name not in names:
                raise calm(NameError(f"name {name!r} is not defined", name=name))
        self._inputs = {name: names[name] for name in inputs}
        self._outputs = tuple(dict.fromkeys(outputs))
        self._body = body
        self.script = resources.files(__package__).joinpath("inside.py").read_text("utf-8")
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def directory(self) -> Path:
        """The shared directory, on this side."""
        assert self._folder is not None, "an Exchange is used as a context"
        return Path(self._folder.name)

    def __enter__(self) -> Exchange:
        self._folder = tempfile.TemporaryDirectory(prefix="cellbox-", ignore_cleanup_errors=True)
        try:
            self._fill()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def spec(self, spec: RunSpec) -> RunSpec:
        """The request with the two directories mounted, and Python told to read its input."""
        mounts = (
            MountSpec(MountKind.BIND, f"{INSIDE}/in", str(self.directory / "in"), read_only=True),
            MountSpec(MountKind.BIND, f"{INSIDE}/out", str(self.directory / "out")),
        )
        return replace(spec, mounts=(*spec.mounts, *mounts))

    def collect(self) -> tuple[dict[str, Any], list[str]]:
        """The results by name, and a line about each; raises InvalidArgument for what is not
        safe."""
        if not self._outputs:
            return {}, []
        folder = os.open(self.directory / "out", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._collected(folder)
        finally:
            os.close(folder)

    def _collected(self, folder: int) -> tuple[dict[str, Any], list[str]]:
        manifest = _json(_bytes(folder, "manifest.json", MAX_JSON), "manifest.json")
        values, lines = {}, []
        for name in self._outputs:
            entry = manifest.get(name) if isinstance(manifest, dict) else None
            kind = entry.get("kind") if isinstance(entry, dict) else None
            if not isinstance(entry, dict) or kind not in ("json", "arrow", "pandas"):
                raise InvalidArgument(f"the cell did not write {name}, which -o asks for")
            data = _bytes(folder, name, MAX_JSON if kind == "json" else MAX_TABLE)
            values[name] = _json(data, name) if kind == "json" else _table(data, name, entry)
            lines.append(describe(name, values[name], len(data)))
        return values, lines

    def _fill(self) -> None:
        # The container's root is another user here: "in" is for all to read, "out" for all to
        # write, and the folder around them (mode 0700) keeps other users of this machine away from
        # both.
        into, out = self.directory / "in", self.directory / "out"
        into.mkdir()
        out.mkdir()
        kinds = {name: _give(into / name, name, value) for name, value in self._inputs.items()}
        manifest = {"inputs": kinds, "outputs": self._outputs}
        (into / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        (into / "cell.py").write_text(self._body, "utf-8")
        for path in into.iterdir():
            path.chmod(0o444)
        into.chmod(0o755)
        out.chmod(0o777)


def describe(name: str, value: Any, size: int) -> str:
    """``df 1,000,000 x 3, 28.7 MB``: what came back."""
    amount = humanize.size(size)
    number = amount.rstrip("BkMGTP")
    amount = f"{number} {amount[len(number) :]}"
    shape = getattr(value, "shape", None)
    if shape is not None and is_table(value):
        return f"{name} {shape[0]:,} x {shape[1]:,}, {amount}"
    return f"{name} {type(value).__name__}, {amount}"


def _give(path: Path, name: str, value: Any) -> str:
    """Write one input; how it was written."""
    if is_table(value):
        return _give_table(path, name, value)
    found = plain(value)
    if found is not None:
        raise InvalidArgument(
            f"{name} cannot go into the container: it holds a {type(found[0]).__name__}, and only "
            "JSON values and tables pass"
        )
    text = json.dumps(value)
    _fits(name, len(text), MAX_JSON)
    path.write_text(text, "utf-8")
    return "json"


def _give_table(path: Path, name: str, value: Any) -> str:
    arrow, ipc = _pyarrow(name)
    pandas = type(value).__name__ == "DataFrame"
    try:
        table = arrow.Table.from_pandas(value) if pandas else value
    except arrow.ArrowException as error:
        raise InvalidArgument(f"{name} cannot go into the container: {error}") from error
    _fits(name, table.nbytes, MAX_TABLE)
    with ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)
    return "pandas" if pandas else "arrow"


def _fits(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise InvalidArgument(
            f"{name} is too large to pass ({humanize.size(size)}; the limit is "
            f"{humanize.size(limit)}): mount a directory with -v instead"
        )


def _pyarrow(name: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise NotSupported(
            f"{name} is a table, and tables pass through pyarrow: pip install cellbox[tables]"
        ) from None
    return pyarrow, pyarrow.ipc


def _bytes(folder: int, name: str, limit: int) -> bytes:
    """A regular file of the container's, whole; never a link, a pipe, a device, or too much."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise InvalidArgument(f"the cell did not write {name}") from error
        raise InvalidArgument(
            f"{name} did not come back as a plain file: {error.strerror}"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidArgument(f"{name} did not come back as a plain file")
        _fits(name, facts.st_size, limit)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    _fits(name, len(data), limit)
    return data


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name} did not come back as JSON: {error}") from error


def _table(data: bytes, name: str, entry: Mapping[str, Any]) -> Any:
    arrow, ipc = _pyarrow(name)
    try:
        table = ipc.open_file(arrow.BufferReader(data)).read_all()
        table.validate(full=True)
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise InvalidArgument(f"{name} did not come back as a table: {error}") from error
    if any(isinstance(kind, arrow.BaseExtensionType) for kind in table.schema.types):
        raise InvalidArgument(f"{name} has a column of an extension type, which is not read")
    return _frame(table, name, entry) if entry["kind"] == "pandas" else table


def _frame(table: Any, name: str, entry: Mapping[str, Any]) -> Any:
    if "pandas" not in sys.modules:
        try:
            import pandas  # noqa: F401 - to_pandas needs it
        except ImportError:
            raise NotSupported(f"{name} is a pandas table: pip install cellbox[tables]") from None
    frame = table.to_pandas(ignore_metadata=True)
    index = [column for column in entry.get("index") or () if column in frame.columns]
    if not index:
        return frame
    frame = frame.set_index(index)
    frame.index.names = [None if own.startswith("__index_level_") else own for own in index]
    return frame
