"""Where the programs are that speak Docker's plugin protocol.

A folder holds, for a plugin NAME, one of::

    NAME.sock   the socket itself
    NAME.spec   its address: unix:///PATH, tcp://HOST:PORT, http(s)://HOST:PORT
    NAME.json   {"Name", "Addr", "TLSConfig"}, the last with InsecureSkipVerify, CAFile, CertFile,
                KeyFile

or a folder NAME with that in it. The first folder that has a name wins, and in one the first of the
three.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cellbox.errors import CellboxError, InvalidArgument
from cellbox.wire.fields import Fields

DOCKER = ("/run/docker/plugins", "/etc/docker/plugins", "/usr/lib/docker/plugins")
"""Docker's own folders."""

PATH = "CELLBOX_PLUGIN_PATH"
"""The variable that names further folders, with colons between; they are looked at first."""

_ENDINGS = (".sock", ".spec", ".json")
_LARGEST = 1 << 16
_SCHEMES = frozenset({"unix", "tcp", "http", "https"})


@dataclass(frozen=True)
class Tls:
    """Paths of PEM files, empty where there are none."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


@dataclass(frozen=True)
class Place:
    """One program: ``address`` as in a .spec file, ``source`` the file that told it. What one that
    the engine itself runs calls ``/x`` is ``ROOT/x`` for us, for each of its ``roots``
    (prefix, ROOT), the first that fits."""

    name: str
    address: str
    source: str
    tls: Tls | None = None
    roots: tuple[tuple[str, str], ...] = ()

    def path(self, told: str) -> str:
        """A path that the program tells, as this machine sees it."""
        for prefix, root in self.roots:
            if told == prefix or told.startswith(f"{prefix.rstrip('/')}/"):
                return f"{root}/{told.removeprefix(prefix).lstrip('/')}".rstrip("/")
        return told


def folders(own: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where to look, in order: the user's, the store's ``own``, Docker's."""
    asked = [Path(part) for part in environ.get(PATH, "").split(":") if part.startswith("/")]
    return (*asked, own, *map(Path, DOCKER))


def named(name: str, among: Sequence[Path]) -> Place | None:
    """The plugin of this name. Raises InvalidArgument for a file that cannot be understood."""
    for found, path in _files(among):
        if found == name:
            return read(name, path)
    return None


def all_places(among: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Name and file of every plugin, each name once."""
    seen: set[str] = set()
    for name, path in _files(among):
        if name not in seen:
            seen.add(name)
            yield name, path


def read(name: str, path: Path) -> Place:
    """What a file tells of the plugin ``name``. Raises InvalidArgument."""
    if path.suffix == ".sock":
        return Place(name, f"unix://{path}", str(path))
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST).decode()
        place = _described(name, path, text) if path.suffix == ".json" else None
    except (OSError, ValueError, CellboxError) as error:
        raise InvalidArgument(f"{path} describes no plugin: {error}") from error
    return _checked(place or Place(name, text.strip(), str(path)))


def _described(name: str, path: Path, text: str) -> Place:
    told = Fields(json.loads(text), "Plugin")
    tls = told.inner("TLSConfig", "Options")
    files = Tls(
        ca=tls.text("CAFile"),
        cert=tls.text("CertFile"),
        key=tls.text("KeyFile"),
        verify=not tls.flag("InsecureSkipVerify"),
    )
    return Place(name, told.text("Addr"), str(path), files if told.given("TLSConfig") else None)


def _checked(place: Place) -> Place:
    parts = urlsplit(place.address)
    good = parts.path.startswith("/") if parts.scheme == "unix" else bool(parts.hostname)
    if parts.scheme not in _SCHEMES or not good:
        raise InvalidArgument(
            f"{place.source} describes no plugin: {place.address!r} is no address such as "
            "unix:///run/NAME.sock or tcp://HOST:PORT"
        )
    return place


def _files(among: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    for folder in among:
        for ending in _ENDINGS:
            for path in (*_listed(folder, ending), *_nested(folder, ending)):
                if _is_one(path):
                    yield path.stem, path


def _listed(folder: Path, ending: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ending)
    except OSError:
        return []


def _nested(folder: Path, ending: str) -> list[Path]:
    try:
        return sorted(path / f"{path.name}{ending}" for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _is_one(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) if path.suffix == ".sock" else stat.S_ISREG(mode)
