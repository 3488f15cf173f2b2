"""Files between a container and this machine: one at a time, or as ``docker cp`` copies them.

A tar that comes out of a container was written by whoever controls the container: it is unpacked
with the standard library's ``data`` filter (PEP 706), which refuses links and paths that lead
outside.
"""

from __future__ import annotations

import io
import os
import posixpath
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from cellbox.engine import Engine
from cellbox.errors import InvalidArgument, NotFound

_LINKS = 40
"""Symbolic links that are followed one after the other, as the kernel has it."""


def read_file(engine: Engine, ref: str, path: str) -> bytes:
    """What is in the file ``path`` of a container. Raises NotFound, InvalidArgument for what is no
    file."""
    whole = io.BytesIO()
    engine.files.get(ref, _followed(engine, ref, path), whole)
    whole.seek(0)
    with tarfile.open(fileobj=whole) as tar:
        file = tar.extractfile(tar.getmembers()[0])
        if file is None:
            raise InvalidArgument(f"{path} is no file")
        return file.read()


def _followed(engine: Engine, ref: str, path: str) -> str:
    for _ in range(_LINKS):
        found = engine.files.stat(ref, path)
        if stat.S_ISDIR(found.mode):
            raise InvalidArgument(f"{path} is a directory")
        if not stat.S_ISLNK(found.mode):
            return path
        path = posixpath.join(posixpath.dirname(path), found.target)
    raise InvalidArgument(f"{path}: too many symbolic links")


def write_file(
    engine: Engine,
    ref: str,
    path: str,
    data: bytes,
    *,
    mode: int = 0o644,
    owner: tuple[int, int] = (0, 0),
) -> None:
    """Make the file ``path`` of a container, in place of what is there; ``owner`` is the number of
    a user and that of a group. Raises NotFound for its directory, InvalidArgument if it is none."""
    folder, name = posixpath.split(path)
    if not name:
        raise InvalidArgument(f"{path!r} names no file")
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), mode, int(time.time())
    member.uid, member.gid = owner
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        out.addfile(member, io.BytesIO(data))
    tar.seek(0)
    engine.files.put(ref, folder or "/", tar, keep_kinds=True)


def copy_out(engine: Engine, ref: str, path: str, target: str, *, follow: bool = False) -> None:
    """Copy ``path`` of a container to ``target`` here; ``follow`` copies what a link leads to.

    Raises NotFound, InvalidArgument."""
    there = Path(target).expanduser()
    if follow:
        path = engine.files.stat(ref, path).target or path
    if target.endswith("/") and not there.is_dir():
        raise InvalidArgument(f"{target}: no such directory")
    if not there.parent.is_dir():
        raise InvalidArgument(f"{there.parent}: no such directory")
    inside = there.is_dir() and not _contents(path)
    with tempfile.TemporaryFile() as spool:
        name = engine.files.get(ref, path, cast(BinaryIO, spool)).name
        spool.seek(0)
        if inside:
            unpack(cast(BinaryIO, spool), there, lambda member: member)
        elif _contents(path) or there.is_dir():
            there.mkdir(exist_ok=True)
            unpack(cast(BinaryIO, spool), there, lambda member: _below(member, name, "."))
        else:
            unpack(
                cast(BinaryIO, spool), there.parent, lambda member: _below(member, name, there.name)
            )


def _contents(path: str) -> bool:
    return path.endswith("/.") or path == "."


def _below(path: str, first: str, other: str) -> str:
    """``path`` with its first component ``first`` replaced."""
    head, slash, rest = path.removeprefix("./").partition("/")
    return f"{other}{slash}{rest}" if head in (first, ".") or not slash else path


def unpack(source: BinaryIO, directory: Path, rename: Callable[[str], str]) -> None:
    """Unpack a tar of unknown origin below ``directory``; raises InvalidArgument for what leads
    out."""
    top = os.path.realpath(directory)
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            tar.extraction_filter = lambda member, path: member  # 3.11.2 has none, so _claim does
            for member in tar:
                member.name = rename(member.name)
                if member.islnk():
                    member.linkname = rename(member.linkname)
                _claim(member, top)
                tar.extract(member, top)
    except (tarfile.TarError, OSError) as error:
        raise InvalidArgument(f"the container's files were not all copied: {error}") from error


def _claim(member: tarfile.TarInfo, top: str) -> None:
    """Make ``member`` the caller's own; raises TarError for a device, and for what lies or leads
    outside ``top``, which is real."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.ExtractError(f"{member.name} is neither a file, a directory nor a link")
    places = [member.name]
    if member.issym():
        places.append(os.path.join(os.path.dirname(member.name), member.linkname))
    elif member.islnk():
        places.append(member.linkname)
    for place in places:
        real = os.path.realpath(os.path.join(top, place))
        if os.path.commonpath([real, top]) != top:
            raise tarfile.ExtractError(f"{member.name} leads outside of the directory")
    member.uid, member.gid, member.uname, member.gname = os.geteuid(), os.getegid(), "", ""
    member.mode = (member.mode & 0o755) | (0o700 if member.isdir() else 0o600)


def copy_in(
    engine: Engine,
    path: str,
    ref: str,
    target: str,
    *,
    archive: bool = False,
    follow: bool = False,
) -> None:
    """Copy ``path`` of this machine to ``target`` in a container: with ``archive`` with its owners,
    else as root's. Raises NotFound, InvalidArgument."""
    here = Path(path).expanduser()
    if not here.exists() and not here.is_symlink():
        raise InvalidArgument(f"{path}: no such file or directory")
    directory, name = _destination(engine, ref, target, here, _contents(path))
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w", dereference=follow) as tar:
            real = here.resolve() if follow else here
            tar.add(real, arcname=name, filter=None if archive else _as_root)
        spool.seek(0)
        engine.files.put(ref, directory, cast(BinaryIO, spool))


def _destination(
    engine: Engine, ref: str, target: str, here: Path, contents: bool
) -> tuple[str, str]:
    """The directory to unpack into and the name there (docker cp's table of cases)."""
    own_name = "." if contents else here.resolve().name
    engine.containers.get(ref)  # so that below it is the path that is not found
    try:
        found = engine.files.stat(ref, target)
    except NotFound:
        if target.endswith("/") and not here.is_dir():
            raise
        parent, name = os.path.split(target.rstrip("/"))
        return parent or "/", name
    if stat.S_ISDIR(found.mode):
        return target, own_name
    if here.is_dir():
        raise InvalidArgument(f"{target} in {ref} is a file: a directory cannot be copied over it")
    parent, name = os.path.split(target)
    return parent or "/", name


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
