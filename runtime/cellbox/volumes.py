"""The driver of local volumes: each is a directory of the store.

::

    ROOT/volumes/NAME/volume.json    what was asked (``local.records``)
    ROOT/volumes/NAME/_data/         its files
    ROOT/volumes/NAME/disk.img       the file system of one with a ``size``, mounted on _data
    ROOT/volumes/NAME/.cellbox-*/    what is just being moved into _data (``images.populate``)

Options are Docker's: ``type``, ``o`` and ``device`` as mount(8) takes them, and ``size``. With
``o=bind`` the volume is the directory ``device`` itself. All else that is to be mounted is mounted
on ``_data`` when a container that has it starts, in the mount namespace of the launcher, where only
containers of this store see it, and taken away when none runs any more. As an ordinary user that
namespace belongs to a user namespace, in which the kernel mounts little more than a tmpfs.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellbox.errors import EngineError, InvalidArgument, NotFound, NotSupported
from cellbox.linux import syscalls

DATA, DISK = "_data", "disk.img"
HALF = ".cellbox-"
"""How the names of what is being copied into a volume begin (``images.populate``)."""
LEAST_DISK = 1 << 20
"""Bytes that a file system needs for itself, at the very least."""

PROGRAMS = ("mount", "losetup", "mkfs.ext4")
"""What a volume with a size takes."""

_KNOWN = frozenset({"type", "o", "device", "size"})
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}

Work = Callable[[str, Mapping[str, Any], Sequence[int]], dict[str, Any]]
"""Does one job as the root of containers, where those see what it mounts."""


@dataclass(frozen=True)
class Options:
    """What a local volume is made of: a file system ``kind`` on ``device`` with the ``words`` of
    mount(8), or a limit of ``size`` bytes; all empty for a mere directory."""

    kind: str = ""
    device: str = ""
    words: tuple[str, ...] = ()
    size: int = 0

    @property
    def bound(self) -> bool:
        """Is it a directory of the host, under another name?"""
        return "bind" in self.words or "rbind" in self.words

    @property
    def mounted(self) -> bool:
        """Must something be mounted before it can be used?"""
        return bool(self.kind or self.size) and not self.bound

    @property
    def fleeting(self) -> bool:
        """Is what is in it lost when nobody has it mounted?"""
        return self.kind == "tmpfs"


def options(asked: Mapping[str, str]) -> Options:
    """The options of a volume, as ``--opt`` has them. Raises InvalidArgument."""
    unknown = set(asked) - _KNOWN
    if unknown:
        raise InvalidArgument(f'invalid option: "{min(unknown)}"')
    kind, device = asked.get("type", ""), asked.get("device", "")
    for name, value, other in (("device", device, kind), ("type", kind, device)):
        if other and not value:
            raise InvalidArgument(f'missing required option: "{name}"')
    if any("\0" in value for value in asked.values()):
        raise InvalidArgument("an option of a volume holds a NUL byte")
    words = tuple(word for word in asked.get("o", "").split(",") if word)
    found = Options(kind, device, words, _size(asked["size"]) if "size" in asked else 0)
    if words and not kind:
        raise InvalidArgument('missing required option: "type"')
    if kind and found.size:
        raise InvalidArgument(f"size does not belong to a volume of type {kind}: say it in o=")
    if found.bound and not device.startswith("/"):
        raise InvalidArgument(f"the device of a bind must be an absolute path: {device}")
    return found


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * (1 << _UNITS[match[2].lower()])) if match else 0
    if size < LEAST_DISK:
        raise InvalidArgument(f"invalid size: '{text}': write it as 10m, 1g; 1m is the least")
    return size


class LocalDriver:
    """The volumes in ``directory``, as :class:`cellbox.plugins.VolumeDriver` has them; ``asked``
    tells the options of one by its name. Jobs are done by ``work``."""

    def __init__(
        self, directory: Path, work: Work, asked: Callable[[str], Mapping[str, str]]
    ) -> None:
        self._directory = directory
        self._work = work
        self._asked = asked

    def folder(self, name: str) -> Path:
        """Where all of the volume is; its name has been checked."""
        return self._directory / name

    def path(self, name: str) -> str:
        """Where its files are, mounted or not."""
        return f"{self._directory}/{name}/{DATA}"

    def source(self, name: str) -> str:
        """What a container that has it mounts."""
        found = options(self._asked(name))
        return found.device if found.bound else self.path(name)

    def check(self, asked: Mapping[str, str]) -> Options:
        """The options of a volume that is to be made. Raises InvalidArgument, and NotSupported for
        what this machine cannot do."""
        found = options(asked)
        if found.size and (lack := _lacks_disks()):
            raise NotSupported(
                f"a volume with a size is a file system of its own, and {lack}; without a size, or "
                "with type=tmpfs, device=tmpfs and o=size=..., it works"
            )
        return found

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Make its directory. What lies there already is nobody's: it goes."""
        self.check(options)
        self.discard(name)
        Path(self.path(name)).mkdir(mode=0o755, parents=True)
        os.chmod(self.folder(name), 0o700)
        os.chmod(self.path(name), 0o755)

    def discard(self, name: str) -> None:
        """Move its directory out of sight, if there is one."""
        trash = self._directory.parent / "trash"
        trash.mkdir(mode=0o700, exist_ok=True)
        try:
            self.folder(name).rename(trash / secrets.token_hex(8))
        except FileNotFoundError:
            pass

    def remove(self, name: str) -> None:
        """Delete it with all that is in it."""
        if not self.folder(name).exists():
            raise NotFound("volume", name)
        self.unmount(name, "")
        self._work("remove", {"path": str(self.folder(name))}, [])

    def mount(self, name: str, container: str) -> str:
        """Mount what is to be mounted; the path to bind."""
        found = options(self._asked(name))
        if found.bound and not os.path.isdir(found.device):
            raise EngineError(
                f"error while mounting volume '{self.path(name)}': failed to mount local volume: "
                f"{found.device} is no directory"
            )
        if not found.bound:
            Path(self.path(name)).mkdir(mode=0o755, parents=True, exist_ok=True)
        if found.mounted:
            args = {
                "directory": str(self.folder(name)),
                "kind": found.kind,
                "device": found.device,
                "words": found.words,
                "size": found.size,
            }
            self._work("volume-mount", args, [])
        return self.source(name)

    def unmount(self, name: str, container: str) -> None:
        """No container that runs has it any more."""
        if options(self._asked(name)).mounted and self.folder(name).exists():
            self._work("volume-unmount", {"directory": str(self.folder(name))}, [])

    def names(self) -> Sequence[str]:
        """All volumes there are."""
        try:
            return sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []


