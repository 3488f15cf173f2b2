"""Filling an empty volume with what an image has where the volume is mounted.

::

    VOLUME/_data/              the volume's files, maybe in use by other containers
    VOLUME/.cellbox-filling/   a copy that is not complete: of one who is at it, or was killed
    VOLUME/.cellbox-filled/    a complete copy, on its way into _data entry by entry

Whoever is killed leaves one of the two: the first is thrown away, the second is moved to its end by
the next one who looks. So the volume is never left with a part of the image's files.
"""

from __future__ import annotations

import errno
import os
import stat

from cellbox.errors import InvalidArgument, NotFound
from cellbox.images import cp, tar
from cellbox.images.extract import Extractor, Whiteouts
from cellbox.images.layers import Limits, extract_all
from cellbox.images.pack import Options, Packer
from cellbox.images.trees import walk
from cellbox.linux.trees import remove_tree

FILLING, FILLED = b".cellbox-filling", b".cellbox-filled"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def finish(volume: int, data: int) -> None:
    """Bring to its end what somebody else may have begun. Both are descriptors of directories."""
    remove_tree(FILLING, dir_fd=volume)
    try:
        filled = os.open(FILLED, _DIRECTORY, dir_fd=volume)
    except FileNotFoundError:
        return
    try:
        _move(filled, data)
    finally:
        os.close(filled)
    remove_tree(FILLED, dir_fd=volume)


def fill(root: int, path: bytes, volume: int, data: int) -> bool:
    """Fill ``data``, if it is empty, with what is at ``path`` below ``root``, where that is a
    directory; the directory's own mode and owner too. Whether it was done.

    ``volume`` is where the copy is made: a directory of the same file system, ``data`` itself where
    there is no other."""
    finish(volume, data)
    if os.listdir(data):
        return False
    try:
        source = cp.open_directory(root, path)
    except (NotFound, InvalidArgument):  # nothing is there, or no directory
        return False
    try:
        _copy(source, volume)
    finally:
        os.close(source)
    finish(volume, data)
    return True


def _copy(source: int, volume: int) -> None:
    os.mkdir(FILLING, 0o700, dir_fd=volume)
    target = os.open(FILLING, _DIRECTORY, dir_fd=volume)
    try:
        packer = Packer(source, Options(overlay=False))
        entries = packer.entries(walk(source, one_device=True))
        with Extractor(target, whiteouts=Whiteouts.LITERAL) as extractor:
            extract_all(tar.Stream(entries), extractor, Limits())
        _look_alike(source, target)
    finally:
        os.close(target)
    os.rename(FILLING, FILLED, src_dir_fd=volume, dst_dir_fd=volume)


def _move(filled: int, data: int) -> None:
    """Move every entry; one whose name a container has taken meanwhile stays behind."""
    for name in sorted(os.listdir(filled)):
        if _is_free(data, name):
            os.rename(name, name, src_dir_fd=filled, dst_dir_fd=data)
    _look_alike(filled, data)


def _is_free(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        return False
    except FileNotFoundError:
        return True


def _look_alike(source: int, target: int) -> None:
    facts = os.fstat(source)
    try:
        os.fchown(target, facts.st_uid, facts.st_gid)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EINVAL):  # an id that is not here
            raise
    os.fchmod(target, stat.S_IMODE(facts.st_mode))
    os.utime(target, ns=(facts.st_atime_ns, facts.st_mtime_ns))
