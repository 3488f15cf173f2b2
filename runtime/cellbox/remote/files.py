"""What a container of a remote engine looks like inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from cellbox.errors import EngineError, InvalidArgument, NotFound, WrongState
from cellbox.model.container import FileChange, FileStat, ProcessTable, Stats
from cellbox.remote import paths
from cellbox.remote.own import own, readable
from cellbox.remote.transport import Transport
from cellbox.wire.stats import changes_from, stat_from_header, stats_from, top_from
from cellbox.wire.streams import frame, stamp

_STAT = "X-Docker-Container-Path-Stat"
_FRAMES = {"Content-Type": "application/vnd.docker.multiplexed-stream"}


class RemoteFiles:
    """See :class:`cellbox.engine.Files`."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport

    def processes(self, ref: str, *, ps_args: str = "-ef") -> ProcessTable:
        return top_from(self._ask(ref, "/top", {"ps_args": ps_args}))

    def stats(self, ref: str) -> Stats:
        found = stats_from(self._ask(ref, "/stats", {"stream": False, "one-shot": True}))
        if not found.read:  # what a daemon tells of one that does not run
            raise WrongState(f"Container {ref} is not running")
        return found

    def diff(self, ref: str) -> list[FileChange]:
        return sorted(changes_from(self._ask(ref, "/changes")), key=lambda one: one.path)

    def stat(self, ref: str, path: str) -> FileStat:
        if "\0" in path:
            raise InvalidArgument(f"{path!r} is no path")
        where = paths.container(ref, "/archive")
        try:
            return _stat(self._http.request("HEAD", where, {"path": path}).headers)
        except NotFound:  # an answer to HEAD has no words
            self._ask(ref, "/json")
            raise NotFound("path in the container", path) from None

    def get(self, ref: str, path: str, out: BinaryIO) -> FileStat:
        with self._http.download(paths.container(ref, "/archive"), {"path": path}) as archive:
            archive.write_to(out)
            return _stat(archive.headers)

    def put(self, ref: str, path: str, source: BinaryIO, *, keep_kinds: bool = False) -> None:
        where = paths.container(ref, "/archive")
        query = {"path": path, "noOverwriteDirNonDir": keep_kinds}
        self._http.request("PUT", where, query, body=source)

    def export(self, ref: str, out: BinaryIO) -> None:
        with self._http.download(paths.container(ref, "/export")) as archive:
            archive.write_to(out)

    def size(self, ref: str) -> tuple[int, int]:
        found = self._ask(ref, "/json", {"size": True})
        return int(found.get("SizeRw") or 0), int(found.get("SizeRootFs") or 0)

    def clear_logs(self, ref: str) -> None:
        with own("clear logs"):
            self._http.request("DELETE", paths.container(ref, "/logs"))

    def append_logs(self, ref: str, entries: Iterable[tuple[float, str, bytes]]) -> None:
        frames = (frame(name, stamp(when) + data) for when, name, data in entries)
        with own("write logs"):
            path = paths.container(ref, "/logs")
            self._http.request("POST", path, body=readable(frames), headers=_FRAMES)

    def get_layer(self, ref: str, out: BinaryIO) -> None:
        with own("tell what a container has written"):
            with self._http.download(paths.container(ref, "/layer")) as archive:
                archive.write_to(out)

    def put_layer(self, ref: str, source: BinaryIO) -> None:
        with own("fill a container"):
            self._http.request("PUT", paths.container(ref, "/layer"), body=source)

    def _ask(self, ref: str, what: str, query: Mapping[str, Any] | None = None) -> Any:
        return self._http.json("GET", paths.container(ref, what), query)


def _stat(headers: Mapping[str, str]) -> FileStat:
    if _STAT not in headers:
        raise EngineError("the engine did not tell what it was asked about")
    return stat_from_header(headers[_STAT])