def unfinished(folder: str) -> bool:
    """Has somebody begun to fill the volume, and is at it still or was killed?"""
    try:
        return any(name.startswith(HALF) for name in os.listdir(folder))
    except FileNotFoundError:
        return False


def _lacks_disks() -> str:
    if os.geteuid() != 0:
        return "only root may mount one from a file"
    import shutil

    missing = [name for name in PROGRAMS if not shutil.which(name, path=_PATH)]
    return f"{' and '.join(missing)} cannot be found (Debian's e2fsprogs, mount)" if missing else ""


# In the launcher's mount namespace --------------------------------------------------------------


def attach(directory: str, kind: str, device: str, words: Sequence[str], size: int) -> None:
    """Mount a volume on its ``_data``, if it is not. For a process in the mount namespace that
    shall see it. Raises EngineError."""
    with _Alone(directory):
        if is_mounted(directory):
            return
        if size:
            kind, device = "ext4", _disk(directory, size)
        data = os.path.join(directory, DATA)
        how = ["-o", ",".join(words)] if words else []
        try:
            _run("mount", "-t", kind, *how, "--", device, data)
        finally:
            if size:
                _run("losetup", "-d", device)  # it goes with the mount
        if size:
            _tidy(data)


def detach(directory: str) -> None:
    """Take away what is mounted there; the mounts of containers that run are their own."""
    with _Alone(directory):
        while is_mounted(directory):
            syscalls.umount(os.path.join(directory, DATA))


def is_mounted(directory: str) -> bool:
    """Is something mounted on the volume's ``_data``?"""
    return os.path.ismount(os.path.join(directory, DATA))


class _Alone:
    """One at a time in this directory."""

    def __init__(self, directory: str) -> None:
        self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> None:
        import fcntl

        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def _disk(directory: str, size: int) -> str:
    """A loop device with the volume's file system, made if it is not there yet."""
    path = os.path.join(directory, DISK)
    if not os.path.exists(path):
        draft = f"{path}.new"
        with open(draft, "wb") as file:
            file.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", draft)
        os.rename(draft, path)
    # Of two loop devices on one file each would believe that it alone writes there.
    return _run("losetup", "--find", "--show", "--nooverlap", path).strip()


def _tidy(data: str) -> None:
    try:
        os.rmdir(os.path.join(data, "lost+found"))
    except OSError:  # it is in use, or was the user's choice
        pass


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def _run(*words: str) -> str:
    import subprocess  # by workers that mount, and nobody else

    environment = {"PATH": _PATH, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise EngineError(f"failed to mount local volume: there is no {words[0]} here") from None
    if done.returncode:
        told = done.stderr.strip().replace("\n", " ") or f"{words[0]} ended with {done.returncode}"
        raise EngineError(f"failed to mount local volume: {told}")
    return done.stdout
